# SPDX-License-Identifier: GPL-2.0-or-later
"""A finished kernel: what it is and where its files are, as kept in ``STORE/kernels/KEY/kernel.json``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.store import Store, write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Kernel:
    """One kernel in the store.

    ``image`` is what the guest boots; ``vmlinux`` has the debug info (None when a ready image came without), ``config`` and
    ``system_map`` likewise.  ``release`` is the kernel's own word (include/config/kernel.release); ``source`` the SPEC,
    ``identity`` and ``revision`` as in harness.source.Source; ``patches`` are (file name, SHA-256) in order; ``fragments``
    the config fragments' names; ``seconds`` the time that building took; ``cached`` whether it was there already; ``modules``
    are names of files in ``directory``/modules that a guest has to load first, in this order.
    """

    key: str
    directory: Path
    target: str
    image: Path
    vmlinux: Path | None
    config: Path | None
    system_map: Path | None
    release: str
    compiler: str
    linker: str
    source: str
    identity: str
    revision: str
    patches: tuple[tuple[str, str], ...]
    fragments: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float
    cached: bool
    modules: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """One line for tables."""
        patches = "".join(f" + {name}" for name, _ in self.patches)
        return f"{self.target} {self.release} {self.source}{patches}"

    @property
    def log(self) -> Path:
        """The build log; not there for a ready image."""
        return self.directory / "build.log"

    def facts(self) -> dict[str, Any]:
        """All fields as plain data, paths as names in the kernel's directory."""
        data = dataclasses.asdict(self)
        for name in ("directory", "cached"):
            del data[name]
        if not self.modules:
            del data["modules"]
        for name in ("image", "vmlinux", "config", "system_map"):
            data[name] = data[name].name if data[name] else None
        return {"format": FORMAT, "label": self.label} | data

    def save(self, directory: Path) -> None:
        """Write kernel.json, the last file of a finished kernel, into ``directory``."""
        write_atomically(directory / "kernel.json", json.dumps(self.facts(), indent=1, ensure_ascii=True) + "\n")


def ready(
    place: Path,
    files: Collection[str],
    *,
    target: str,
    release: str,
    compiler: str,
    source: str,
    identity: str,
    modules: tuple[str, ...] = (),
) -> Kernel:
    """A kernel that was built elsewhere; of vmlinux, config and System.map it has what ``files`` names."""

    def kept(name: str) -> Path | None:
        return place / name if name in files else None

    return Kernel(
        key=place.name,
        directory=place,
        target=target,
        image=place / "image",
        vmlinux=kept("vmlinux"),
        config=kept("config"),
        system_map=kept("System.map"),
        release=release,
        compiler=compiler,
        linker="",
        source=source,
        identity=identity,
        revision="",
        patches=(),
        fragments=(),
        warnings=(),
        seconds=0.0,
        cached=False,
        modules=modules,
    )


def directory_of(store: Store, key: str) -> Path:
    """Where the kernel of this key is, once it is built."""
    return store.root / "kernels" / key


def load(directory: Path) -> Kernel | None:
    """A finished kernel, or None where there is none."""
    try:
        data = json.loads((directory / "kernel.json").read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            return None
        del data["label"]
        for name in ("image", "vmlinux", "config", "system_map"):
            data[name] = directory / data[name] if data[name] else None
        data["patches"] = tuple((str(name), str(digest)) for name, digest in data["patches"])
        for name in ("fragments", "warnings", "modules"):
            data[name] = tuple(data.get(name, ()))
        kernel = Kernel(directory=directory, cached=True, **data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kernel if kernel.image.is_file() else None

# SPDX-License-Identifier: GPL-2.0-or-later
"""A ready image (``image:PATH``) as a kernel in the store: copied, so that it stays what was judged."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

from harness import interruption
from harness.errors import HostError, UsageError
from harness.kernel import kernel
from harness.kernel.kernel import Kernel
from harness.source import Source
from harness.source.banner import read_banner
from harness.store import Store
from harness.targets import Target

log = logging.getLogger("harness.kernel")


def _beside(image: Path, release: str, *names: str) -> Path | None:
    """A file beside the image, or at the top of the build directory that the image lies in (arch/*/boot)."""
    places = [image.parent]
    if image.parent.name == "boot" and image.parents[2].name == "arch":
        places.append(image.parents[3])
    for place in places:
        for name in names:
            for path in (place / name, *([place / f"{name}-{release}"] if release else [])):
                if path.is_file() and path != image:
                    return path
    return None


def _is_elf(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(4) == b"\x7fELF"


def wrap(source: Source, target: Target, store: Store) -> Kernel:
    """Put the image, and config, System.map and vmlinux where they lie beside it, into the store."""
    banner = read_banner(source.root)
    near = {
        "vmlinux": source.root if _is_elf(source.root) else _beside(source.root, banner.release, "vmlinux"),
        "config": _beside(source.root, banner.release, "config", ".config"),
        "System.map": _beside(source.root, banner.release, "System.map"),
    }
    sizes = [(name, str(path), path.stat().st_size, path.stat().st_mtime_ns) for name, path in near.items() if path]
    key = hashlib.sha256(repr((source.identity, target.name, sizes)).encode()).hexdigest()[:32]
    place = kernel.directory_of(store, key)
    store.pin(place)
    with interruption.lock(store, f"kernel-{key}"):
        found = kernel.load(place)
        if not found:
            found = _copy(source, target, store, place, near)
        store.touch(place)
    return found


def _copy(source: Source, target: Target, store: Store, place: Path, near: dict[str, Path | None]) -> Kernel:
    shutil.rmtree(place, ignore_errors=True)
    banner = read_banner(source.root)
    with store.making(place) as fresh:
        try:
            shutil.copyfile(source.root, fresh / "image")
            for name, path in near.items():
                if path == source.root:
                    (fresh / name).hardlink_to(fresh / "image")
                elif path:
                    shutil.copyfile(path, fresh / name)
        except OSError as e:
            raise HostError(f"cannot copy {source.root} into the store: {e.strerror}") from e
        with (fresh / "image").open("rb") as f:
            if hashlib.file_digest(f, "sha256").hexdigest() != source.identity:
                raise UsageError(f"{source.root} changed while it was being copied; run again")
        made = kernel.ready(
            place,
            [name for name, path in near.items() if path],
            target=target.name,
            release=banner.release,
            compiler=banner.compiler,
            source=str(source.spec),
            identity=source.identity,
        )
        made.save(fresh)
    return made

# SPDX-License-Identifier: GPL-2.0-or-later
"""The target table: one row of data per architecture, read from TOML."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

BUILTIN = Path(__file__).with_name("targets.toml")

MMUS = ("", "x86", "arm64", "radix")

# A name becomes a directory's, and a word of a comma separated list.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Target:
    """One row; the keys are explained at the head of targets.toml."""

    name: str
    kernel_arch: str
    machine_arch: str
    byteorder: str
    page_size: int
    cross: str
    fragments: tuple[str, ...]
    make_target: str
    image: str
    qemu: str
    machine: str
    cpu_tcg: str
    cpu_kvm: str
    firmware: str
    smp: int
    memory_mib: Mapping[int, int]
    console: str
    append: str
    nmi: bool
    sysrq: str
    journal: str
    boot_seconds: float
    mmu: str = ""
    direct_map: int = 0

    @property
    def memory(self) -> int:
        """Guest memory in MiB at this row's page size."""
        return self.memory_mib[self.page_size]


def _row(name: str, data: object, path: Path) -> Target:
    if not _NAME.fullmatch(name) or name == "all":
        raise UsageError(f"{path}: {name!r:.80} cannot be a target's name; take letters, digits, '_', '.' and '-' (not \"all\")")
    where = f"{path}: [{name}]"
    if not isinstance(data, dict):
        raise UsageError(f"{where} is not a table; write one [NAME] section per target")
    row: dict[str, typing.Any] = dict(data)
    fields = {f.name: f.type for f in dataclasses.fields(Target)}
    fields.pop("name")
    optional = {f.name for f in dataclasses.fields(Target) if f.default is not dataclasses.MISSING}
    for key in row.keys() - fields.keys():
        raise UsageError(f"{where}.{key} is not a key of a target; the keys are explained in {BUILTIN}")
    for key in sorted(fields.keys() - row.keys() - optional):
        raise UsageError(f"{where}.{key} is missing; the keys are explained in {BUILTIN}")
    kinds: dict[str, type] = {"str": str, "int": int, "bool": bool, "float": float}
    for key, kind in fields.items():
        want = kinds.get(str(kind))
        if key not in row:
            continue
        value = row[key]
        if want is float and type(value) is int:
            row[key] = value = float(value)
        if want is not None and type(value) is not want:
            raise UsageError(f"{where}.{key} must be of type {kind}, not {type(value).__name__}")
    if not isinstance(row["fragments"], list) or not all(isinstance(f, str) for f in row["fragments"]):
        raise UsageError(f"{where}.fragments must be a list of strings")
    row["fragments"] = tuple(row["fragments"])
    memory = row["memory_mib"]
    if not isinstance(memory, dict) or not all(k.isdigit() and type(v) is int for k, v in memory.items()):
        raise UsageError(f"{where}.memory_mib must map page sizes to MiB, as in {{ 4096 = 512 }}")
    row["memory_mib"] = {int(k): v for k, v in memory.items()}
    if row["page_size"] not in row["memory_mib"]:
        raise UsageError(f"{where}.memory_mib has no entry for the page size {row['page_size']}")
    if row["sysrq"] not in ("break", "ctrl-o"):
        raise UsageError(f'{where}.sysrq must be "break" or "ctrl-o", not "{row["sysrq"]}"')
    if row["journal"] != "virtio-serial":
        raise UsageError(f'{where}.journal must be "virtio-serial", not "{row["journal"]}"')
    if row.get("mmu", "") not in MMUS:
        raise UsageError(f'{where}.mmu must be one of {", ".join(MMUS[1:])}, not "{row["mmu"]}"')
    return Target(name=name, **row)


def load(path: Path = BUILTIN) -> dict[str, Target]:
    """Read a target table.  UsageError names the file and the key that is wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"cannot read the target table {path}: {e}") from e
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path}: {e}") from e
    return {name: _row(name, row, path) for name, row in data.items()}


def table(extra: Path | None = None) -> dict[str, Target]:
    """The built-in targets and those of a user's file, which may replace rows."""
    rows = load()
    if extra is not None:
        rows |= load(extra)
    return rows

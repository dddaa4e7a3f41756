# SPDX-License-Identifier: GPL-2.0-or-later
"""The target table: one row of data per architecture, read from TOML."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import tomlfile
from harness.errors import UsageError, meant

BUILTIN = Path(__file__).with_name("targets.toml")

ALL, EVERY = "all", "every"
"""Words that stand for rows without a group, and for all rows."""

MMUS = ("", "x86", "arm64", "radix")
LIBCS = ("", "musl")
VIRTIO_SERIAL = "virtio-serial"
"""The journal's usual transport; the others are serial lines, by the kernel's name."""

# A name becomes a directory's, and a word of a comma separated list.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LINE = re.compile(r"tty[A-Z]{1,4}[0-9]{1,2}")


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
    group: str = ""
    libc: str = ""
    tcg_thread: str = ""

    @property
    def memory(self) -> int:
        """Guest memory in MiB at this row's page size."""
        return self.memory_mib[self.page_size]


def _check_names(data: Mapping[str, object], path: Path) -> None:
    for name in data:
        if not _NAME.fullmatch(name) or name in (ALL, EVERY):
            chars = "letters, digits, '_', '.' and '-'"
            raise UsageError(f'{path}: {name!r:.80} cannot be a target\'s name; take {chars} (not "{ALL}" or "{EVERY}")')
        if not isinstance(data[name], dict):
            raise UsageError(f"{path}: [{name}] is not a table; write one [NAME] section per target")


Rows = Mapping[str, Mapping[str, typing.Any]]


def _whole(name: str, rows: Rows, builtin: Rows, path: Path, on_the_way: tuple[str, ...] = ()) -> dict[str, typing.Any]:
    """The row with the keys of the one that it is like: of its own file, or one of ``builtin``, which are whole."""
    row = dict(rows[name])
    like = row.pop("like", None)
    if like is None:
        return row
    where, on_the_way = f"{path}: [{name}].like", (*on_the_way, name)
    if isinstance(like, str) and like in rows and like != name:
        if like in on_the_way:
            raise UsageError(f"{where}: {' is like '.join([*on_the_way, like])}, which never ends")
        other = _whole(like, rows, builtin, path, on_the_way)
    elif isinstance(like, str) and like in builtin:
        other = dict(builtin[like])
    else:
        raise UsageError(f"{where}: there is no row {like!r:.80}; there are {', '.join({**builtin, **rows})}")
    other.pop("group", None)  # which says of a row what it is for, not what it is
    return {**other, **row}


def _check_keys(row: Mapping[str, object], where: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(Target) if f.name != "name"}
    for key in row.keys() - fields.keys():
        raise UsageError(f"{where}.{key} is not a key of a target; the keys are explained in {BUILTIN}")
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    for key in sorted(needed - row.keys()):
        raise UsageError(f"{where}.{key} is missing; the keys are explained in {BUILTIN}")


def _typed(row: Mapping[str, typing.Any], where: str) -> dict[str, typing.Any]:
    """The values, each of the type of its field.  UsageError for one that is not."""
    kinds: dict[str, type] = {"str": str, "int": int, "bool": bool, "float": float}
    typed = dict(row)
    for field in dataclasses.fields(Target):
        want, value = kinds.get(str(field.type)), row.get(field.name)
        if value is None or want is None:
            continue
        if want is float and type(value) is int:
            typed[field.name] = float(value)
        elif type(value) is not want:
            raise UsageError(f"{where}.{field.name} must be of type {field.type}, not {type(value).__name__}")
    if not isinstance(row["fragments"], list) or not all(isinstance(f, str) for f in row["fragments"]):
        raise UsageError(f"{where}.fragments must be a list of strings")
    memory = row["memory_mib"]
    if not isinstance(memory, dict) or not all(k.isdigit() and type(v) is int for k, v in memory.items()):
        raise UsageError(f"{where}.memory_mib must map page sizes to MiB, as in {{ 4096 = 512 }}")
    return {**typed, "fragments": tuple(row["fragments"]), "memory_mib": {int(k): v for k, v in memory.items()}}


def _check_values(target: Target, where: str) -> None:
    if target.page_size not in target.memory_mib:
        raise UsageError(f"{where}.memory_mib has no entry for the page size {target.page_size}")
    if target.sysrq not in ("break", "ctrl-o"):
        raise UsageError(f'{where}.sysrq must be "break" or "ctrl-o", not "{target.sysrq}"')
    if target.journal != VIRTIO_SERIAL and not _LINE.fullmatch(target.journal):
        raise UsageError(f'{where}.journal must be "{VIRTIO_SERIAL}" or a serial line such as "ttyS1", not "{target.journal}"')
    if target.libc not in LIBCS:
        raise UsageError(f'{where}.libc must be "" or one of {", ".join(LIBCS[1:])}, not "{target.libc}"')
    if target.group and (not _NAME.fullmatch(target.group) or target.group in (ALL, EVERY)):
        raise UsageError(f'{where}.group: {target.group!r:.80} cannot be a group\'s name; "" is that of --target {ALL}')
    if target.tcg_thread not in ("", "single", "multi"):
        raise UsageError(f'{where}.tcg_thread must be "", "single" or "multi", not "{target.tcg_thread}"')
    if target.mmu not in MMUS:
        raise UsageError(f'{where}.mmu must be one of {", ".join(MMUS[1:])}, not "{target.mmu}"')


def _row(name: str, row: Mapping[str, typing.Any], path: Path) -> Target:
    where = f"{path}: [{name}]"
    _check_keys(row, where)
    target = Target(name=name, **_typed(row, where))
    _check_values(target, where)
    return target


def _read(path: Path, builtin: Rows) -> dict[str, dict[str, typing.Any]]:
    data = tomlfile.read(path, "the target table")
    _check_names(data, path)
    return {name: _whole(name, data, builtin, path) for name in data}


def load(path: Path = BUILTIN) -> dict[str, Target]:
    """Read a target table.  UsageError names the file and the key that is wrong."""
    builtin = {} if path == BUILTIN else _read(BUILTIN, {})
    return {name: _row(name, row, path) for name, row in _read(path, builtin).items()}


def table(extra: Path | None = None) -> dict[str, Target]:
    """The built-in targets and those of a user's file, which may replace rows."""
    rows = load()
    if extra is not None:
        rows |= load(extra)
    if both := sorted({target.group for target in rows.values()} & rows.keys()):
        raise UsageError(f"{extra}: {both[0]} is a target's name and a group's; rename one")
    return rows


def choose(names: Iterable[str], rows: Mapping[str, Target]) -> tuple[Target, ...]:
    """The rows of these targets and groups, each once.

    "all" are those without a group, "every" all there are.  UsageError for a name that is none.
    """
    groups: dict[str, list[Target]] = {ALL: [], EVERY: list(rows.values())}
    for target in rows.values():
        groups.setdefault(target.group or ALL, []).append(target)
    wanted: list[Target] = []
    for name in names:
        if name not in groups and name not in rows:
            known = f"there are {', '.join(rows)}; and {', '.join(groups)}"
            raise UsageError(f"there is no target {name!r}{meant(name, [*rows, *groups])}; {known}")
        wanted += [rows[name]] if name in rows else groups[name]
    return tuple({target.name: target for target in wanted}.values())

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel does on purpose otherwise than others, as somebody has declared and somebody reviewed it.

A file of TOML, handed in with ``--semantics FILE``; each table is a field of harness.oracle.Semantics:

    [has_swpin_copy]
    value = false
    reason = "the event is counted by another name here"
    reviewed-by = "A Maintainer <maintainer@example.org>"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import tomlfile
from harness.errors import UsageError

Fields = Mapping[str, tuple[bool | str, ...]]
"""What can be declared, and the values that it may have."""

_KEYS = ("value", "reason", "reviewed-by")


@dataclass(frozen=True)
class Declared:
    """One difference."""

    field: str
    value: bool | str
    reason: str
    reviewed_by: str

    def __str__(self) -> str:
        return f"{self.field} = {toml(self.value)}: {self.reason} (reviewed by {self.reviewed_by})"


def toml(value: bool | str) -> str:
    """A value as the file has it."""
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def values(declared: Sequence[Declared]) -> dict[str, bool | str]:
    """The fields alone."""
    return {d.field: d.value for d in declared}


def load(path: Path, fields: Fields) -> tuple[Declared, ...]:
    """Read a file.  UsageError names it and what is wrong in it."""
    data = tomlfile.read(path, "the declared differences")
    if not data:
        raise UsageError(f"{path}: nothing is declared; a table such as [{next(iter(fields))}] is wanted")
    return from_data(data, str(path), fields)


def from_data(data: object, where: str, fields: Fields) -> tuple[Declared, ...]:
    """The same from tables."""
    if not isinstance(data, dict):
        raise UsageError(f"{where}: tables by the names of fields are wanted here, not {type(data).__name__}")
    return tuple(_declared(str(name), table, f"{where}: [{name}]", fields) for name, table in data.items())


def _declared(name: str, table: object, where: str, fields: Fields) -> Declared:
    if name not in fields:
        raise UsageError(f"{where}: no field of Semantics has this name; there are {', '.join(fields)}")
    if not isinstance(table, dict):
        raise UsageError(f"{where}: a table with {', '.join(_KEYS)} is wanted here, not {table!r:.40}")
    for key in table.keys() - set(_KEYS):
        raise UsageError(f"{where}: there is no key {key!r}; there are {', '.join(_KEYS)}")
    value = table.get("value")
    if not any(type(value) is type(may) and value == may for may in fields[name]):
        may = " or ".join(toml(v) for v in fields[name])
        raise UsageError(f"{where}: value is {may}, not {value!r:.40}")
    texts = []
    for key, what in (("reason", "why"), ("reviewed-by", "who has looked at it")):
        text = table.get(key, "")
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"{where}: {key} is missing: a text that says {what}")
        texts.append(" ".join(text.split()))
    assert isinstance(value, bool | str)
    return Declared(name, value, texts[0], texts[1])

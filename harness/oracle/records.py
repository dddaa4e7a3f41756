# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's records, read with distrust: what is not as docs/journal.md says is a contradiction, never a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


class JournalContradiction(ValueError):
    """A record that is malformed, or that cannot follow the ones before it; the message says which and why."""


class Fields:
    """A JSON object with the types that its reader expects; ``where`` names it in messages ("reclaim record 41")."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    def fail(self, why: str) -> JournalContradiction:
        """The exception to raise: this object, and why."""
        return JournalContradiction(f"{self.where}: {why}")

    def _get(self, key: str) -> Any:
        if key not in self.data:
            raise self.fail(f"no {key!r}")
        return self.data[key]

    def text(self, key: str) -> str:
        """A string."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self.fail(f"{key!r} is no string but {value!r}")
        return value

    def number(self, key: str, low: int | None = None) -> int:
        """A whole number, not below ``low``."""
        return self.whole(self._get(key), key, low)

    def whole(self, value: object, what: str, low: int | None = None) -> int:
        """``value`` itself, if it is a whole number, not below ``low``."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(f"{what!r} is no whole number but {value!r}")
        if low is not None and value < low:
            raise self.fail(f"{what!r} is {value}, below {low}")
        return value

    def flag(self, key: str) -> bool:
        """true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.fail(f"{key!r} is neither true nor false but {value!r}")
        return value

    def items(self, key: str) -> Sequence[Any]:
        """A list."""
        value = self._get(key)
        if not isinstance(value, list):
            raise self.fail(f"{key!r} is no list but {value!r}")
        return value

    def record(self, key: str) -> Mapping[str, Any]:
        """A JSON object."""
        return self.mapping(self._get(key), key)

    def mapping(self, value: object, what: str) -> Mapping[str, Any]:
        """``value`` itself, if it is an object."""
        if not isinstance(value, Mapping):
            raise self.fail(f"{what!r} is no object but {value!r}")
        return value


def decimal(text: object) -> int | None:
    """A number as a kernel file has it ("256"); None if it is none."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if not isinstance(text, str) or len(text) > 30:
        return None
    try:
        return int(text.strip(), 10)
    except ValueError:
        return None

# SPDX-License-Identifier: GPL-2.0-or-later
"""How a cell's kernel behaves where kernels differ: who says so, and oracles that go by it.

What the kernel's files show is the least of it.  The workload ``calibrate`` measures what they do not; a source tells it without
a guest; and what somebody has declared stands over all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from harness.declared import Declared, values
from harness.drawing import Drawing
from harness.findings import Finding
from harness.graph import Graph
from harness.journal.reader import Record
from harness.oracle import Oracle, calibration
from harness.oracle.semantics import LEARNT, UNSHOWN, semantics_of
from harness.store import write_atomically
from harness.verdict.replay import Stepper

NAME = "semantics.json"

Seen = Mapping[str, tuple[bool, str]]
"""What a source tells: a field's value, and where that stands."""


def keep(directory: Path, seen: Seen) -> None:
    """Leave what the source tells beside a cell's other evidence.  OSError when the disk is full."""
    told = {field: {"value": value, "place": place} for field, (value, place) in seen.items()}
    write_atomically(directory / NAME, json.dumps({"source": told}, indent=1) + "\n")


def _kept(directory: Path) -> Seen:
    """What was left there; nothing where there is no such file, or it is damaged."""
    try:
        told = json.loads((directory / NAME).read_text(encoding="utf-8"))["source"]
        seen = {str(k): (v["value"], str(v["place"])) for k, v in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    known = {*UNSHOWN, *LEARNT}
    return {field: (value, place) for field, (value, place) in seen.items() if field in known and isinstance(value, bool)}


class _Calibration:
    """Steps through the workload that is there to be measured by.  It has no findings."""

    def __init__(self) -> None:
        self.control_failed = ""
        self.notes: list[str] = []
        self.remarks: list[str] = []
        self.drawings: list[Drawing] = []
        self.records: list[Mapping[str, Any]] = []

    def step(self, record: Record, /) -> list[Finding]:
        """Remember what is measured by."""
        if record["kind"] in ("ret", "obs"):
            self.records.append(record)
        return []

    def look(self, number: int, graph: Graph, /) -> list[Finding]:
        """Nothing is compared."""
        return []

    def follow(self, before: object, /) -> None:
        """Nothing has been told before."""


class Knowledge:
    """Makes the oracles of one cell, in the order of boots and workloads: what is measured serves all after it."""

    def __init__(self, seen: Seen | None = None, declared: Sequence[Declared] = ()) -> None:
        self._seen = seen or {}
        self._declared = tuple(declared)
        self._calibration: _Calibration | None = None
        self._hello: Record = {}

    @classmethod
    def of(cls, directory: Path, declared: Sequence[Declared] = ()) -> Self:
        """Of a cell's directory."""
        return cls(_kept(directory), declared)

    def __call__(self, hello: Record, begin: Record) -> Stepper:
        """Who steps through a workload's segment."""
        self._hello = hello
        if begin.get("workload") == calibration.WORKLOAD:
            self._calibration = _Calibration()
            return self._calibration
        told = {field: value for field, (value, _) in self._seen.items()}
        return Oracle(hello, begin, semantics_of(hello, self._measured(), told, values(self._declared)))

    def _measured(self) -> dict[str, bool]:
        return calibration.measured(self._calibration.records) if self._calibration is not None else {}

    def facts(self) -> dict[str, str]:
        """For the report: what is known and whence, after all has been replayed."""
        facts = {"declared": "; ".join(map(str, self._declared))} if self._declared else {}
        if self._hello:
            facts["semantics"] = "; ".join(self._lines())
        return facts

    def _lines(self) -> Iterable[str]:
        by_files, measured = semantics_of(self._hello), self._measured()
        for field in (*UNSHOWN, *(f for f in LEARNT if f in self._seen)):
            guess = getattr(by_files, field)
            if field in self._seen:
                value, whence = self._seen[field]
            elif field in measured:
                value = measured[field]
                whence = "measured" if value == guess else "measured, though kernels with its files do otherwise"
            else:
                value, whence = guess, "by what came with it: neither its source nor a measurement tells"
            yield f"{field} {'yes' if value else 'no'} ({whence})"

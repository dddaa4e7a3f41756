# SPDX-License-Identifier: GPL-2.0-or-later
"""An oracle that says what it is told to say, and the cells that it is asked about."""

from __future__ import annotations

from harness.drawing import Drawing
from harness.findings import Finding, Tier
from harness.graph import Graph
from harness.guest.record import Outcome
from harness.journal.reader import Record
from harness.oracle import JournalContradiction
from tests.unit.story import Journal, new_fork

PLANNED = {"new_fork": ("P1",), "many_forks": ("P2",)}


class Scripted:
    """An oracle that says what it is told to say."""

    def __init__(self, finding_at: str = "", contradiction_at: int = -1, control: str = "") -> None:
        self.finding_at, self.contradiction_at, self.control = finding_at, contradiction_at, control
        self.control_failed = ""
        self.remarks: list[str] = []
        self.drawings: list[Drawing] = []
        self.notes: list[str] = []
        self.begin: Record = {}

    def __call__(self, hello: Record, begin: Record) -> Scripted:
        fresh = Scripted(self.finding_at, self.contradiction_at, self.control)
        fresh.begin = begin
        return fresh

    def step(self, record: Record, /) -> list[Finding]:
        if record["seq"] == self.contradiction_at:
            raise JournalContradiction("a page of nobody")
        if record["kind"] == "obs" and record["label"] == self.finding_at:
            self.control_failed = self.control
            return [
                Finding("P1", "still-mapped", "reclaim", Tier.SAFETY, self.begin["workload"], record["seq"], "s", "e", "s", "w")
            ]
        return []

    def follow(self, before: object, /) -> None:
        pass

    def look(self, number: int, graph: Graph, /) -> list[Finding]:
        return []


def journal(*names: str) -> Journal:
    j = Journal()
    j.hello()
    for i, name in enumerate(names):
        j.reset(name)
        new_fork(j, name, PLANNED.get(name, ("P1",)))
        if i + 1 == len(names):
            j.reset("")
    return j


def both(boot: int = 1) -> list[tuple[str, Outcome, int, str]]:
    return [("new_fork", Outcome.ENDED, boot, ""), ("many_forks", Outcome.ENDED, boot, "")]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Problems over all cells: what has one cause is shown once, with the places where it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.findings import Finding, Tier
from harness.results import CellResult, RunResult, Verdict, WorkloadResult


@dataclass(frozen=True)
class Place:
    """Where a problem shows; ``number`` is the finding's in its workload, from 1, or 0."""

    cell: str
    workload: str
    number: int = 0


@dataclass(frozen=True)
class Problem:
    """One signature and all its places.  ``finding`` is the first of its findings; None for what has no finding."""

    signature: str
    verdict: Verdict
    summary: str
    places: tuple[Place, ...]
    finding: Finding | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells it shows in, each once."""
        return tuple(dict.fromkeys(p.cell for p in self.places))

    @property
    def workloads(self) -> tuple[str, ...]:
        """The workloads it shows in, each once."""
        return tuple(dict.fromkeys(p.workload for p in self.places))

    @property
    def spots(self) -> tuple[Place, ...]:
        """The first place in each workload of each cell."""
        first: dict[tuple[str, str], Place] = {}
        for place in self.places:
            first.setdefault((place.cell, place.workload), place)
        return tuple(first.values())

    @property
    def follows(self) -> bool:
        """May be a mere consequence of another problem."""
        return self.finding is not None and self.finding.follows

    def scope(self) -> str:
        """How far it reaches, in words."""
        return f"{count(len(self.cells), 'cell')}, {count(len(self.workloads), 'workload')}"


def count(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


_RANK = {v: i for i, v in enumerate((Verdict.CRASH, Verdict.HANG, Verdict.FAIL))}
_TIERS = {tier: i for i, tier in enumerate(Tier)}


def problems(run: RunResult) -> tuple[Problem, ...]:
    """All problems, what weighs most first: crashes, hangs, findings by tier, then what could not be judged."""
    found: dict[tuple[str, Verdict, bool], Problem] = {}
    for cell in run.cells:
        for workload in cell.workloads:
            for p in _of_workload(cell, workload):
                key = (p.signature, p.verdict, p.follows)
                old = found.get(key)
                found[key] = p if old is None else Problem(
                    old.signature, old.verdict, old.summary, old.places + p.places, old.finding
                )  # fmt: skip
    return tuple(sorted(found.values(), key=_weight))


def _weight(problem: Problem) -> tuple[int, bool, int, int]:
    tier = _TIERS[problem.finding.tier] if problem.finding else 0
    return _RANK.get(problem.verdict, len(_RANK)), problem.follows, tier, -len(problem.spots)


def _of_workload(cell: CellResult, workload: WorkloadResult) -> Iterator[Problem]:
    # A finding in an inconsistent journal is listed with it, not counted against the kernel.
    counted = Verdict.FAIL if workload.verdict.bad else workload.verdict
    for number, finding in enumerate(workload.findings, start=1):
        place = Place(cell.cell, workload.workload, number)
        yield Problem(finding.signature, counted, finding.summary, (place,), finding)
    verdict = workload.verdict
    if verdict in (Verdict.PASS, Verdict.SKIP, Verdict.FAIL):
        return
    crashes = [] if verdict is Verdict.LOST else workload.crashes  # LOST says what it makes of a report
    summary = next((c.title for c in crashes if c.fatal), workload.reason) or "no reason given"
    yield Problem(f"{verdict}:{_shape(summary)}", verdict, summary, (Place(cell.cell, workload.workload),))


def _shape(text: str) -> str:
    """A reason without what differs from guest to guest: numbers, addresses, what was in progress."""
    text = text.split(", during ")[0]
    text = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,16}\b|\d+", "#", text)
    return text[:120]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run was to show, and whether it was judged: properties that are required, and what an older run had come to.

A demand that is not met says nothing against the kernel.  It says that the kernel was not judged as was asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.expectation import Expected
from harness.report.properties import by_property
from harness.results import CellResult, RunResult, Verdict, WorkloadResult


@dataclass(frozen=True)
class Shortfall:
    """A demand that was not met; ``workload`` is empty if it is of no single one, ``prop`` if it is of all it shows."""

    cell: str
    workload: str
    prop: str
    text: str

    def __str__(self) -> str:
        return f"{'/'.join(part for part in (self.cell, self.workload, self.prop) if part)}: {self.text}"


def unmet(run: RunResult) -> tuple[Shortfall, ...]:
    """All demands that were not met, cell by cell.

    What is bad, or could not be judged for another reason, is told as that, and is no shortfall of an expectation.
    """
    return tuple(s for cell in run.cells for s in (*_required(run, cell), *_expected(run, cell)))


def _required(run: RunResult, cell: CellResult) -> Iterator[Shortfall]:
    for prop in run.require:
        shown = [(w, p) for w in cell.workloads for p in by_property(w) if p.prop == prop and p.listed]
        if any(p.verdict is Verdict.PASS or p.verdict.bad for _, p in shown):
            continue
        why = "no workload that ran shows it"
        if shown:
            why = "; ".join(f"{w.workload}: {p.verdict}, {p.reason or 'no reason given'}" for w, p in shown)
        yield Shortfall(cell.cell, "", prop, f"is required and was not judged ({why})")


def _expected(run: RunResult, cell: CellResult) -> Iterator[Shortfall]:
    if run.expect is None:
        return
    if cell.cell not in run.expect:
        yield Shortfall(cell.cell, "", "", "nothing is recorded of this cell, so that nothing can be expected of it")
        return
    for workload in cell.tests:
        expected = run.expect[cell.cell].get(workload.workload)
        if workload.verdict is Verdict.SKIP:
            if text := _new_skip(workload, expected):
                yield Shortfall(cell.cell, workload.workload, "", text)
        elif workload.verdict is Verdict.PASS and expected is not None:
            for prop in expected.properties:
                if prop not in workload.properties:
                    yield Shortfall(cell.cell, workload.workload, prop, "was shown before, and is not any more")


def _new_skip(workload: WorkloadResult, expected: Expected | None) -> str:
    """What is wrong with a skip; empty if it is expected."""
    now = workload.reason or "no reason given"
    if expected is None:
        return f"is skipped, which nothing that is recorded says: {now}"
    if expected.skip is None:
        return f"was judged before, and is skipped: {now}"
    return "" if expected.skip == workload.reason else f"is skipped for another reason than before: {now}"


def gains(run: RunResult) -> tuple[str, ...]:
    """What was judged though it is recorded as skipped, or not at all: worth recording again."""
    texts = []
    for cell in run.cells:
        before = (run.expect or {}).get(cell.cell)
        for workload in cell.tests if before is not None else ():
            if workload.verdict is Verdict.PASS and before is not None:
                expected = before.get(workload.workload)
                if expected is None or expected.skip is not None:
                    how = "and nothing is recorded of it" if expected is None else "and is recorded as skipped"
                    texts.append(f"{cell.cell}/{workload.workload}: passes, {how}")
    return tuple(texts)

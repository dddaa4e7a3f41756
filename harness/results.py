# SPDX-License-Identifier: GPL-2.0-or-later
"""The outcome of a run as plain data: run, cells, workloads.  What reports read, what run.json holds."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.declared import Declared
from harness.drawing import Drawing
from harness.errors import ExitCode
from harness.expectation import Expectation
from harness.findings import Finding


class Verdict(enum.StrEnum):
    """What became of one workload in one cell."""

    PASS = "PASS"
    FAIL = "FAIL"  # the oracle has findings
    CRASH = "CRASH"  # oops, BUG, KASAN, panic after the guest was up
    HANG = "HANG"  # no progress, and the evidence shows the kernel at fault
    BUILD = "BUILD"  # patch, config or compile
    BOOT = "BOOT"  # no token from init
    LOST = "LOST"  # the journal ended early or is inconsistent in itself
    INFRA = "INFRA"  # QEMU killed, disk full, reclaim did not run at all
    SKIP = "SKIP"  # this kernel or target cannot show it

    @property
    def bad(self) -> bool:
        """The kernel was judged, and it is bad."""
        return self in (Verdict.FAIL, Verdict.CRASH, Verdict.HANG)

    @property
    def judged(self) -> bool:
        """The kernel was judged, or honestly has nothing to be judged."""
        return self.bad or self in (Verdict.PASS, Verdict.SKIP)


@dataclass(frozen=True)
class CrashReport:
    """An oops, BUG, WARNING or panic cut out of a console log."""

    kind: str  # "oops", "bug", "warning", "panic", "kasan", "kcsan", "lockdep", "rcu-stall", "soft-lockup", "hung-task", "taint"
    title: str  # its first telling line
    text: str  # all of it
    line: int  # where in the console log, from 1
    fatal: bool  # makes a CRASH (an RCU stall, soft lockup, hung task or data race alone does not)


@dataclass(frozen=True)
class WorkloadResult:
    """One workload in one cell."""

    workload: str
    properties: tuple[str, ...]
    verdict: Verdict
    reason: str = ""  # for all but PASS: one line
    findings: tuple[Finding, ...] = ()
    crashes: tuple[CrashReport, ...] = ()
    operation: str = ""  # in progress when it crashed or hung, "reclaim (seq 41)"
    prop: str = ""  # property in progress then
    seconds: float = 0.0  # guest time from begin to end
    boot: int = 1  # number of the boot it ran in, from 1
    remarks: tuple[str, ...] = ()  # what the kernel does not do, or does otherwise than most, without being wrong
    complete: bool = True  # its journal came to its end
    drawings: tuple[Drawing, ...] = ()  # what a second witness saw when something was found

    @property
    def is_test(self) -> bool:
        """Whether the verdict is one on the kernel.

        One that shows no property (``calibrate``) measures how the kernel behaves: that it came to its end is no test that
        has passed.  If it did not, that counts as any other does.
        """
        return bool(self.properties) or self.verdict not in (Verdict.PASS, Verdict.SKIP)

    @property
    def word(self) -> str:
        """What tables have for it."""
        return self.verdict.value if self.is_test else "measured"


@dataclass(frozen=True)
class CellResult:
    """One target: its kernel, guest and workloads.  Paths are relative to the run's directory."""

    cell: str  # id, also the name of its directory under cells/
    target: str
    workloads: tuple[WorkloadResult, ...]
    facts: dict[str, str] = field(default_factory=dict)  # release, tree, patches, compiler, qemu, accel, page_size, …
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)  # seconds of each stage: source, kernel, image, guest, judge

    @property
    def tests(self) -> tuple[WorkloadResult, ...]:
        """The workloads that count."""
        return tuple(w for w in self.workloads if w.is_test)


@dataclass(frozen=True)
class RunResult:
    """A whole run."""

    cells: tuple[CellResult, ...]
    kernel: str  # the SPEC as given, and the names of patches
    command: tuple[str, ...] = ()
    started: str = ""  # ISO 8601, UTC
    finished: str = ""  # empty while it runs
    version: str = ""
    only: str = ""  # the one signature that was asked for, or a pattern of it; empty: any failure counts
    require: tuple[str, ...] = ()  # properties that must be judged in every cell
    expect: Expectation | None = None  # what it is held against
    declared: tuple[Declared, ...] = ()  # what the kernel does otherwise on purpose

    def exit_code(self) -> ExitCode:
        """One bad workload makes the run bad; else one that is not judged makes it 125; whatever was asked for."""
        verdicts = [w.verdict for c in self.cells for w in c.tests]
        if any(v.bad for v in verdicts):
            return ExitCode.BAD
        if not verdicts or any(not v.judged for v in verdicts) or all(v is Verdict.SKIP for v in verdicts):
            return ExitCode.CANNOT_JUDGE
        return ExitCode.GOOD

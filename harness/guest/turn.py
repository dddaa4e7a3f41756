# SPDX-License-Identifier: GPL-2.0-or-later
"""One workload's turn in a boot: what its records tell about where it stands, and how it ends."""

from __future__ import annotations

from harness.guest.plan import Load
from harness.guest.record import Outcome, Stop, WorkloadRecord
from harness.journal.reader import Record

_OUTCOMES = {Stop.CRASH: Outcome.CRASHED, Stop.HANG: Outcome.HUNG, Stop.INFRA: Outcome.INFRA}


class Ended(Exception):
    """The boot is over: not an error, but a way out of everything that waits for the guest."""

    def __init__(self, stop: Stop, reason: str) -> None:
        super().__init__(reason)
        self.stop = stop
        self.reason = reason[:1000]


class Dirty(Exception):
    """A reset record says that the guest is not as it should be before a workload."""

    def __init__(self, reset: Record, taint: object) -> None:
        self.tainted = reset.get("taint") != taint
        said = str(reset.get("why") or "no reason given")[:500]
        self.why = f"the kernel's taint went from {taint} to {reset.get('taint')}" if self.tainted else f"reset failed: {said}"
        super().__init__(self.why)


class Turn:
    """Keeps a :class:`WorkloadRecord` up to date."""

    def __init__(self, load: Load, workload: WorkloadRecord, boot: int, now: float) -> None:
        self.load = load
        self.workload = workload
        self._since = now
        self._open: object = None  # seq of the op record without its ret
        self._begin = 0
        workload.boot = boot
        # What a harness that is killed now leaves behind.
        workload.outcome, workload.reason = Outcome.LOST, "the harness ended before the workload did"

    def take(self, record: Record, segment: int) -> None:
        """A record of the workload's own segment."""
        workload, kind = self.workload, record["kind"]
        at = record.get("t")
        at = at if isinstance(at, int) else 0
        if kind == "begin":
            workload.segment, self._begin = segment, at
        elif kind == "op":
            self._open = record.get("seq")
            workload.operation = f"{str(record.get('op'))[:80]} (seq {self._open})"
        elif kind == "ret" and record.get("of") == self._open:
            workload.operation = ""
        workload.prop = str(record.get("p", ""))[:80]
        workload.guest_seconds = round(max(0, at - self._begin) / 1000, 3)

    def done(self, now: float) -> None:
        """It came to its end."""
        self.workload.outcome, self.workload.reason = Outcome.ENDED, ""
        self.workload.operation = self.workload.prop = ""
        self.workload.seconds = round(now - self._since, 3)

    def cut(self, end: Ended, now: float) -> None:
        """The boot ended under it."""
        self.workload.outcome = _OUTCOMES.get(end.stop, Outcome.LOST)
        self.workload.reason = end.reason
        self.workload.seconds = round(now - self._since, 3)


def blame(dirt: Dirty, before: WorkloadRecord | None, workload: WorkloadRecord, boot: int) -> Ended:
    """Whose dirt it is: that of the workload before, else the boot's own, and then this workload cannot run."""
    if before is None:
        workload.outcome, workload.boot = Outcome.INFRA, boot
        workload.reason = f"right after boot: {dirt.why}"
    else:
        workload.outcome, workload.boot, workload.reason = Outcome.NOTRUN, 0, ""
        before.reason = f"after it: {dirt.why}"
        if dirt.tainted:
            before.outcome = Outcome.CRASHED
    return Ended(Stop.DIRTY, f"before {workload.workload}: {dirt.why}")

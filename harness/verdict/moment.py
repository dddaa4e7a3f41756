# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest was doing when its kernel complained: the time of a console line, among the times of the journal's records.

The kernel stamps its lines by another clock (local_clock()) than the guest its records (CLOCK_BOOTTIME).  They may stand
seconds apart, and from then on go alike: under TCG less than 10 ms in 100 s were seen.  So init has its kernel stamp a line at
hello and at each reset, and tells both times (``clock``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.journal.reader import Record

_STAMP = re.compile(r"^(?:<\d+>)?\[ *(\d+)\.(\d{6})\]", re.MULTILINE)

RECORD = 1.0  # records tell whole milliseconds
DRIFT = 2e-4  # of the time since the clocks were compared


@dataclass
class Operation:
    """What was done from one record to another, in milliseconds of the records' clock; ``end`` None: it did not end."""

    start: float
    name: str  # "fork (seq 3)"
    prop: str
    end: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The records' clock and the kernel's: between ``boot`` and ``boot`` + ``width`` the kernel's was ``kernel``."""

    boot: float
    width: float
    kernel: float


@dataclass(frozen=True)
class Moment:
    """What was in progress.  ``prop`` is "" where it may have been one of several."""

    operation: str
    prop: str


@dataclass
class Timeline:
    """One boot's operations, in their order, and when its clocks were compared."""

    operations: list[Operation] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    _last: float = 0.0

    def note(self, record: Record) -> None:
        """A record of the boot segment or of a workload, in the order of the journal."""
        kind, now = record["kind"], record.get("t")
        if type(now) is not int:
            return
        prop = str(record.get("p", ""))
        if kind in ("op", "anchor", "reset") and self.operations and self.operations[-1].end is None:
            self.operations[-1].end = now  # its workload ended with it
        if kind == "op":
            self.operations.append(Operation(now, f"{record.get('op')} (seq {record.get('seq')})", prop))
        elif kind == "ret" and self.operations:
            self.operations[-1].end = now
        elif kind == "anchor":  # a process of init's own registers with ksmd: that is P14's matter, whoever does it
            self.operations.append(Operation(self._last, "init's own MADV_MERGEABLE", "P14", now))
        elif kind == "reset":  # as a run=2 that is refused there, or leaves something
            self.operations.append(Operation(self._last, "the reset of KSM (run=2)", "P18", now))
        if (clock := _clock(record.get("clock"))) is not None:
            self.comparisons.append(clock)
        self._last = now

    def at(self, text: str) -> Moment | None:
        """What was in progress when the kernel began to print ``text``; None where that cannot be told."""
        stamp = _STAMP.search(text)
        if stamp is None or not self.comparisons:
            return None
        kernel = int(stamp[1]) * 1e3 + int(stamp[2]) / 1e3
        near = min(self.comparisons, key=lambda c: abs(c.kernel - kernel))
        slack = near.width + DRIFT * abs(kernel - near.kernel)
        earliest = near.boot + kernel - near.kernel - slack
        return _among(self.operations, earliest - RECORD, earliest + near.width + 2 * slack)


def _among(operations: Sequence[Operation], earliest: float, latest: float) -> Moment | None:
    """Of what may have been in progress at some time between the two; ``earliest`` is for records' own times."""
    hit = [o for o in operations if o.start <= latest and (o.end is None or o.end >= earliest)]
    if not hit:  # the workload's own steps between two operations: what is shown, but nothing that was asked for
        before = [o for o in operations if o.start <= latest][-1:]
        after = [o for o in operations if o.start > latest][:1]
        hit = before + after
        if len(hit) < 2:
            return None
        return _between(hit)
    return Moment(hit[0].name, hit[0].prop) if len(hit) == 1 else _between(hit)


def _between(several: Sequence[Operation]) -> Moment:
    props = {o.prop for o in several}
    return Moment(f"between {several[0].name} and {several[-1].name}", props.pop() if len(props) == 1 else "")


def _clock(value: object) -> Comparison | None:
    if not isinstance(value, list) or len(value) != 3 or not all(type(v) is int and v >= 0 for v in value):
        return None
    before, after, kernel = (v / 1000 for v in value)
    return Comparison(before, max(0.0, after - before), kernel)

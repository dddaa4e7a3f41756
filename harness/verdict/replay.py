# SPDX-License-Identifier: GPL-2.0-or-later
"""One boot's journal through the oracle, and a second witness's looks in their places: what each workload amounts to.

The same for a journal that grows as for one that is whole.  Journals of tens of MB pass in pieces; of each record only what
the counts of its segment need is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from harness.drawing import Drawing
from harness.findings import Finding
from harness.graph import Graph
from harness.journal.reader import Reader, Record, Segment
from harness.looks import Look
from harness.oracle import JournalContradiction, Oracle
from harness.verdict.account import Account, Replay, note_boot, note_record, open_account
from harness.verdict.judging import reset_findings

log = logging.getLogger("harness.verdict")

CHUNK = 1 << 16
MAX_FINDINGS = 500  # of one workload; a guest that keeps producing them says nothing new


class Stepper(Protocol):
    """What an oracle looks like from here."""

    control_failed: str
    notes: list[str]
    remarks: list[str]
    drawings: list[Drawing]

    def step(self, record: Record, /) -> list[Finding]:
        """The differences that this record shows."""

    def look(self, number: int, graph: Graph, /) -> list[Finding]:
        """Those that a look right after the record of this number shows."""

    def follow(self, before: object, /) -> None:
        """The workload before in the same boot was that oracle's: what it has told of the kernel's memory is told."""


MakeOracle = Callable[[Record, Record], Stepper]


def chunks(path: Path) -> Iterator[bytes]:
    """A file in pieces; nothing if it is not there."""
    try:
        with path.open("rb") as f:
            while piece := f.read(CHUNK):
                yield piece
    except OSError as e:
        log.debug("cannot read %s: %s", path, e.strerror)


class Looks(Protocol):
    """Where a boot's looks come from: harness.looks.Reader."""

    fault: str

    def read(self) -> Iterator[Look]:
        """Those that are there and have not been read yet, in the journal's order."""


def replay(pieces: Iterable[bytes], make: MakeOracle = Oracle, looks: Looks | None = None) -> Replay:
    """A whole journal, and the looks that were taken meanwhile.  Never raises for what is in them."""
    replayer = Replayer(make, looks)
    for piece in pieces:
        replayer.feed(piece)
    return replayer.finish()


class Replayer:
    """One boot's journal, in pieces as they come: an oracle of its own is stepped through each segment.

    Nothing that is in the journal raises.  What it amounts to depends on the bytes only, not on how they were cut or on when
    they came.  ``looks`` may grow too: that after a record must be there before the next record is fed.
    """

    def __init__(self, make: MakeOracle = Oracle, looks: Looks | None = None) -> None:
        self._make = make
        self._looks = looks
        self._stream: Iterator[Look] = iter(())
        self._next: Look | None = None
        self._at = -1, -1  # segment and number of the newest record of a workload
        self._reader = Reader()
        self._result = Replay()
        self._oracle: Stepper | None = None

    def feed(self, piece: bytes) -> list[tuple[Account, Finding]]:
        """The findings that the piece adds, each with the account of its workload as it was then or a few records later."""
        found: list[tuple[Account, Finding]] = []
        for record in self._reader.feed(piece):
            found += self.look()
            self._result.timeline.note(record)
            if record.get("boot") is True:
                note_boot(self._result, record)
                found += self._of_reset(record)
                if len(self._reader.boot) > 1:
                    self._reader.boot[-1] = {"kind": record["kind"]}
            else:
                found += self._of_workload(record)
                _forget(self._reader.segments[-1])
        return found

    def look(self) -> list[tuple[Account, Finding]]:
        """The findings that the looks add which are there and whose records have been fed."""
        found: list[tuple[Account, Finding]] = []
        while (look := self._peek()) is not None and (look.segment, look.seq) <= self._at:
            self._next = None
            if (look.segment, look.seq) == self._at:
                account = self._result.accounts[-1]
                told = len(account.findings)
                _look(self._oracle, look, account)
                found += [(account, finding) for finding in account.findings[told:]]
        return found

    def _peek(self) -> Look | None:
        """The next look, if it is there."""
        if self._next is None and self._looks is not None:
            self._next = next(self._stream, None)
            if self._next is None:  # there may be more by now
                self._stream = self._looks.read()
                self._next = next(self._stream, None)
        return self._next

    def _of_reset(self, record: Record) -> list[tuple[Account, Finding]]:
        accounts = self._result.accounts
        if record["kind"] != "reset" or not accounts:
            return []
        return [(accounts[-1], finding) for finding in reset_findings(accounts[-1])]

    def _of_workload(self, record: Record) -> list[tuple[Account, Finding]]:
        number = record.get("seq")
        self._at = len(self._reader.segments) - 1, number if type(number) is int else -1
        if record["kind"] == "begin":
            account = open_account(record)
            self._result.accounts.append(account)
            before, self._oracle = self._oracle, _make(self._make, self._result.hello, record, account)
            if before is not None and self._oracle is not None:
                self._oracle.follow(before)
            return []
        account = self._result.accounts[-1]
        told = len(account.findings)
        note_record(account, record)
        self._oracle = _step(self._oracle, record, account)
        return [(account, finding) for finding in account.findings[told:]]

    def finish(self) -> Replay:
        """The whole boot; nothing more may be fed."""
        self.look()
        for account, segment in zip(self._result.accounts, self._reader.segments, strict=True):
            if not account.problem:
                died = f": the workload died of signal {account.signal}" if account.signal and not segment.ended else ""
                account.problem = f"{segment.problem()}{died}"
            # A segment that merely stops is whole as far as it goes; any other problem makes all of it doubtful.
            account.broken = account.broken or bool(segment.fault) or (segment.ended and bool(account.problem))
            for note in account.notes:
                log.info("%s: %s", account.workload, note)
        self._result.fault = self._reader.fault
        self._result.blind = self._looks.fault if self._looks is not None else ""
        return self._result


def _forget(segment: Segment) -> None:
    """Keep of the newest record what Segment.problem() counts; observations are what makes a journal large."""
    record = segment.records[-1]
    if record["kind"] not in ("begin", "end"):
        segment.records[-1] = {"kind": record["kind"]}


def _make(make: MakeOracle, hello: Record | None, begin: Record, account: Account) -> Stepper | None:
    try:
        oracle = make(hello or {}, begin)
    except Exception as e:  # the journal is the guest's: whatever it makes the model do, the cell goes on
        _contradicts(account, begin, e)
        return None
    account.notes, account.remarks, account.drawings = oracle.notes, oracle.remarks, oracle.drawings  # which grow
    return oracle


def _step(oracle: Stepper | None, record: Record, account: Account) -> Stepper | None:
    """One step; None from the first record on that cannot be followed."""
    if oracle is None:
        return None
    try:
        found = oracle.step(record)
    except Exception as e:  # as in _make
        _contradicts(account, record, e)
        return None
    account.findings.extend(found[: MAX_FINDINGS - len(account.findings)])
    account.control_failed = oracle.control_failed
    return oracle


def _look(oracle: Stepper | None, look: Look, account: Account) -> None:
    """What a look adds; one that cannot be compared is told, and the journal goes on without it."""
    if oracle is None:
        return
    try:
        found = oracle.look(look.seq, look.graph)
    except Exception as e:  # as in _make: it is the guest's memory
        log.debug("the oracle stopped at the look after record %d of %s", look.seq, account.workload, exc_info=e)
        account.notes.append(f"the look after record {look.seq} cannot be compared: {type(e).__name__}: {e}")
        return
    account.findings.extend(found[: MAX_FINDINGS - len(account.findings)])


def _contradicts(account: Account, record: Record, error: Exception) -> None:
    seq = record.get("seq")
    if isinstance(error, JournalContradiction):
        account.problem = f"the journal contradicts itself at record {seq}: {error}"
    else:
        log.debug("the oracle stopped at record %s of %s", seq, account.workload, exc_info=error)
        account.problem = f"the oracle cannot follow record {seq}: {type(error).__name__}: {error}"
    account.broken = True

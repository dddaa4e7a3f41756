# SPDX-License-Identifier: GPL-2.0-or-later
"""One boot's journal through the oracle: what each workload's segment amounts to.

Journals of tens of MB pass in pieces; of each record only what the counts of its segment need is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.findings import Finding
from harness.journal.reader import Reader, Record, Segment
from harness.oracle import JournalContradiction, Oracle

log = logging.getLogger("harness.verdict")

CHUNK = 1 << 16
MAX_FINDINGS = 500  # of one workload; a guest that keeps producing them says nothing new


class Stepper(Protocol):
    """What an oracle looks like from here."""

    control_failed: str
    notes: list[str]

    def step(self, record: Record, /) -> list[Finding]:
        """The differences that this record shows."""


MakeOracle = Callable[[Record, Record], Stepper]


@dataclass(frozen=True)
class Reset:
    """The reset of KSM and the memcg that follows a workload, checked by the guest."""

    ok: bool
    why: str = ""
    seq: int = 0
    ksm: tuple[tuple[str, str], ...] = ()  # counters that are not zero though run=2 was written
    taint: int | None = None


@dataclass
class Account:
    """What a journal says of one workload."""

    workload: str
    properties: tuple[str, ...] = ()
    problem: str = ""  # why the segment is not a complete, consistent account
    broken: bool = False  # inconsistent in itself, or with the model's rules: none of it is to be believed
    findings: list[Finding] = field(default_factory=list)
    control_failed: str = ""
    skip: str = ""
    error: str = ""
    stuck: str = ""
    stuck_state: str = ""  # letter of /proc/PID/stat
    unstable: str = ""  # label of the first observation whose readings never agreed
    deadlines: list[int] = field(default_factory=list)  # ret records of reclaims that ran out of time
    notes: list[str] = field(default_factory=list)  # what was not judged and why, as the oracle tells it
    signal: int = 0  # that its process died of
    op: str = ""
    seq: int | None = None
    prop: str = ""
    started: int = 0  # guest's clock, milliseconds
    last: int = 0
    reset: Reset | None = None

    @property
    def operation(self) -> str:
        """The operation in progress at the end of the journal, ``reclaim (seq 41)``; empty if none was."""
        return f"{self.op} (seq {self.seq})" if self.op else ""

    @property
    def seconds(self) -> float:
        """Guest time from the first record to the last."""
        return max(0, self.last - self.started) / 1000


@dataclass
class Replay:
    """A whole boot: its hello record and what its workloads amount to, in their order."""

    hello: Record | None = None
    first_reset: Reset | None = None  # the one before any workload
    accounts: list[Account] = field(default_factory=list)
    fault: str = ""


def chunks(path: Path) -> Iterator[bytes]:
    """A file in pieces; nothing if it is not there."""
    try:
        with path.open("rb") as f:
            while piece := f.read(CHUNK):
                yield piece
    except OSError as e:
        log.debug("cannot read %s: %s", path, e.strerror)


def replay(pieces: Iterable[bytes], make: MakeOracle = Oracle) -> Replay:
    """Step an oracle of its own through each segment.  Never raises for what is in the journal."""
    reader = Reader()
    result = Replay()
    oracle: Stepper | None = None
    for piece in pieces:
        for record in reader.feed(piece):
            if record.get("boot") is True:
                _boot_record(result, record)
                if len(reader.boot) > 1:
                    reader.boot[-1] = {"kind": record["kind"]}
                continue
            if record["kind"] == "begin":
                account = _begin(record)
                result.accounts.append(account)
                oracle = _make(make, result.hello, record, account)
            else:
                _note(result.accounts[-1], record)
                oracle = _step(oracle, record, result.accounts[-1])
            _forget(reader.segments[-1])
    for account, segment in zip(result.accounts, reader.segments, strict=True):
        if not account.problem:
            died = f": the workload died of signal {account.signal}" if account.signal and not segment.ended else ""
            account.problem = f"{segment.problem()}{died}"
        # A segment that merely stops is whole as far as it goes; any other problem makes all of it doubtful.
        account.broken = account.broken or bool(segment.fault) or (segment.ended and bool(account.problem))
        for note in account.notes:
            log.info("%s: %s", account.workload, note)
    result.fault = reader.fault
    return result


def _forget(segment: Segment) -> None:
    """Keep of the newest record what Segment.problem() counts; observations are what makes a journal large."""
    record = segment.records[-1]
    if record["kind"] not in ("begin", "end"):
        segment.records[-1] = {"kind": record["kind"]}


def _boot_record(result: Replay, record: Record) -> None:
    if record["kind"] == "hello":
        result.hello = record
    elif record["kind"] == "reset":
        reset = _reset(record)
        if result.accounts:
            result.accounts[-1].reset = reset
        else:
            result.first_reset = reset
    elif record["kind"] == "done" and result.accounts and result.accounts[-1].workload == record.get("workload"):
        result.accounts[-1].signal = _whole(record.get("signal"))


_ZERO_AFTER_UNMERGE = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")


def _reset(record: Record) -> Reset:
    files = record.get("ksm")
    ksm = files if isinstance(files, dict) else {}
    left = tuple((name, str(ksm[name])) for name in _ZERO_AFTER_UNMERGE if str(ksm.get(name, "0")) != "0")
    taint = record.get("taint")
    return Reset(
        ok=record.get("ok") is True,
        why=str(record.get("why", "")),
        seq=_whole(record.get("seq")),
        ksm=left,
        taint=taint if type(taint) is int else None,
    )


def _begin(record: Record) -> Account:
    listed = record.get("properties")
    now = _whole(record.get("t"))
    return Account(
        workload=str(record.get("workload", "")),
        properties=tuple(p for p in listed if isinstance(p, str)) if isinstance(listed, list) else (),
        started=now,
        last=now,
    )


def _note(account: Account, record: Record) -> None:
    """What the record says beside the model: where the workload is, and why it stops."""
    account.last = _whole(record.get("t")) or account.last
    account.prop = str(record.get("p", ""))
    kind = record["kind"]
    if kind == "op":
        account.op, account.seq = str(record.get("op", "")), _whole(record.get("seq"))
    elif kind == "ret":
        if record.get("why") == "deadline" and record.get("control") == "gone":
            account.deadlines.append(_whole(record.get("seq")))
        account.op, account.seq = "", None
    elif kind == "obs" and record.get("stable") is False:
        account.unstable = account.unstable or str(record.get("label") or "without a label")
    elif kind == "skip":
        account.skip = str(record.get("reason", "")) or "no reason given"
    elif kind == "error":
        account.error = ": ".join(str(record[k]) for k in ("what", "errno", "text") if record.get(k)) or "no reason given"
    elif kind == "stuck":
        account.stuck_state = str(record.get("state", ""))
        account.stuck = _stuck(record)
    elif kind == "end":
        account.op, account.seq, account.prop = "", None, ""


def _stuck(record: Record) -> str:
    where = f" in {record['wchan']}" if record.get("wchan") not in (None, "", "0") else ""
    return f"{record.get('actor', '?')} (pid {record.get('pid', '?')}) did not answer, state {record.get('state', '?')}{where}"


def _make(make: MakeOracle, hello: Record | None, begin: Record, account: Account) -> Stepper | None:
    try:
        oracle = make(hello or {}, begin)
    except Exception as e:  # the journal is the guest's: whatever it makes the model do, the cell goes on
        _contradicts(account, begin, e)
        return None
    account.notes = oracle.notes  # which grows
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


def _contradicts(account: Account, record: Record, error: Exception) -> None:
    seq = record.get("seq")
    if isinstance(error, JournalContradiction):
        account.problem = f"the journal contradicts itself at record {seq}: {error}"
    else:
        log.debug("the oracle stopped at record %s of %s", seq, account.workload, exc_info=error)
        account.problem = f"the oracle cannot follow record {seq}: {type(error).__name__}: {error}"
    account.broken = True


def _whole(value: object) -> int:
    return value if type(value) is int else 0

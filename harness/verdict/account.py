# SPDX-License-Identifier: GPL-2.0-or-later
"""What a journal's records say beside the model: where each workload stands, why it stops, and whether that is whole."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.drawing import Drawing
from harness.findings import Finding
from harness.journal.reader import Record
from harness.oracle.records import decimal
from harness.verdict.moment import Timeline


@dataclass(frozen=True)
class Reset:
    """The reset of KSM and the memcg that follows a workload, or comes before the first one, checked by the guest."""

    ok: bool
    why: str = ""
    seq: int = 0
    ksm: tuple[tuple[str, str], ...] = ()  # counters that are not zero though run=2 was written
    taint: int | None = None
    refused: str = ""  # the error that writing run=2 failed with
    anon_kb: int | None = None  # counted as mapped in the whole guest (AnonPages of meminfo)
    huge_kb: int = 0  # of these in huge pages (AnonHugePages)
    page_size: int = 0


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
    remarks: list[str] = field(default_factory=list)  # what is remarkable and no error
    drawings: list[Drawing] = field(default_factory=list)  # of looks at which something was found
    signal: int = 0  # that its process died of
    op: str = ""
    seq: int | None = None
    prop: str = ""
    started: int = 0  # guest's clock, milliseconds
    last: int = 0
    reset: Reset | None = None
    reset_before: Reset | None = None  # in the same boot

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
    anchor: str = ""  # the error that MADV_MERGEABLE failed with in init's own process
    first_reset: Reset | None = None  # the one before any workload
    accounts: list[Account] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    fault: str = ""
    blind: str = ""  # why the second witness's looks end early


def note_boot(result: Replay, record: Record) -> None:
    """What a record of the boot segment says of the boot, or of the workload before it."""
    if record["kind"] == "hello":
        result.hello = record
    elif record["kind"] == "anchor":
        result.anchor = str(record.get("errno", ""))
    elif record["kind"] == "reset":
        reset = _reset(record, _whole((result.hello or {}).get("page_size")))
        if result.accounts:
            before = result.accounts[-2].reset if len(result.accounts) > 1 else result.first_reset
            result.accounts[-1].reset, result.accounts[-1].reset_before = reset, before
        else:
            result.first_reset = reset
    elif record["kind"] == "done" and result.accounts and result.accounts[-1].workload == record.get("workload"):
        result.accounts[-1].signal = _whole(record.get("signal"))


_ZERO_AFTER_UNMERGE = (
    "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "stable_node_chains", "stable_node_dups",
)  # fmt: skip


def _reset(record: Record, page_size: int) -> Reset:
    told = record.get("left")  # journals that were written before there was that have only what was read later
    files = told if isinstance(told, dict) else record.get("ksm")
    ksm = files if isinstance(files, dict) else {}
    names = (*_ZERO_AFTER_UNMERGE, "full_scans") if isinstance(told, dict) else _ZERO_AFTER_UNMERGE
    left = tuple((name, str(ksm[name])) for name in names if str(ksm.get(name, "0")) != "0")
    taint = record.get("taint")
    meminfo = record.get("meminfo")
    return Reset(
        ok=record.get("ok") is True,
        why=str(record.get("why", "")),
        seq=_whole(record.get("seq")),
        ksm=left,
        taint=taint if type(taint) is int else None,
        refused=str(record.get("refused", "")),
        anon_kb=decimal(meminfo.get("AnonPages")) if isinstance(meminfo, dict) else None,
        huge_kb=(decimal(meminfo.get("AnonHugePages")) or 0) if isinstance(meminfo, dict) else 0,
        page_size=page_size,
    )


def open_account(record: Record) -> Account:
    """That of the workload which a begin record names."""
    listed = record.get("properties")
    now = _whole(record.get("t"))
    return Account(
        workload=str(record.get("workload", "")),
        properties=tuple(p for p in listed if isinstance(p, str)) if isinstance(listed, list) else (),
        started=now,
        last=now,
    )


def note_record(account: Account, record: Record) -> None:
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


def _whole(value: object) -> int:
    return value if type(value) is int else 0

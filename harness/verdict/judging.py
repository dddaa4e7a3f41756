# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that turn evidence about one workload into its verdict.  Pure; read ``_RULES`` for their rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.findings import Finding, Tier
from harness.guest.record import BootRecord, Outcome, Stop, WorkloadRecord
from harness.oracle.refusals import EXCUSED
from harness.results import CrashReport, Verdict, WorkloadResult
from harness.verdict.account import Account, Reset
from harness.verdict.known import known_defect
from harness.verdict.moment import Moment

Decision = tuple[Verdict, str]

# Bits of /proc/sys/kernel/tainted that a broken kernel sets and a slow guest does not
# (Documentation/admin-guide/tainted-kernels.rst; L, a soft lockup, is not among them).
TAINTS = {5: "B, bad page", 7: "D, oops", 9: "W, warning"}


@dataclass(frozen=True)
class Evidence:
    """All that is known of one workload."""

    told: WorkloadRecord  # by the guest room
    boot: BootRecord | None  # the boot it ran in, else the last one; None: there was none
    account: Account | None = None  # None: the journal has no segment of it
    crashes: tuple[CrashReport, ...] = ()
    properties: tuple[str, ...] = ()  # as planned; the journal's own list goes before
    why_not: str = ""  # why the guest room did not run all workloads
    first_reset: Reset | None = None  # before any workload of its boot, where that is what kept this one from beginning
    moment: Moment | None = None  # what was in progress when the kernel complained; None: cannot be told


def judge_workload(evidence: Evidence) -> WorkloadResult:
    """The verdict.  A workload is LOST until a rule says otherwise; only one that no rule stops is a PASS."""
    findings = all_findings(evidence)
    verdict, reason = _decide(evidence, findings)
    told, account = evidence.told, evidence.account
    operation, prop = _in_progress(evidence) if verdict not in (Verdict.PASS, Verdict.SKIP) else ("", "")
    return WorkloadResult(
        workload=told.workload,
        properties=(account.properties if account and account.properties else evidence.properties),
        verdict=verdict,
        reason=reason,
        findings=findings,
        crashes=evidence.crashes,
        operation=operation,
        prop=prop,
        seconds=account.seconds if account else 0.0,
        complete=account is not None and not account.problem,
        boot=evidence.boot.number if evidence.boot else 1,
        remarks=tuple(account.remarks) if account else (),
        drawings=tuple(account.drawings) if account else (),
    )


def _decide(evidence: Evidence, findings: Sequence[Finding]) -> Decision:
    for rule in _RULES:
        if decision := rule(evidence, findings):
            return decision
    return Verdict.PASS, ""


def worst(crashes: Sequence[CrashReport]) -> CrashReport | None:
    """The report that decides: the first fatal one, known to be wrong only if there is no other."""
    fatal = [c for c in crashes if c.fatal]
    return min(fatal, key=lambda c: known_defect(c) is not None, default=None)


def _in_progress(evidence: Evidence) -> tuple[str, str]:
    """The journal knows best where it stopped; the guest room's word serves where the journal has nothing.

    A kernel that complained may have gone on: then it is its own word of when that was that counts.
    """
    told, account = evidence.told, evidence.account
    if evidence.moment is not None:
        return evidence.moment.operation, evidence.moment.prop
    if account is None:
        return told.operation, told.prop
    if not account.problem:
        return "", ""
    return account.operation, account.prop


def all_findings(evidence: Evidence) -> tuple[Finding, ...]:
    """The oracle's findings, and what the reset after the workload shows; of one that never began, the reset before it."""
    account, reset = evidence.account, evidence.first_reset
    if account is not None:
        return (*account.findings, *reset_findings(account))
    if reset is None or reset.ok or not reset.ksm:
        return ()
    return (_left(evidence.told.workload, reset, "although nothing has been merged yet"),)


def reset_findings(account: Account) -> tuple[Finding, ...]:
    """What the reset after the workload shows."""
    return tuple(f for f in (_unmerged(account), _counted_on(account)) if f)


def _unmerged(account: Account) -> Finding | None:
    """Counters that stayed after run=2 though all actors are gone: ksmd let go of less than it held (P18).

    A reset that failed for any other reason says nothing about KSM; the cell's warnings tell of it.
    """
    reset = account.reset
    if reset is not None and reset.refused and reset.refused not in EXCUSED:
        return _refused(account, reset)
    if reset is None or reset.ok or not reset.ksm:
        return None
    gone = "although every process of the workload is gone"
    return _left(account.workload, reset, gone, follows=bool(account.findings))


# Bytes, and pages, by which the anonymous memory of what is alive between two workloads may grow: of init, and of its
# process that ksmd knows, which is swapped out and comes back.
_OTHERS_BYTES, _OTHERS_PAGES = 512 << 10, 32


def _counted_on(account: Account) -> Finding | None:
    """Anonymous pages that are counted as mapped though every process that had them is gone (P6)."""
    reset, before = account.reset, account.reset_before
    if reset is None or before is None or not (reset.ok and before.ok and reset.page_size):
        return None
    if reset.anon_kb is None or before.anon_kb is None:
        return None
    huge = abs(reset.huge_kb - before.huge_kb) * 1024 // reset.page_size  # one of init's may have been collapsed, or split
    others = max(_OTHERS_BYTES // reset.page_size, _OTHERS_PAGES) + huge
    more = (reset.anon_kb - before.anon_kb) * 1024 // reset.page_size
    if more <= others:
        return None
    return Finding(
        prop="P6",
        kind="counter-AnonPages",
        op="exit",
        tier=Tier.ACCOUNTING,
        workload=account.workload,
        seq=reset.seq,
        summary=f"{more} more anonymous pages are counted as mapped than before the workload, though its processes are gone",
        expected=f"at most {others} more, of init's",
        seen=f"AnonPages {reset.anon_kb} kB, {before.anon_kb} kB before",
        why="a page is counted from its first pte to its last (page_add_anon_rmap, page_remove_rmap: NR_ANON_MAPPED)",
        follows=bool(account.findings),
    )


def _left(workload: str, reset: Reset, although: str, follows: bool = False) -> Finding:
    left = ", ".join(f"{name} {value}" for name, value in reset.ksm)
    return Finding(
        prop="P18",
        kind="reset",
        op="run",
        tier=Tier.ACCOUNTING,
        workload=workload,
        seq=reset.seq,
        summary=f"KSM still counts after run=2 {although}: {left}",
        expected="pages_shared, pages_sharing, pages_unshared, pages_volatile, chains and their dups, full_scans 0 after run=2",
        seen=f"{left} ({reset.why})" if reset.why else left,
        why="writing 2 to run unmerges every mm, drops every rmap_item and counts scans anew (unmerge_and_remove_all_rmap_items)",
        follows=follows,
    )


def _refused(account: Account, reset: Reset) -> Finding:
    return Finding(
        prop="P18",
        kind="refused",
        op="run",
        tier=Tier.ACCOUNTING,
        workload=account.workload,
        seq=reset.seq,
        summary=f"run=2 after the workload failed with {reset.refused}",
        expected="success",
        seen=reset.refused,
        why="no process of the workload is left, so there is nothing that could not be unmerged (run_store)",
        follows=bool(account.findings),
    )


def taint_report(before: int | None, after: int | None) -> CrashReport | None:
    """A kernel that became tainted during a workload has warned or worse, whatever the console shows of it."""
    if after is None:
        return None
    new = [name for bit, name in TAINTS.items() if after >> bit & 1 and not (before or 0) >> bit & 1]
    if not new:
        return None
    title = f"the kernel became tainted: {'; '.join(new)}"
    text = f"{title} (tainted {before or 0} before, {after} after)\n"
    return CrashReport(kind="taint", title=title, text=text, line=0, fatal=True)


# The rules.


def _booted(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    boot = evidence.boot
    if boot is None:
        return Verdict.INFRA, evidence.told.reason or evidence.why_not or "no guest was started"
    if boot.hello:
        return None
    why = boot.reason or evidence.told.reason or "no token from init"
    if boot.stop in (Stop.INFRA, Stop.CANCELLED):
        return Verdict.INFRA, why
    title = next((c.title for c in evidence.crashes if c.fatal), "")
    return Verdict.BOOT, f"{why}: {title}" if title and title not in why else why


def _crashed(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    fatal = next((c for c in evidence.crashes if c.fatal and not known_defect(c)), None)
    if fatal is None and (evidence.told.outcome is not Outcome.CRASHED or _known(evidence)):
        return None
    what = fatal.title if fatal else evidence.told.reason or "the guest crashed"
    return Verdict.CRASH, what + _during(evidence)


def _hung(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    account = evidence.account
    if evidence.told.outcome is not Outcome.HUNG:
        return None  # a stuck record alone does not show whose fault it is: the guest may have been waiting for the host
    stuck = account.stuck if account is not None and account.stuck_state == "D" else ""
    return Verdict.HANG, (stuck or evidence.told.reason or "no progress") + _during(evidence)


def _ran(evidence: Evidence, findings: Sequence[Finding]) -> Decision | None:
    told, boot = evidence.told, evidence.boot
    if evidence.account is None and findings:
        return Verdict.FAIL, f"{findings[0].summary}; so it was not run"
    if told.outcome is Outcome.NOTRUN:
        why = told.reason or evidence.why_not or (boot.reason if boot else "") or "its turn never came"
        host = boot is not None and boot.stop in (Stop.INFRA, Stop.CANCELLED)
        return (Verdict.INFRA if host else Verdict.LOST), f"was not run: {why}"
    if evidence.account is None:
        return _unjudged(told), told.reason or "the journal has no record of it"
    return None


def _unjudged(told: WorkloadRecord) -> Verdict:
    return Verdict.INFRA if told.outcome is Outcome.INFRA else Verdict.LOST


def _believable(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    account = evidence.account
    if account is None or not account.broken:
        return None
    return _unjudged(evidence.told), f"{account.problem}{_told(evidence)}"


def _found(evidence: Evidence, findings: Sequence[Finding]) -> Decision | None:
    """The chain of records up to a finding is whole, so it stands, however the journal ends."""
    account, boot = evidence.account, evidence.boot
    if account is not None:
        findings = [f for f in findings if counts(account, f)]
    if not findings:
        return None
    first = min(findings, key=lambda f: f.follows)
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    early = f"; then {account.problem}" if account is not None and account.problem else ""
    if early and boot is not None and boot.stop is Stop.HALTED:
        early = "; the guest was stopped there"
    return Verdict.FAIL, f"{first.summary}{more}{early}"


def _stopped_by_known_defect(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    known = _known(evidence)
    return (Verdict.LOST, f"stopped by a known defect of this kernel: {known}{_during(evidence)}") if known else None


def _known(evidence: Evidence) -> str:
    defects = (known_defect(c) for c in evidence.crashes if c.fatal)
    return next((d.summary for d in defects if d), "")


def counts(account: Account, finding: Finding) -> bool:
    """Does it count against the kernel, by what is known so far?

    Not if reclaim did nothing at all: what it left behind says nothing about KSM.
    """
    if account.control_failed and finding.op == "reclaim":
        return False
    return not _ran_out_of_time(account, finding)


def _ran_out_of_time(account: Account, finding: Finding) -> bool:
    """What a reclaim that was cut off by its deadline left mapped, and the counts that may be a consequence of that.

    Wrong contents, leaks and the like stand, however slow the guest is.
    """
    if finding.kind == "still-mapped":
        return finding.seq in account.deadlines
    consequence = finding.follows and finding.tier is not Tier.SAFETY
    return consequence and any(seq < finding.seq for seq in account.deadlines)


def _controlled(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    account = evidence.account
    if account is None or not account.control_failed:
        return None
    return Verdict.INFRA, f"reclaim did not run: {account.control_failed}"


def _rested(evidence: Evidence, findings: Sequence[Finding]) -> Decision | None:
    """The findings that were left are excused, but the kernel is not shown to be good either."""
    account = evidence.account
    cut = [f for f in findings if account is not None and _ran_out_of_time(account, f)]
    if not cut:
        return None
    where = f"(seq {min(f.seq for f in cut)})"
    return Verdict.INFRA, f"reclaim did not come to rest within its deadline {where}: the guest is too slow"


def _completed(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    """What keeps a workload LOST."""
    told, account = evidence.told, evidence.account
    if account is None or told.outcome is Outcome.INFRA:
        return _unjudged(told), told.reason or "the host failed"
    if account.error:
        return Verdict.LOST, f"the workload could not go on: {account.error}"
    if account.stuck:
        return Verdict.LOST, account.stuck + _during(evidence) + _told(evidence)
    if account.problem:
        return Verdict.LOST, f"{account.problem}{_during(evidence)}{_told(evidence)}"
    if told.outcome is not Outcome.ENDED:
        return Verdict.LOST, told.reason or "the guest room did not see it end"
    if account.unstable:
        return Verdict.LOST, f"observation {account.unstable} was never stable: cannot be judged"
    return None


def _skipped(evidence: Evidence, _: Sequence[Finding]) -> Decision | None:
    if evidence.account is not None and evidence.account.skip:
        return Verdict.SKIP, evidence.account.skip
    return None


_RULES: tuple[Callable[[Evidence, Sequence[Finding]], Decision | None], ...] = (
    _booted, _crashed, _hung, _ran, _believable, _found, _stopped_by_known_defect, _controlled, _rested, _completed, _skipped,
)  # fmt: skip


def _told(evidence: Evidence) -> str:
    reason = evidence.told.reason
    return f" ({reason})" if reason else ""


def _during(evidence: Evidence) -> str:
    operation, prop = _in_progress(evidence)
    if not operation:
        return f", during {prop}" if prop else ""
    return f", {'' if operation.startswith('between ') else 'during '}{operation}" + (f" of {prop}" if prop else "")

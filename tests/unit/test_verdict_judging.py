# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules: which evidence makes which verdict, and what outranks what."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.findings import Finding, Tier
from harness.guest.record import BootRecord, Outcome, Stop, WorkloadRecord
from harness.results import CrashReport, Verdict
from harness.verdict.account import Account, Reset
from harness.verdict.judging import Evidence, judge_workload, taint_report, worst
from harness.verdict.moment import Moment

FINDING = Finding(
    "P1", "still-mapped", "reclaim", Tier.SAFETY, "new_fork", 41, "C still maps 256 KSM pages", "swapped", "mapped", "why"
)
CONTENT = dataclasses.replace(FINDING, prop="P16", kind="content", op="verify", summary="C.a has other bytes")
OOPS = CrashReport("bug", "kernel BUG at mm/rmap.c:411!", "kernel BUG at mm/rmap.c:411!\n", 9, True)
STALL = CrashReport("rcu-stall", "rcu: INFO: rcu_sched self-detected stall on CPU", "rcu: …\n", 9, False)


def told(outcome: Outcome = Outcome.ENDED, **more: Any) -> WorkloadRecord:
    return WorkloadRecord("new_fork", outcome=outcome, boot=1, **more)


def account(**more: Any) -> Account:
    return Account("new_fork", ("P1",), **more)


def evidence(
    outcome: Outcome = Outcome.ENDED, journal: Account | None = None, crashes: tuple[CrashReport, ...] = (), reason: str = ""
) -> Evidence:
    return Evidence(told(outcome, reason=reason), BootRecord(1, hello=True), journal, crashes, ("P1",))


def verdict(e: Evidence) -> tuple[Verdict, str]:
    result = judge_workload(e)
    return result.verdict, result.reason


def test_complete_matching_journal_passes_without_a_reason() -> None:
    assert verdict(evidence(journal=account())) == (Verdict.PASS, "")


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.ENDED])
def test_only_ended_passes(outcome: Outcome) -> None:
    assert verdict(evidence(outcome, account()))[0] is not Verdict.PASS


def test_nothing_but_the_guest_rooms_word_is_lost() -> None:
    assert verdict(evidence(Outcome.ENDED, None)) == (Verdict.LOST, "the journal has no record of it")


def test_findings_fail() -> None:
    result = judge_workload(evidence(journal=account(findings=[FINDING, CONTENT])))
    assert result.verdict is Verdict.FAIL
    assert result.reason == "C still maps 256 KSM pages (and 1 more)"
    assert result.findings == (FINDING, CONTENT)


def test_reason_is_the_first_finding_that_is_no_consequence() -> None:
    follows = dataclasses.replace(FINDING, follows=True, summary="counter")
    assert verdict(evidence(journal=account(findings=[follows, CONTENT])))[1].startswith("C.a has other bytes")


def test_findings_before_an_early_end_fail_whoever_ended_it() -> None:
    cut = account(findings=[FINDING], problem="the journal ended before the workload did", op="exit", seq=44, prop="P1")
    for outcome in (Outcome.LOST, Outcome.INFRA):
        result = judge_workload(evidence(outcome, cut))
        assert result.verdict is Verdict.FAIL
        assert result.reason.endswith("; then the journal ended before the workload did")
        assert result.operation == "exit (seq 44)"


def test_a_guest_that_was_stopped_at_a_finding() -> None:
    cut = account(findings=[FINDING], problem="the journal ended before the workload did")
    halted = BootRecord(1, hello=True, stop=Stop.HALTED, reason="--fail-fast: stopped at the first finding")
    result = judge_workload(Evidence(told(Outcome.LOST, reason=halted.reason), halted, cut))
    assert (result.verdict, result.complete) == (Verdict.FAIL, False)
    assert result.reason == "C still maps 256 KSM pages; the guest was stopped there"
    after = judge_workload(Evidence(told(Outcome.NOTRUN, reason=halted.reason), halted))
    assert (after.verdict, after.reason) == (Verdict.LOST, "was not run: --fail-fast: stopped at the first finding")


def test_findings_of_an_inconsistent_journal_are_listed_and_not_counted() -> None:
    result = judge_workload(evidence(journal=account(findings=[FINDING], problem="line 4: checksum …", broken=True)))
    assert (result.verdict, result.reason) == (Verdict.LOST, "line 4: checksum …")
    assert result.findings == (FINDING,)


def test_crash_outranks_hang_outranks_fail_and_names_what_was_in_progress() -> None:
    cut = account(
        findings=[FINDING],
        problem="the journal ended early",
        op="reclaim",
        seq=41,
        prop="P1",
        stuck="C did not answer",
        stuck_state="D",
    )
    crashed = judge_workload(evidence(Outcome.HUNG, cut, (STALL, OOPS)))
    assert crashed.verdict is Verdict.CRASH
    assert crashed.reason == "kernel BUG at mm/rmap.c:411!, during reclaim (seq 41) of P1"
    assert (crashed.operation, crashed.prop, crashed.findings) == ("reclaim (seq 41)", "P1", (FINDING,))
    hung = judge_workload(evidence(Outcome.HUNG, cut, (STALL,)))
    assert hung.verdict is Verdict.HANG
    assert hung.crashes == (STALL,)


def test_crash_outranks_an_inconsistent_journal() -> None:
    assert verdict(evidence(Outcome.LOST, account(problem="line 9: …", broken=True), (OOPS,)))[0] is Verdict.CRASH


def test_warning_after_the_end_is_a_crash_too() -> None:
    result = judge_workload(evidence(Outcome.CRASHED, account(), (OOPS,)))
    assert (result.verdict, result.operation) == (Verdict.CRASH, "")


@pytest.mark.parametrize("over", [True, False])
def test_a_kernel_that_went_on_is_judged_by_the_time_of_its_report(over: bool) -> None:
    """Where the journal ended, or whether it did, says nothing of that."""
    later = account() if over else account(problem="the journal ended early", op="reclaim", seq=41, prop="P1")
    known = dataclasses.replace(evidence(Outcome.CRASHED, later, (OOPS,)), moment=Moment("fork (seq 3)", "P14"))
    result = judge_workload(known)
    assert result.reason == "kernel BUG at mm/rmap.c:411!, during fork (seq 3) of P14"
    assert (result.operation, result.prop) == ("fork (seq 3)", "P14")
    either = judge_workload(dataclasses.replace(known, moment=Moment("between fork (seq 3) and scan (seq 5)", "")))
    assert either.reason == "kernel BUG at mm/rmap.c:411!, between fork (seq 3) and scan (seq 5)"
    assert either.prop == ""


def test_the_report_that_decides() -> None:
    assert worst((STALL, OOPS, dataclasses.replace(OOPS, line=20))) is OOPS
    assert worst((STALL,)) is None


def test_crash_without_a_report_on_the_console() -> None:
    assert verdict(evidence(Outcome.CRASHED, None, reason="QEMU says guest-panic")) == (Verdict.CRASH, "QEMU says guest-panic")


def test_stall_alone_is_recorded_and_passes() -> None:
    result = judge_workload(evidence(journal=account(), crashes=(STALL,)))
    assert (result.verdict, result.crashes) == (Verdict.PASS, (STALL,))


@pytest.mark.parametrize(
    ("state", "outcome", "wanted"),
    [
        ("D", Outcome.HUNG, Verdict.HANG),
        ("D", Outcome.LOST, Verdict.LOST),  # QEMU had stopped the guest, say
        ("D", Outcome.INFRA, Verdict.INFRA),
        ("S", Outcome.LOST, Verdict.LOST),
        ("R", Outcome.LOST, Verdict.LOST),
    ],
)
def test_stuck_actor(state: str, outcome: Outcome, wanted: Verdict) -> None:
    stuck = account(problem="the journal ended early", stuck=f"C (pid 7) did not answer, state {state}", stuck_state=state)
    seen, reason = verdict(evidence(outcome, stuck, reason="the host: io-error"))
    assert seen is wanted
    assert ("io-error" in reason) == (wanted is not Verdict.HANG)


def test_observation_that_was_never_stable_is_lost() -> None:
    unstable = {"unstable": "after reclaim"}
    assert verdict(evidence(journal=account(**unstable))) == (
        Verdict.LOST,
        "observation after reclaim was never stable: cannot be judged",
    )
    assert verdict(evidence(journal=account(findings=[CONTENT], **unstable)))[0] is Verdict.FAIL
    assert verdict(evidence(journal=account(**unstable), crashes=(OOPS,)))[0] is Verdict.CRASH


COUNTER = dataclasses.replace(FINDING, kind="counter-pages_shared", tier=Tier.ACCOUNTING, seq=42, follows=True, summary="counter")


@pytest.mark.parametrize(
    ("findings", "deadlines", "wanted"),
    [
        ([FINDING], [41], Verdict.INFRA),
        ([FINDING, COUNTER], [41], Verdict.INFRA),
        ([FINDING], [30], Verdict.FAIL),  # another reclaim, which came to rest
        ([FINDING, COUNTER], [], Verdict.FAIL),
        ([FINDING, dataclasses.replace(CONTENT, seq=50, follows=True)], [41], Verdict.FAIL),
        ([dataclasses.replace(COUNTER, follows=False)], [41], Verdict.FAIL),
        ([], [41], Verdict.PASS),
    ],
)
def test_reclaim_that_ran_out_of_time(findings: list[Finding], deadlines: list[int], wanted: Verdict) -> None:
    result = judge_workload(evidence(journal=account(findings=findings, deadlines=deadlines)))
    assert result.verdict is wanted
    assert result.findings == tuple(findings)
    assert ("did not come to rest within its deadline (seq 41)" in result.reason) == (wanted is Verdict.INFRA)


def test_error_record_is_lost() -> None:
    lost = account(problem="the journal ended before the workload did", error="mmap: ENOMEM")
    assert verdict(evidence(journal=lost)) == (Verdict.LOST, "the workload could not go on: mmap: ENOMEM")


def test_skip_gives_its_reason() -> None:
    assert verdict(evidence(journal=account(skip="no cow_ksm in /proc/vmstat"))) == (Verdict.SKIP, "no cow_ksm in /proc/vmstat")


def test_skip_needs_a_whole_journal() -> None:
    assert verdict(evidence(journal=account(skip="no", problem="cut")))[0] is Verdict.LOST


def test_reclaim_that_did_not_run_is_infra_and_its_findings_are_not_counted() -> None:
    result = judge_workload(evidence(journal=account(findings=[FINDING], control_failed="Z.z is still present")))
    assert (result.verdict, result.reason) == (Verdict.INFRA, "reclaim did not run: Z.z is still present")
    assert result.findings == (FINDING,)


def test_wrong_bytes_count_though_reclaim_did_not_run() -> None:
    assert verdict(evidence(journal=account(findings=[CONTENT], control_failed="Z.z is still present")))[0] is Verdict.FAIL


def test_boot_without_hello() -> None:
    dead = BootRecord(1, hello=False, stop=Stop.NO_TOKEN, reason="no token within 30 s")
    panic = dataclasses.replace(OOPS, title="Kernel panic - not syncing: no init")
    result = judge_workload(Evidence(told(Outcome.NOTRUN), dead, None, (panic,), ("P1", "P2")))
    assert result.verdict is Verdict.BOOT
    assert result.reason == "no token within 30 s: Kernel panic - not syncing: no init"
    assert result.properties == ("P1", "P2")


def test_boot_without_hello_that_the_host_spoiled() -> None:
    dead = BootRecord(1, hello=False, stop=Stop.INFRA, reason="QEMU was killed by SIGKILL")
    assert verdict(Evidence(told(Outcome.NOTRUN), dead)) == (Verdict.INFRA, "QEMU was killed by SIGKILL")


def test_no_boot_at_all() -> None:
    assert verdict(Evidence(told(Outcome.NOTRUN), None, why_not="disk full")) == (Verdict.INFRA, "disk full")


def test_workload_whose_turn_never_came() -> None:
    lost, spoiled = BootRecord(1, hello=True, stop=Stop.LOST), BootRecord(1, hello=True, stop=Stop.INFRA)
    assert verdict(Evidence(told(Outcome.NOTRUN), lost, why_not="three boots in a row were lost")) == (
        Verdict.LOST,
        "was not run: three boots in a row were lost",
    )
    assert verdict(Evidence(told(Outcome.NOTRUN), spoiled))[0] is Verdict.INFRA


def test_host_trouble_in_a_workload() -> None:
    cut = account(problem="the journal ended before the workload did")
    assert verdict(evidence(Outcome.INFRA, cut, reason="the host: No space left")) == (Verdict.INFRA, "the host: No space left")


def test_counters_left_after_run_2_are_a_finding_for_p18() -> None:
    dirty = account(reset=Reset(False, "pages_shared is 16", 5, (("pages_shared", "16"),)))
    result = judge_workload(evidence(journal=dirty))
    assert result.verdict is Verdict.FAIL
    assert result.findings[0].signature == "P18:reset:run"
    assert "pages_shared 16" in result.findings[0].summary


def test_run_2_that_is_refused_after_a_workload_is_a_finding_for_p18() -> None:
    result = judge_workload(evidence(journal=account(reset=Reset(True, refused="EFAULT"))))
    assert result.verdict is Verdict.FAIL
    assert result.findings[0].signature == "P18:refused:run"
    assert verdict(evidence(journal=account(reset=Reset(True, refused="ENOMEM"))))[0] is Verdict.PASS


def test_reset_that_failed_otherwise_is_no_verdict_about_ksm() -> None:
    assert verdict(evidence(journal=account(reset=Reset(False, "swap is still in use", 5))))[0] is Verdict.PASS


@pytest.mark.parametrize(
    ("before", "after", "fatal"),
    [(0, 512, True), (0, 128, True), (512, 512, False), (0, 1 << 14, False), (0, None, False), (None, 32, True)],
)
def test_taint(before: int | None, after: int | None, fatal: bool) -> None:
    report = taint_report(before, after)
    assert (report is not None and report.fatal) == fatal


# From the console of an unmodified 6.1.192 with lockdep, shortened.
PAGE_KSM = """\
page:ffffea00000f8a40 refcount:4 mapcount:2 mapping:ffff88800317e800 index:0x100405d pfn:0x3e29
page dumped because: VM_BUG_ON_PAGE(PageKsm(page))
------------[ cut here ]------------
kernel BUG at ../src/mm/internal.h:613!
invalid opcode: 0000 [#1] SMP
RIP: 0010:rmap_walk_anon+0x20f/0x290
Call Trace:
 folio_referenced+0x127/0x180
 ? folio_referenced_one+0x1d0/0x1d0
 shrink_active_list+0x1eb/0x4b0
---[ end trace 0000000000000000 ]---
Kernel panic - not syncing: Fatal exception
"""


def test_a_known_defect_of_the_kernel_is_neither_good_nor_bad() -> None:
    crash = CrashReport("bug", "kernel BUG at ../src/mm/internal.h:613!", PAGE_KSM, 9, True)
    cut = account(problem="the journal ended early", op="roam", seq=45, prop="P1")
    lost = judge_workload(evidence(Outcome.CRASHED, cut, (crash,)))
    assert lost.verdict is Verdict.LOST
    assert lost.reason.startswith("stopped by a known defect of this kernel: VM_BUG_ON_PAGE(PageKsm(page)) in vma_address()")
    assert lost.reason.endswith("during roam (seq 45) of P1")
    assert lost.crashes == (crash,)
    found = dataclasses.replace(cut, findings=[FINDING])
    assert verdict(evidence(Outcome.CRASHED, found, (crash,)))[0] is Verdict.FAIL
    assert verdict(evidence(Outcome.CRASHED, cut, (crash, OOPS)))[0] is Verdict.CRASH


# Of 4.4.155, as the console has it, shortened.
STILL_MAPPED = """\
------------[ cut here ]------------
WARNING: CPU: 0 PID: 60 at ../src/mm/ksm.c:717 remove_stable_node+0x6d/0x80()
Modules linked in:
CPU: 0 PID: 60 Comm: init Not tainted 4.4.155 #1
Call Trace:
 [<ffffffff810b502c>] ? warn_slowpath_common+0x85/0x9b
 [<ffffffff810ff06d>] ? remove_stable_node+0x6d/0x80
 [<ffffffff810ff0ca>] ? remove_all_stable_nodes+0x4a/0xb0
 [<ffffffff810fff5a>] ? run_store+0x2aa/0x2e0
---[ end trace c2a1eecd6716b3d8 ]---
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", Verdict.LOST),
        ("WARNING: CPU: 0 PID: 60 at ", "WARNING: at ", Verdict.LOST),  # before 3.11
        ("ksm.c:717 remove_stable_node", "ksm.c:717 remove_node_from_stable_tree", Verdict.CRASH),
        ("run_store", "max_page_sharing_store", Verdict.LOST),
        ("run_store", "merge_across_nodes_store", Verdict.LOST),
        ("run_store", "ksm_scan_thread", Verdict.CRASH),
        ("WARNING", "kernel BUG", Verdict.CRASH),
    ],
)
def test_a_warning_about_a_page_that_is_rightly_mapped(old: str, new: str, expected: Verdict) -> None:
    title = "WARNING: CPU: 0 PID: 60 at ../src/mm/ksm.c:717 remove_stable_node+0x6d/0x80()"
    warning = CrashReport("warning", title, STILL_MAPPED.replace(old, new), 9, True)
    assert verdict(evidence(Outcome.CRASHED, account(), (warning,)))[0] is expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shrink_active_list", "shrink_folio_list"),
        ("folio_referenced+", "try_to_unmap+"),
        ("rmap_walk_anon", "rmap_walk_ksm"),
        ("PageKsm(page)", "PageTail(page)"),
        ("mm/internal.h", "mm/rmap.c"),
    ],
)
def test_any_other_report_is_a_crash(old: str, new: str) -> None:
    crash = CrashReport("bug", "kernel BUG at ../src/mm/internal.h:613!", PAGE_KSM.replace(old, new), 9, True)
    assert verdict(evidence(Outcome.CRASHED, account(problem="the journal ended early"), (crash,)))[0] is Verdict.CRASH

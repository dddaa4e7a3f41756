# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell's directory as the guest room leaves it, whole or damaged, to verdicts.

A scripted oracle says what the way to the verdict needs.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.findings import Finding
from harness.guest.record import Outcome, Stop
from harness.journal.reader import Record
from harness.results import RunResult, Verdict
from harness.verdict import judge_cell, rejudge
from harness.verdict.replay import replay
from tests.unit.scripted_oracle import PLANNED, Scripted, both, journal
from tests.unit.story import Journal, new_fork, observation, records, swapped, write_cell

WARNING = """\
[    3.100000] ------------[ cut here ]------------
[    3.100001] WARNING: CPU: 0 PID: 71 at mm/ksm.c:617 remove_stable_node+0x1/0x2
[    3.100002] CPU: 0 PID: 71 Comm: ksmd Not tainted 6.1.192 #1
[    3.100003] Call Trace:
[    3.100004]  <TASK>
[    3.100005]  ksm_scan_thread+0x1/0x2
[    3.100006]  </TASK>
[    3.100007] ---[ end trace 0000000000000000 ]---
"""


def judged(directory: Path, oracle: Scripted | None = None) -> dict[str, tuple[Verdict, str]]:
    result = judge_cell(directory, "x86_64", "x86_64", PLANNED, make=oracle or Scripted())
    return {w.workload: (w.verdict, w.reason) for w in result.workloads}


def test_clean_cell_passes(tmp_path: Path) -> None:
    write_cell(tmp_path, [journal("new_fork", "many_forks")], both())
    result = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, {"tree": "debian:6.1"}, Scripted())
    assert [(w.workload, w.verdict, w.properties) for w in result.workloads] == [
        ("new_fork", Verdict.PASS, ("P1",)),
        ("many_forks", Verdict.PASS, ("P2",)),
    ]
    assert result.workloads[0].seconds > 0.1
    assert result.facts["release"] == "6.1.192-ksm"
    assert result.facts["tree"] == "debian:6.1"
    assert result.facts["accel_reason"] == "asked for"
    assert not result.warnings


def test_finding_fails_its_workload_only(tmp_path: Path) -> None:
    j = journal("new_fork")
    j.reset("many_forks")
    j.begin("many_forks", ("P2",))
    j.end()
    write_cell(tmp_path, [j], both())
    assert {k: v for k, (v, _) in judged(tmp_path, Scripted("after reclaim")).items()} == {
        "new_fork": Verdict.FAIL,
        "many_forks": Verdict.PASS,
    }


def test_contradiction_is_lost(tmp_path: Path) -> None:
    write_cell(tmp_path, [journal("new_fork", "many_forks")], both())
    verdict, reason = judged(tmp_path, Scripted("forked", contradiction_at=30))["new_fork"]
    assert verdict is Verdict.LOST
    assert reason == "the journal contradicts itself at record 30: a page of nobody"


def test_error_of_the_oracle_is_lost_not_raised(tmp_path: Path) -> None:
    class Broken(Scripted):
        def __call__(self, hello: Record, begin: Record) -> Broken:
            return Broken()

        def step(self, record: Record, /) -> list[Finding]:
            raise KeyError("pid")

    write_cell(tmp_path, [journal("new_fork", "many_forks")], both())
    verdict, reason = judged(tmp_path, Broken())["new_fork"]
    assert (verdict, reason) == (Verdict.LOST, "the oracle cannot follow record 1: KeyError: 'pid'")


def test_control_that_stays_is_infra(tmp_path: Path) -> None:
    write_cell(tmp_path, [journal("new_fork", "many_forks")], both())
    assert judged(tmp_path, Scripted("after reclaim", control="Z.z stayed"))["new_fork"] == (
        Verdict.INFRA,
        "reclaim did not run: Z.z stayed",
    )


def test_journal_cut_in_the_middle(tmp_path: Path) -> None:
    write_cell(tmp_path, [journal("new_fork", "many_forks")], both())
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:5000])
    results = judged(tmp_path)
    assert results["new_fork"][0] is Verdict.LOST
    assert "the journal ended before the workload did" in results["new_fork"][1]
    assert results["many_forks"] == (Verdict.LOST, "the journal has no record of it")


def test_changed_record_loses_its_workload_and_the_rest_of_the_boot(tmp_path: Path) -> None:
    write_cell(tmp_path, [journal("many_forks", "new_fork")], both())
    path = tmp_path / "journal.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"label":"after reclaim"', b'"label":"after reclaiM"', 1))
    results = judged(tmp_path, Scripted("forked"))
    assert results["many_forks"][0] is Verdict.LOST
    assert "checksum" in results["many_forks"][1]
    assert results["new_fork"][0] is Verdict.LOST


def test_wrong_counts_in_the_end_record(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    j.begin("new_fork", ("P1",))
    j.end(obs=3)
    write_cell(tmp_path, [j], both()[:1])
    verdict, reason = judged(tmp_path)["new_fork"]
    assert (verdict, reason) == (Verdict.LOST, "the end record declares 3 obs, the journal has 0")


def test_missing_record(tmp_path: Path) -> None:
    j = journal("new_fork", "many_forks")
    del j.lines[9]
    write_cell(tmp_path, [j], both())
    assert judged(tmp_path)["new_fork"][0] is Verdict.LOST


def test_workload_that_a_crash_kept_from_running_runs_in_the_next_boot(tmp_path: Path) -> None:
    first, second = Journal(), journal("many_forks")
    first.hello()
    first.reset("new_fork")
    new_fork(first, until="reclaim")
    outcomes = [("new_fork", Outcome.CRASHED, 1, "WARNING: …"), ("many_forks", Outcome.ENDED, 2, "")]
    write_cell(tmp_path, [first, second], outcomes, ["Linux version 6.1\n" + WARNING, "Linux version 6.1\n"])
    result = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, make=Scripted())
    crashed, passed = result.workloads
    assert (crashed.verdict, crashed.prop) == (Verdict.CRASH, "P1")
    assert crashed.operation == "reclaim (seq 30)"
    assert crashed.crashes[0].kind == "warning"
    assert "remove_stable_node" in crashed.reason
    assert (passed.verdict, passed.boot, passed.crashes) == (Verdict.PASS, 2, ())


def test_warning_after_the_last_record_blames_the_workload_that_had_just_ended(tmp_path: Path) -> None:
    write_cell(tmp_path, [journal("new_fork", "many_forks")], both(), [WARNING])
    results = judged(tmp_path)
    assert (results["new_fork"][0], results["many_forks"][0]) == (Verdict.PASS, Verdict.CRASH)


def test_console_before_hello_and_after_the_hosts_request_for_evidence_blames_nobody(tmp_path: Path) -> None:
    console = WARNING + "hello\n" + WARNING
    record = write_cell(tmp_path, [journal("new_fork", "many_forks")], both(), [console])
    record.boots[0].console_from, record.boots[0].console_to = len(WARNING), len(WARNING) + 6
    record.write(tmp_path)
    assert judged(tmp_path)["many_forks"][0] is Verdict.PASS
    record.boots[0].console_to = None
    record.write(tmp_path)
    result = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, make=Scripted())
    assert result.workloads[1].verdict is Verdict.CRASH
    assert result.workloads[1].crashes[0].line > WARNING.count("\n")


def test_taint_at_the_reset_blames_the_workload_before_it(tmp_path: Path) -> None:
    j = Journal()
    j.hello(taint=1)
    j.reset("new_fork", taint=1)
    new_fork(j)
    j.reset("many_forks", ok=False, taint=513, why="taint 513")
    write_cell(tmp_path, [j], [("new_fork", Outcome.ENDED, 1, ""), ("many_forks", Outcome.NOTRUN, 0, "")])
    result = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, make=Scripted())
    assert result.workloads[0].verdict is Verdict.CRASH
    assert "warning" in result.workloads[0].reason
    assert result.workloads[1].verdict is Verdict.LOST
    assert any("reset after new_fork was not clean: taint 513" in w for w in result.warnings)


@pytest.mark.parametrize("counter", ["pages_unshared", "stable_node_chains", "full_scans"])
def test_what_is_left_after_run_2_is_a_finding_of_the_workload_before(tmp_path: Path, counter: str) -> None:
    j = Journal()
    j.hello()
    j.reset("new_fork")
    new_fork(j)
    j.reset("many_forks", ok=False, left={counter: 1}, ksm={"full_scans": "1"}, why=f"{counter} is 1 after run=2")
    write_cell(tmp_path, [j], [("new_fork", Outcome.ENDED, 1, "")])
    result = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, make=Scripted())
    (finding,) = result.workloads[0].findings
    assert (finding.signature, f"{counter} 1" in finding.summary) == ("P18:reset:run", True)


def test_what_is_left_after_run_2_before_any_workload_is_a_finding_of_the_first_one(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    j.reset("new_fork", ok=False, left={"full_scans": 1}, why="full_scans is 1 after run=2")
    reason = "right after boot: reset failed: full_scans is 1 after run=2"
    outcomes = [("new_fork", Outcome.INFRA, 1, reason), ("many_forks", Outcome.INFRA, 1, reason)]
    write_cell(tmp_path, [j], outcomes)
    first, second = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, make=Scripted()).workloads
    (finding,) = first.findings
    assert (first.verdict, finding.signature) == (Verdict.FAIL, "P18:reset:run")
    assert "nothing has been merged yet: full_scans 1" in first.reason
    assert (second.verdict, second.findings) == (Verdict.INFRA, ())


@pytest.mark.parametrize(("more", "signatures"), [(-20, []), (128, []), (129, ["P6:counter-AnonPages:exit"])])
def test_anonymous_pages_that_are_counted_on_when_all_is_gone(tmp_path: Path, more: int, signatures: list[str]) -> None:
    j = Journal()
    j.hello()
    j.reset("new_fork", meminfo={"AnonPages": "180"})
    new_fork(j)
    j.reset("many_forks", meminfo={"AnonPages": str(180 + more * 4)})
    write_cell(tmp_path, [j], [("new_fork", Outcome.ENDED, 1, "")])
    result = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, make=Scripted())
    assert [f.signature for f in result.workloads[0].findings] == signatures


@pytest.mark.parametrize(("before", "after"), [(0, 2048), (2048, 0)])
def test_a_huge_page_of_inits_that_comes_or_is_split_is_not_counted_on(tmp_path: Path, before: int, after: int) -> None:
    j = Journal()
    j.hello()
    j.reset("new_fork", meminfo={"AnonPages": "180", "AnonHugePages": str(before)})
    new_fork(j)
    j.reset("many_forks", meminfo={"AnonPages": "2180", "AnonHugePages": str(after)})
    write_cell(tmp_path, [j], [("new_fork", Outcome.ENDED, 1, "")])
    assert judged(tmp_path)["new_fork"][0] is Verdict.PASS


@pytest.mark.parametrize("meminfo", [{}, {"AnonPages": "many"}, ["AnonPages"]])
def test_anonymous_pages_that_are_not_told_are_not_judged(tmp_path: Path, meminfo: object) -> None:
    j = Journal()
    j.hello()
    j.reset("new_fork", meminfo=meminfo)
    new_fork(j)
    j.reset("many_forks", meminfo={"AnonPages": "99999"})
    write_cell(tmp_path, [j], [("new_fork", Outcome.ENDED, 1, "")])
    assert judged(tmp_path)["new_fork"][0] is Verdict.PASS


def test_a_first_reset_that_failed_otherwise_is_no_verdict_about_ksm(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    j.reset("new_fork", ok=False, ksm={"full_scans": "1"}, left={}, why="mkdir: No space left on device")
    write_cell(tmp_path, [j], [("new_fork", Outcome.INFRA, 1, "right after boot: reset failed")])
    assert judged(tmp_path)["new_fork"][0] is Verdict.INFRA


def test_an_anchor_that_could_not_be_made_mergeable_is_a_warning(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    j.boot("anchor", errno="EINVAL")
    j.reset("new_fork")
    new_fork(j)
    write_cell(tmp_path, [j], [("new_fork", Outcome.ENDED, 1, "")])
    result = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, make=Scripted())
    assert any("MADV_MERGEABLE failed with EINVAL" in w for w in result.warnings)


def test_guest_that_never_says_hello(tmp_path: Path) -> None:
    record = write_cell(tmp_path, [None], [("new_fork", Outcome.NOTRUN, 0, "")], ["Kernel panic - not syncing: VFS: no root\n"])
    record.boots[0].stop, record.boots[0].reason = Stop.NO_TOKEN, "the guest went down before init said hello"
    record.write(tmp_path)
    results = judged(tmp_path)
    assert {v for v, _ in results.values()} == {Verdict.BOOT}
    assert results["new_fork"][1].startswith("the guest went down before init said hello: Kernel panic")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"version": 1}', b'{"version": 99}', b"\xff\xfe"])
def test_without_a_usable_cell_json_the_journal_speaks(tmp_path: Path, content: bytes | None) -> None:
    j = journal("new_fork")
    j.reset("many_forks")
    new_fork(j, "many_forks", until="reclaim")
    write_cell(tmp_path, [j], both())
    if content is None:
        (tmp_path / "cell.json").unlink()
    else:
        (tmp_path / "cell.json").write_bytes(content)
    results = judged(tmp_path)
    assert results["new_fork"][0] is Verdict.PASS
    assert results["many_forks"][0] is Verdict.LOST


def test_empty_and_missing_directories(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nothing"):
        assert {v for v, _ in judged(directory).values()} == {Verdict.INFRA}


def test_missing_journal(tmp_path: Path) -> None:
    write_cell(tmp_path, [journal("new_fork", "many_forks")], both())
    (tmp_path / "journal.jsonl").unlink()
    (tmp_path / "console.log").unlink()
    assert {v for v, _ in judged(tmp_path).values()} == {Verdict.LOST}


def test_rejudging_keeps_what_never_booted_and_judges_the_rest_anew(tmp_path: Path) -> None:
    write_cell(tmp_path / "cells" / "x86_64", [journal("new_fork", "many_forks")], both())
    first = judge_cell(tmp_path / "cells" / "x86_64", "x86_64", "x86_64", PLANNED, {"tree": "t"}, Scripted())
    broken = judge_cell(tmp_path / "nothing", "ppc64", "ppc64", PLANNED, make=Scripted())
    run = RunResult((first, broken), "debian:6.1", ("ksm-harness", "run"), "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "0.1")
    again = rejudge(run, tmp_path, Scripted("after reclaim"))
    assert [w.verdict for w in again.cells[0].workloads] == [Verdict.FAIL, Verdict.FAIL]
    assert again.cells[0].facts["tree"] == "t"
    assert again.cells[1] == broken
    assert again.command == run.command


def test_large_journals_stream() -> None:
    """6 MB of observations through the replay hold only a small part of it in memory at any time."""
    j = Journal()
    j.hello()
    j.begin("new_fork", ("P1",))
    ragged = {f"P{i}": {"a": [r for k in range(400) for r in swapped(1, k * 7)]} for i in range(20)}
    head = b"".join(j.lines)
    body = observation("x", ragged, 1, 1)

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(40):
            j.lines.clear()
            j.load("obs", **body)
            yield j.lines[0]
        j.lines.clear()
        j.end()
        yield j.lines[0]

    tracemalloc.start()
    try:
        seen = replay(pieces(), Scripted())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen.accounts[0].problem == ""
    assert peak < 4 << 20


def test_strange_but_well_sealed_records_raise_nothing() -> None:
    strange: list[dict[str, Any]] = [
        {"properties": 7, "workload": None},
        {"properties": ["P1", 3, None]},
        {"properties": {"a": 1}, "workload": ["x"]},
    ]
    for fields in strange:
        j = Journal()
        j.hello(taint="much")
        j.reset("x", ok="yes", ksm=["pages_shared"], taint=[1], why=None)
        j.load("begin", **fields)
        for kind in ("op", "ret", "obs", "note", "error", "stuck", "skip", "unheard-of"):
            j.load(kind, label="", op=None, of=None)
        seen = replay([j.data], Scripted())
        assert len(seen.accounts) == 1
        assert records(j.data)[0]["kind"] == "hello"


def test_signal_that_the_workload_died_of_is_told(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    new_fork(j, until="reclaim")
    j.boot("done", workload="new_fork", known=True, exit=-1, signal=11, taint=0)
    write_cell(tmp_path, [j], both()[:1])
    verdict, reason = judged(tmp_path)["new_fork"]
    assert verdict is Verdict.LOST
    assert reason.startswith("the journal ended before the workload did: the workload died of signal 11, during reclaim")

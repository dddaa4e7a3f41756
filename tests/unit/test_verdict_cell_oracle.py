# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell's directory to verdicts by the oracle itself: what it finds, what it does not judge, what it cannot believe."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.findings import Tier
from harness.results import CellResult, Verdict, WorkloadResult
from harness.verdict import judge_cell
from tests.unit.scripted_oracle import both
from tests.unit.story import Journal, new_fork, observation, write_cell


def real(directory: Path, stuck: tuple[str, ...], why: str = "") -> WorkloadResult:
    j = Journal()
    j.hello()
    j.reset("new_fork")
    new_fork(j, stuck=stuck, why=why)
    j.reset("")
    write_cell(directory, [j], both()[:1])
    return judge_cell(directory, "x86_64", "x86_64", {"new_fork": ("P1",)}).workloads[0]


def test_kernel_that_unmaps_new_forks_passes(tmp_path: Path) -> None:
    result = real(tmp_path, ())
    assert (result.verdict, result.reason, result.findings) == (Verdict.PASS, "", ())


def test_kernel_that_does_not_unmap_new_forks_fails_for_p1(tmp_path: Path) -> None:
    result = real(tmp_path, ("C",))
    assert result.verdict is Verdict.FAIL
    first = result.findings[0]
    assert (first.signature, first.tier, first.actors, first.pages) == (
        "P1:still-mapped:reclaim",
        Tier.SAFETY,
        ("C",),
        "C.a[0..255]",
    )
    assert "still maps 256 KSM pages after reclaim" in result.reason


def test_reclaim_that_its_deadline_cut_off_is_not_judged(tmp_path: Path) -> None:
    result = real(tmp_path, ("C",), why="deadline")
    assert result.verdict is Verdict.INFRA
    assert result.findings[0].signature == "P1:still-mapped:reclaim"
    assert result.reason.startswith("reclaim did not come to rest within its deadline (seq ")


def noted(directory: Path, *observations: bool, scans: int = 0) -> CellResult:
    """Scans that nobody asked for, a scan, and observations that were stable or not."""
    j = Journal()
    j.hello()
    j.begin("new_fork", ("P1",))
    j.do("scan", scans=1, result={"from": scans, "to": scans + 1, "pokes": 1})
    for stable in observations:
        j.load("obs", **{**observation("merged", {}, 0, 0), "ksm": {}, "stable": stable})
    j.end()
    write_cell(directory, [j], both()[:1])
    return judge_cell(directory, "x86_64", "x86_64", {"new_fork": ("P1",)})


def test_what_the_oracle_did_not_judge_is_a_warning_told_once(tmp_path: Path) -> None:
    result = noted(tmp_path, False, False)
    assert result.warnings == (
        "new_fork: obs record 3: the guest's readings differed from each other; it is not judged (and 1 more like it)",
    )
    assert result.workloads[0].verdict is Verdict.LOST
    assert result.workloads[0].reason == "observation merged was never stable: cannot be judged"


def test_scans_of_the_reset_are_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "harness.verdict"):
        result = noted(tmp_path, True, scans=5)
    assert (result.workloads[0].verdict, result.warnings) == (Verdict.PASS, ())
    assert "ksmd had made 5 full scans before" in caplog.text


def test_journal_that_the_real_oracle_cannot_believe_is_lost(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    j.begin("new_fork", ("P1",))
    j.load("ret", of=7, op="fork", rc=0, errno="")
    j.end()
    write_cell(tmp_path, [j], both()[:1])
    result = judge_cell(tmp_path, "x86_64", "x86_64", {"new_fork": ("P1",)}).workloads[0]
    assert result.verdict is Verdict.LOST
    assert result.reason.startswith("the journal contradicts itself at record 1: ")

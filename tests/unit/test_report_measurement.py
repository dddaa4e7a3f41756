# SPDX-License-Identifier: GPL-2.0-or-later
"""A workload that shows no property measures: that it came to its end is counted nowhere as a test that has passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import expectation
from harness.cli import main
from harness.errors import ExitCode
from harness.report import exit_code, html, junit, write_run
from harness.report.demands import gains, unmet
from harness.report.runfile import from_data, to_data
from harness.report.seen import describe
from harness.report.terminal import plain
from harness.results import CellResult, RunResult, Verdict, WorkloadResult

PASSED = WorkloadResult("new_fork", ("P1",), Verdict.PASS)
SKIPPED = WorkloadResult("numa_nodes", ("P20",), Verdict.SKIP, "one NUMA node")


def run(measured: Verdict, *others: WorkloadResult) -> RunResult:
    measurement = WorkloadResult("calibrate", (), measured, "" if measured is Verdict.PASS else "a reason")
    return RunResult((CellResult("x86_64", "x86_64", (measurement, *others)),), "image:k", finished="x")


@pytest.mark.parametrize("measured", [Verdict.PASS, Verdict.SKIP])
def test_it_is_shown_and_not_counted(measured: Verdict, tmp_path: Path) -> None:
    good = run(measured, PASSED)
    text = plain(good)
    assert "calibrate           measured" in text
    assert "image:k: good (1 workload passed)" in text
    assert "1 PASS |" in describe([good], {})
    assert b"calibrate" not in junit.junit(good, tmp_path)
    page = html.html(good, tmp_path)
    assert 'class="chip SKIP">measured</span>' in page
    assert "PASS</span> 1</span>" in page
    assert "SKIP</span>" not in page
    assert list(expectation.recorded([good])["x86_64"]) == ["new_fork"]


def test_what_is_loaded_again_is_the_same() -> None:
    good = run(Verdict.PASS, PASSED)
    assert from_data(to_data(good)) == good


@pytest.mark.parametrize("others", [(), (SKIPPED,)])
def test_a_run_that_has_only_measured_has_judged_nothing(others: tuple[WorkloadResult, ...]) -> None:
    assert exit_code(run(Verdict.PASS, *others)) is ExitCode.CANNOT_JUDGE
    assert exit_code(run(Verdict.PASS, *others, PASSED)) is ExitCode.GOOD
    why = "all workloads were skipped: one NUMA node" if others else "no workload that ran shows a property"
    assert plain(run(Verdict.PASS, *others)).rstrip().endswith(f"image:k: could not be judged ({why})")


@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.CRASH, ExitCode.BAD), (Verdict.HANG, ExitCode.BAD), (Verdict.LOST, ExitCode.CANNOT_JUDGE)]
)
def test_if_it_does_not_come_to_its_end_that_counts(verdict: Verdict, code: ExitCode, tmp_path: Path) -> None:
    wrong = run(verdict, PASSED)
    assert exit_code(wrong) is code
    assert b'classname="ksm-harness.x86_64.calibrate"' in junit.junit(wrong, tmp_path)
    assert f"1 PASS, 1 {verdict} [1]" in describe([wrong], {})
    assert "of 2 workloads" in plain(wrong)


def test_it_is_no_matter_of_expectations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, run(Verdict.PASS, PASSED))
    assert main(["expect", str(tmp_path)]) == ExitCode.GOOD
    (tmp_path / "expected.toml").write_text(capsys.readouterr().out)
    expected = expectation.load(tmp_path / "expected.toml")
    for measured in (Verdict.PASS, Verdict.SKIP):
        again = run(measured, PASSED)
        held = RunResult(again.cells, again.kernel, expect=expected)
        assert (unmet(held), gains(held)) == ((), ())

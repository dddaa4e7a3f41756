# SPDX-License-Identifier: GPL-2.0-or-later
"""--only SIGNATURE: one symptom is followed, and what is wrong otherwise does not lead a bisection astray."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode
from harness.findings import Tier
from harness.pipeline import _ends
from harness.report import exit_code, load_run, plain, write_run
from harness.report.html import answer
from harness.results import CellResult, CrashReport, RunResult, Verdict, WorkloadResult

from .results_sample import still_mapped

MAPPED = still_mapped("new_fork", "P1", 7)
COUNTER = dataclasses.replace(MAPPED, prop="P14", kind="counter", op="scan", tier=Tier.ACCOUNTING)
FOLLOWING = dataclasses.replace(MAPPED, follows=True)
AGEING = dataclasses.replace(MAPPED, prop="P12", kind="referenced", tier=Tier.HEURISTIC)
BUG = CrashReport("bug", "kernel BUG at mm/rmap.c:411!", "kernel BUG at mm/rmap.c:411!\n", 188, True)

P1 = "P1:still-mapped:reclaim"


def workload(verdict: Verdict, *findings: object, crashes: tuple[CrashReport, ...] = (), reason: str = "x") -> WorkloadResult:
    return WorkloadResult("new_fork", ("P1",), verdict, reason, findings=findings, crashes=crashes)  # type: ignore[arg-type]


def run(only: str, *workloads: WorkloadResult) -> RunResult:
    return RunResult((CellResult("x86_64", "x86_64", workloads),), "tree:/linux", ("ksm-harness", "run"), "a", "b", "1", only)


PASSED = workload(Verdict.PASS)
FAILED = workload(Verdict.FAIL, MAPPED)
OTHERWISE = workload(Verdict.FAIL, COUNTER)
CRASHED = workload(Verdict.CRASH, crashes=(BUG,))


@pytest.mark.parametrize(
    ("only", "workloads", "code"),
    [
        ("", (FAILED,), ExitCode.BAD),
        ("", (CRASHED, PASSED), ExitCode.BAD),
        (P1, (PASSED, PASSED), ExitCode.GOOD),
        (P1, (FAILED, PASSED), ExitCode.BAD),
        (P1, (FAILED, OTHERWISE), ExitCode.BAD),
        (P1, (FAILED, workload(Verdict.LOST)), ExitCode.BAD),
        (P1, (workload(Verdict.FAIL, COUNTER, MAPPED),), ExitCode.BAD),
        (P1, (OTHERWISE, PASSED), ExitCode.CANNOT_JUDGE),
        (P1, (CRASHED, PASSED), ExitCode.CANNOT_JUDGE),
        (P1, (workload(Verdict.HANG), PASSED), ExitCode.CANNOT_JUDGE),
        (P1, (workload(Verdict.BUILD),), ExitCode.CANNOT_JUDGE),
        (P1, (PASSED, workload(Verdict.INFRA)), ExitCode.CANNOT_JUDGE),
        (P1, (workload(Verdict.FAIL, COUNTER, FOLLOWING),), ExitCode.CANNOT_JUDGE),
        (P1, (workload(Verdict.LOST, MAPPED),), ExitCode.CANNOT_JUDGE),
        (P1, (workload(Verdict.CRASH, MAPPED, crashes=(BUG,)),), ExitCode.BAD),
        ("P1:*", (FAILED,), ExitCode.BAD),
        ("P1:*", (OTHERWISE,), ExitCode.CANNOT_JUDGE),
        ("CRASH:*", (CRASHED,), ExitCode.BAD),
        ("CRASH:kernel BUG at mm/rmap.c:#!", (CRASHED,), ExitCode.BAD),
        ("CRASH:*", (FAILED, workload(Verdict.HANG)), ExitCode.CANNOT_JUDGE),
        ("p1:still-mapped:reclaim", (FAILED,), ExitCode.CANNOT_JUDGE),
        (P1, (workload(Verdict.SKIP),), ExitCode.CANNOT_JUDGE),
    ],
)
def test_exit_codes(only: str, workloads: tuple[WorkloadResult, ...], code: ExitCode) -> None:
    assert exit_code(run(only, *workloads)) is code


def test_reports_say_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run(P1, OTHERWISE, PASSED)
    assert "bad in another way than by P1:still-mapped:reclaim: P14:counter:scan" in plain(other)
    assert answer(other) == ("bad in another way than by P1:still-mapped:reclaim", "unjudged")
    assert "bad, by P1:still-mapped:reclaim" in plain(run(P1, FAILED))
    assert answer(run(P1, FAILED)) == ("bad, by P1:still-mapped:reclaim", "bad")
    assert "good" in plain(run(P1, PASSED))
    write_run(tmp_path, other)
    assert load_run(tmp_path) == other
    assert json.loads((tmp_path / "run.json").read_text())["exit_code"] == 125


def test_fail_fast_waits_for_what_was_asked_for() -> None:
    assert _ends("", MAPPED)
    assert not _ends("", AGEING)
    assert _ends(P1, MAPPED)
    assert not _ends(P1, COUNTER)
    assert not _ends(P1, FOLLOWING)
    assert _ends("P12:*", AGEING), "even a heuristic one, if it is asked for"


@pytest.mark.parametrize("words", ["", " ", "a\nb"])
def test_no_signature(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--only", words, "--out", str(tmp_path / "out")]) == ExitCode.USAGE
    assert "no signature" in capsys.readouterr().err

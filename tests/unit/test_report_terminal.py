# SPDX-License-Identifier: GPL-2.0-or-later
"""The final table, grouping, progress, and text fit for a terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from harness.report import Progress, judge, report, write_reports
from harness.report.problems import problems
from harness.report.properties import by_property
from harness.report.terminal import plain, show, show_rows
from harness.report.text import fit, line, seconds
from harness.results import CellResult, RunResult, Verdict, WorkloadResult
from tests.unit.results_sample import NASTY, hostile, sample, still_mapped


def test_table_problems_answer_and_paths() -> None:
    text = plain(sample(), [Path("/out/run.json"), Path("/out/report.html")])
    lines = text.splitlines()
    assert lines[0].split() == ["workload", "shows", "x86_64", "ppc64"]
    assert next(x for x in lines if x.startswith("new_fork")).split() == ["new_fork", "P1", "FAIL", "FAIL"]
    at = next(i for i, x in enumerate(lines) if x.startswith("FAIL P1:still-mapped:reclaim"))
    assert lines[at].endswith("in x86_64/new_fork, x86_64/unmerge, ppc64/new_fork, ppc64/unmerge")
    assert lines[at + 1].startswith("  child C still maps 256 KSM pages after reclaim")
    assert text.count("child C still maps 256 KSM pages after reclaim") == 2  # P1, and P8 of the inconsistent journal
    assert "debian:6.1: bad (8 of 16 workloads, 4 could not be judged)" in lines
    assert lines[-2:] == ["  /out/run.json", "  /out/report.html"]


def test_no_colours_and_no_guests_escapes_off_a_terminal() -> None:
    out = io.StringIO()
    show(hostile(), file=out)
    text = out.getvalue()
    assert not any(c in text for c in "\x1b\0\x0b\u202e\ud800")
    text.encode("utf-8")
    assert "[[ATTACHMENT" in text  # and no markup of rich's is taken from it


@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        ([Verdict.PASS, Verdict.PASS, Verdict.SKIP], "k: good (2 workloads passed, 1 skipped)"),
        ([Verdict.PASS, Verdict.BOOT], "k: could not be judged (1 of 2 workloads were not)"),
        ([Verdict.FAIL, Verdict.BOOT], "k: bad (1 of 2 workloads, 1 could not be judged)"),
    ],
)
def test_answer(verdicts: list[Verdict], wanted: str) -> None:
    run = RunResult((CellResult("c", "c", tuple(WorkloadResult(f"w{i}", ("P1",), v, "r") for i, v in enumerate(verdicts))),), "k")
    assert plain(run).splitlines()[-1] == wanted


def test_problems_are_one_over_cells_what_weighs_most_first() -> None:
    found = problems(sample(cells=("a", "b", "c", "d")))
    assert [(p.verdict.value, len(p.cells)) for p in found] == [
        ("CRASH", 4),
        ("HANG", 4),
        ("FAIL", 4),
        ("LOST", 4),
        ("LOST", 4),
        ("INFRA", 4),
    ]
    fail = found[2]
    assert (fail.signature, fail.workloads, len(fail.places)) == ("P1:still-mapped:reclaim", ("new_fork", "unmerge"), 8)


def test_crashes_that_differ_in_numbers_only_are_one_problem() -> None:
    def crash(cell: str, reason: str) -> CellResult:
        return CellResult(cell, cell, (WorkloadResult("w", ("P1",), Verdict.CRASH, reason),))

    run = RunResult(
        (
            crash("a", "BUG at mm/rmap.c:411!, during churn (seq 7) of P5"),
            crash("b", "BUG at mm/rmap.c:409!, during churn (seq 9) of P5"),
        ),
        "k",
    )
    assert [p.cells for p in problems(run)] == [("a", "b")]


@pytest.mark.parametrize(
    ("workload", "wanted"),
    [
        (WorkloadResult("w", ("P1", "P2"), Verdict.PASS), {"P1": "PASS", "P2": "PASS"}),
        (WorkloadResult("w", ("P1", "P2"), Verdict.SKIP, "r"), {"P1": "SKIP", "P2": "SKIP"}),
        (WorkloadResult("w", ("P1", "P2"), Verdict.FAIL, "r", (still_mapped("w", "P2", 1),)), {"P1": "PASS", "P2": "FAIL"}),
        (
            WorkloadResult("w", ("P1", "P2"), Verdict.FAIL, "r", (still_mapped("w", "P2", 1),), complete=False),
            {"P1": "LOST", "P2": "FAIL"},
        ),
        (
            WorkloadResult("w", ("P1", "P2", "P3"), Verdict.CRASH, "r", (still_mapped("w", "P2", 1),), (), "x", "P3"),
            {"P1": "LOST", "P2": "FAIL", "P3": "CRASH"},
        ),
        (WorkloadResult("w", ("P1", "P2"), Verdict.CRASH, "r"), {"P1": "CRASH", "P2": "CRASH"}),
        (WorkloadResult("w", ("P1", "P2"), Verdict.LOST, "r", (still_mapped("w", "P2", 1),)), {"P1": "LOST", "P2": "LOST"}),
        (WorkloadResult("w", ("P1",), Verdict.FAIL, "r", (still_mapped("w", "P9", 1),)), {"P1": "PASS", "P9": "FAIL"}),
    ],
)
def test_properties_of_a_workload(workload: WorkloadResult, wanted: dict[str, str]) -> None:
    assert {p.prop: p.verdict.value for p in by_property(workload)} == wanted


def test_rows_as_table_and_as_json() -> None:
    rows: list[dict[str, Any]] = [
        {"target": "x86_64", "kvm": True, "fragments": ["base", "x86_64"]},
        {"target": "ppc64", "kvm": None, "fragments": []},
    ]
    out = io.StringIO()
    show_rows(rows, file=out)
    assert out.getvalue().splitlines()[2].split() == ["x86_64", "yes", "base", "x86_64"]
    out = io.StringIO()
    show_rows(rows, as_json=True, file=out)
    assert json.loads(out.getvalue()) == rows


def test_progress_off_a_terminal_is_throttled_lines() -> None:
    now = 0.0
    out = io.StringIO()
    with Progress(out, clock=lambda: now) as progress:
        for i in range(100):
            now = i * 1.0
            progress.cell("x86_64", "building", f"{i * 21}/2100", i / 100)
        progress.cell("x86_64", "running", "new_fork")
        progress.cell("x86_64", "running", "many_forks")
        progress.cell("ppc64", "building", NASTY)
        progress.done("x86_64", "PASS")
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["x86_64: building 0/2100 (0%)", "x86_64: building 315/2100 (15%)"]
    assert sum("building" in x and x.startswith("x86_64") for x in lines) == 7
    assert sum("running" in x for x in lines) == 1
    assert lines[-1] == "x86_64: PASS"
    assert "\x1b" not in out.getvalue()


def test_progress_on_a_terminal_is_live_and_leaves_only_the_last_words() -> None:
    out = io.StringIO()
    with Progress(out, live=True) as progress:
        progress.cell("x86_64", "building", "812/2100", 0.4)
        progress.say("tcg: no /dev/kvm")
        progress.done("x86_64", "FAIL " + NASTY)
        progress.cell("ppc64", "running", "\x1b[2Jnew_fork")
    text = out.getvalue()
    assert "tcg: no /dev/kvm" in text
    assert "x86_64: FAIL" in text
    assert "\x1b[2J" not in text


def test_fit_keeps_what_can_be_shown() -> None:
    assert fit("a\tb\nc é 🐧") == "a\tb\nc é 🐧"
    assert fit("\r\n\0\x1b[1m\x85\ud800\u202e") == "\n��[1m���"
    assert len(fit("x" * 10_000, 100)) < 160
    assert line(" a\n  b\t c ", 5) == "a b c"
    assert line("abcdefgh", 5) == "abcd…"


@pytest.mark.parametrize(
    ("value", "wanted"), [(0.336, "0.34 s"), (12.06, "12.1 s"), (185, "3:05"), (3725, "1:02:05"), (99.97, "100.0 s")]
)
def test_durations(value: float, wanted: str) -> None:
    assert seconds(value) == wanted


def test_reports_of_a_stored_run(tmp_path: Path) -> None:
    run = sample(tmp_path)
    paths = write_reports(tmp_path, run)
    assert [p.name for p in paths] == ["run.json", "junit.xml", "report.html"]
    before = {p.name: p.read_bytes() for p in paths}
    again, _ = report(tmp_path)
    assert again == run
    assert {p.name: p.read_bytes() for p in paths} == before
    rejudged = judge(tmp_path)
    assert [c.cell for c in rejudged.cells] == ["x86_64", "ppc64"]
    # The sample claims workloads of which the journals know nothing.
    assert next(w for w in rejudged.cells[0].workloads if w.workload == "stuck").verdict is Verdict.LOST
    assert (tmp_path / "run.json").read_bytes() != before["run.json"]


def test_findings_that_do_not_count_are_a_problem_of_their_own() -> None:
    found = (still_mapped("w", "P1", 3),)
    cut = WorkloadResult("cut", ("P1",), Verdict.LOST, "checksum", found)
    bad = WorkloadResult("w", ("P1",), Verdict.FAIL, "r", found)
    got = problems(RunResult((CellResult("c", "c", (cut, bad)),), "k"))
    assert [(p.verdict.value, p.workloads) for p in got if p.finding] == [("FAIL", ("w",)), ("LOST", ("cut",))]

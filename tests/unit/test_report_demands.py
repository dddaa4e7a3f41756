# SPDX-License-Identifier: GPL-2.0-or-later
"""--require and --expect: a property that nobody judged, or a skip that is new, is not taken for a good kernel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from harness import expectation
from harness.cli import main
from harness.errors import ExitCode, UsageError
from harness.expectation import Expectation, Expected
from harness.report import exit_code, load_run, plain, write_reports, write_run
from harness.report.demands import gains, unmet
from harness.report.html import html
from harness.report.junit import junit
from harness.results import CellResult, RunResult, Verdict, WorkloadResult

from .results_sample import still_mapped

ONE_NODE = "the guest has one NUMA node"


def run(*workloads: WorkloadResult, require: tuple[str, ...] = (), expect: Expectation | None = None) -> RunResult:
    cell = CellResult("x86_64", "x86_64", workloads)
    return RunResult((cell,), "debian:6.12", ("ksm-harness", "run"), "a", "b", "1", "", require, expect)


def load(name: str, verdict: Verdict = Verdict.PASS, reason: str = "", properties: tuple[str, ...] = ("P1",)) -> WorkloadResult:
    return WorkloadResult(name, properties, verdict, reason)


def outcomes(result: RunResult) -> dict[tuple[str, str], list[str]]:
    """The elements of each case of junit.xml."""
    root: Any = etree.fromstring(junit(result, Path("/nowhere")))
    cases = root.iter("testcase")
    return {(c.get("classname"), c.get("name")): [str(e.tag) for e in c if e.tag != "system-out"] for c in cases}


FORK = load("new_fork")
NODES = load("numa_nodes", Verdict.SKIP, ONE_NODE, ("P19", "P20"))
MOVED = load("migration", properties=("P19",))
RECORDED = {"x86_64": {"new_fork": Expected(("P1",)), "numa_nodes": Expected(skip=ONE_NODE)}}


@pytest.mark.parametrize(
    ("workloads", "require", "code", "says"),
    [
        ((FORK, NODES), (), ExitCode.GOOD, ""),
        ((FORK, NODES), ("P1",), ExitCode.GOOD, ""),
        (
            (FORK, NODES),
            ("P1", "P19"),
            ExitCode.CANNOT_JUDGE,
            f"P19: is required and was not judged (numa_nodes: SKIP, {ONE_NODE})",
        ),
        ((FORK, NODES, MOVED), ("P19",), ExitCode.GOOD, ""),
        ((FORK, NODES, MOVED), ("P20",), ExitCode.CANNOT_JUDGE, "numa_nodes: SKIP"),
        ((FORK,), ("P9",), ExitCode.CANNOT_JUDGE, "no workload that ran shows it"),
        ((load("new_fork", Verdict.LOST, "cut"),), ("P1",), ExitCode.CANNOT_JUDGE, "new_fork: LOST, cut"),
        ((FORK, load("old", Verdict.HANG, "stuck", ("P5",)), NODES), ("P5",), ExitCode.BAD, ""),
        ((FORK, load("old", Verdict.HANG, "stuck", ("P5",)), NODES), ("P19",), ExitCode.BAD, "P19: is required"),
    ],
)
def test_required(workloads: tuple[WorkloadResult, ...], require: tuple[str, ...], code: ExitCode, says: str) -> None:
    result = run(*workloads, require=require)
    assert exit_code(result) is code
    assert ("; ".join(map(str, unmet(result))) != "") is (says != "")
    assert says in "; ".join(map(str, unmet(result)))


def test_every_cell_must_judge_it() -> None:
    good, other = CellResult("a", "a", (FORK, MOVED)), CellResult("b", "b", (FORK, NODES))
    result = RunResult((good, other), "k", require=("P19",))
    assert [s.cell for s in unmet(result)] == ["b"]
    assert exit_code(result) is ExitCode.CANNOT_JUDGE


def test_a_finding_of_a_property_that_is_not_listed_is_no_judgement() -> None:
    found = WorkloadResult("new_fork", ("P1",), Verdict.FAIL, "x", (still_mapped("new_fork", "P9", 3),))
    assert [s.prop for s in unmet(run(found, require=("P1", "P9")))] == ["P9"]


@pytest.mark.parametrize(
    ("workloads", "code", "says"),
    [
        ((FORK, NODES), ExitCode.GOOD, ""),
        ((FORK,), ExitCode.GOOD, ""),
        ((FORK, dataclasses.replace(NODES, reason="no NUMA")), ExitCode.CANNOT_JUDGE, "for another reason than before: no NUMA"),
        (
            (load("new_fork", Verdict.SKIP, "no swap"), MOVED),
            ExitCode.CANNOT_JUDGE,
            "new_fork: was judged before, and is skipped: no swap",
        ),
        ((FORK, load("young", Verdict.SKIP, "no rmap")), ExitCode.CANNOT_JUDGE, "which nothing that is recorded says: no rmap"),
        ((load("new_fork", properties=("P2",)), NODES), ExitCode.CANNOT_JUDGE, "new_fork/P1: was shown before"),
        ((load("new_fork", Verdict.FAIL, "x"), NODES), ExitCode.BAD, ""),
        ((load("new_fork", Verdict.LOST, "x"), NODES), ExitCode.CANNOT_JUDGE, ""),
        ((FORK, MOVED), ExitCode.GOOD, ""),
    ],
)
def test_expected(workloads: tuple[WorkloadResult, ...], code: ExitCode, says: str) -> None:
    result = run(*workloads, expect=RECORDED)
    assert exit_code(result) is code
    assert ("; ".join(map(str, unmet(result))) != "") is (says != "")
    assert says in "; ".join(map(str, unmet(result)))


def test_what_is_better_than_expected_is_told_and_good() -> None:
    result = run(FORK, dataclasses.replace(NODES, verdict=Verdict.PASS), MOVED, expect=RECORDED)
    assert exit_code(result) is ExitCode.GOOD
    assert gains(result) == (
        "x86_64/numa_nodes: passes, and is recorded as skipped",
        "x86_64/migration: passes, and nothing is recorded of it",
    )
    assert gains(run(FORK)) == ()


def test_a_cell_of_which_nothing_is_recorded() -> None:
    result = run(FORK, expect={"ppc64": {}})
    assert exit_code(result) is ExitCode.CANNOT_JUDGE
    assert outcomes(result)["ksm-harness.x86_64.expect", "all"] == ["error"]


def test_all_reports_tell(tmp_path: Path) -> None:
    result = run(load("new_fork", Verdict.SKIP, "no swap"), NODES, MOVED, require=("P19", "P20"), expect=RECORDED)
    write_reports(tmp_path, result)
    assert load_run(tmp_path) == result
    data = json.loads((tmp_path / "run.json").read_text())
    assert data["exit_code"] == 125
    assert [(s["workload"], s["prop"]) for s in data["shortfalls"]] == [("", "P20"), ("new_fork", "")]
    text = plain(result)
    assert "x86_64/new_fork: was judged before, and is skipped: no swap" in text
    assert "SKIP !" in text
    assert "not judged as was asked (2 demands not met)" in text
    page = html(result, tmp_path)
    assert "not judged as was asked" in page
    assert 'href="#shortfalls">not expected' in page
    assert outcomes(result) == {
        ("ksm-harness.x86_64.new_fork", "P1"): ["error"],
        ("ksm-harness.x86_64.numa_nodes", "P19"): ["skipped"],
        ("ksm-harness.x86_64.numa_nodes", "P20"): ["skipped"],
        ("ksm-harness.x86_64.migration", "P19"): [],
        ("ksm-harness.x86_64.require", "P19"): [],
        ("ksm-harness.x86_64.require", "P20"): ["error"],
    }


def test_a_property_that_is_gone_has_a_case() -> None:
    gone = outcomes(run(load("new_fork", properties=("P2",)), expect=RECORDED))
    assert gone == {("ksm-harness.x86_64.new_fork", "P2"): [], ("ksm-harness.x86_64.new_fork", "P1"): ["error"]}


NAMES = st.text(min_size=1, max_size=8)
CELLS = st.dictionaries(
    NAMES,
    st.builds(Expected, st.lists(NAMES, max_size=2).map(tuple)) | st.builds(Expected, skip=st.text(max_size=20)),
    max_size=4,
)


@given(st.dictionaries(NAMES, CELLS, max_size=3))
def test_the_file_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, wanted: Expectation) -> None:
    path = tmp_path_factory.mktemp("expect") / "e.toml"
    path.write_text(expectation.to_toml(wanted), encoding="utf-8")
    assert expectation.load(path) == wanted


def test_a_run_is_recorded_and_held_against(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, run(FORK, NODES))
    assert main(["expect", str(tmp_path)]) == ExitCode.GOOD
    file = tmp_path / "e.toml"
    file.write_text(capsys.readouterr().out)
    assert expectation.load(file) == RECORDED
    assert main(["expect", str(tmp_path), "--out", str(tmp_path / "same.toml")]) == ExitCode.GOOD
    assert (tmp_path / "same.toml").read_text() == file.read_text()


def test_what_was_not_met_can_be_recorded_as_what_is_expected_now() -> None:
    worse = run(load("new_fork", Verdict.SKIP, "no swap"), MOVED, expect=RECORDED)
    assert exit_code(worse) is ExitCode.CANNOT_JUDGE
    assert expectation.recorded([worse])["x86_64"]["new_fork"] == Expected(skip="no swap")


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.LOST])
def test_only_good_runs_are_recorded(tmp_path: Path, verdict: Verdict, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, run(load("new_fork", verdict, "x")))
    assert main(["expect", str(tmp_path)]) == ExitCode.USAGE
    assert "was not good" in capsys.readouterr().err


def test_two_runs_of_one_cell_make_no_file() -> None:
    with pytest.raises(UsageError, match="two runs have a cell 'x86_64'"):
        expectation.recorded([run(FORK), run(FORK)])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "schema None"),
        ("schema = 2", "schema 2"),
        ("schema = 1\ncells = 3", "cells: a table is wanted here, not int"),
        ("schema = 1\n[cells.x]\nfail = 1", "cells.x.fail: a cell has the tables pass and skip"),
        ("schema = 1\n[cells.x.pass]\nw = 'P1'", "cells.x.pass.w: a list of properties"),
        ("schema = 1\n[cells.x.skip]\nw = 1", "cells.x.skip.w: a reason in words"),
        ("schema = 1\n[cells.x.skip]\nw = 'a'\n[cells.x.pass]\nw = []", "w is expected to pass and to be skipped"),
        ("schema =", "e.toml"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(UsageError) as e:
        expectation.load(tmp_path / "e.toml")
    assert says in str(e.value)


def test_demands_that_cannot_be_met_are_129(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSM_HARNESS_STORE", str(tmp_path / "store"))
    assert main(["run", "--workload", "new_fork", "--require", "P1,P99"]) == ExitCode.USAGE
    assert "--require P99: no workload that is to run shows it; they show P1" in capsys.readouterr().err
    (tmp_path / "e.toml").write_text(expectation.to_toml(RECORDED))
    assert main(["run", "--target", "x86_64,ppc64", "--expect", "e.toml"]) == ExitCode.USAGE
    assert "nothing is recorded of the cell ppc64; there is x86_64" in capsys.readouterr().err

# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml against the schema of Jenkins' xUnit plugin, and what each verdict becomes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from harness.report.junit import junit, write_junit
from harness.results import CellResult, RunResult, Verdict, WorkloadResult
from tests.unit.results_sample import FACTS, hostile, sample

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parent / "data" / "junit-10.xsd")))


def parse(run: RunResult, directory: Path = Path("/nowhere")) -> Any:  # the stubs' unions help nobody
    root = etree.fromstring(junit(run, directory))
    SCHEMA.assertValid(root)
    return root


def case(root: Any, classname: str, name: str) -> Any:
    found = [c for c in root.iter("testcase") if (c.get("classname"), c.get("name")) == (classname, name)]
    assert len(found) == 1, (classname, name)
    return found[0]


def outcome(element: Any) -> list[str]:
    return [str(child.tag) for child in element if child.tag != "system-out"]


def test_sample_is_valid_and_counts_add_up() -> None:
    root = parse(sample())
    suite = root[0]
    assert [s.get("name") for s in root] == ["ksm-harness.x86_64", "ksm-harness.ppc64"]
    cases = list(suite.iter("testcase"))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(attribute, "")) == sum(outcome(c) == [tag] for c in cases) > 0
    assert int(suite.get("tests", "")) == len(cases)


@pytest.mark.parametrize(
    ("workload", "prop", "wanted"),
    [
        ("new_fork", "P1", ["failure"]),
        ("many_forks", "P2", []),
        ("many_forks", "P3", []),
        ("anon_vma_kept", "P5", ["failure"]),
        ("anon_vma_kept", "P6", ["error"]),
        ("stuck", "P7", ["failure"]),
        ("unmerge", "P18", []),
        ("unmerge", "P1", ["failure"]),
        ("old", "P17", ["skipped"]),
        ("cut", "P8", ["error"]),
        ("never", "all", ["error"]),
    ],
)
def test_verdicts_as_elements(workload: str, prop: str, wanted: list[str]) -> None:
    assert outcome(case(parse(sample()), f"ksm-harness.x86_64.{workload}", prop)) == wanted


@pytest.mark.parametrize("verdict", list(Verdict))
def test_each_verdict_is_valid(verdict: Verdict) -> None:
    run = RunResult((CellResult("c", "c", (WorkloadResult("w", ("P1",), verdict, "why so"),)),), "k")
    element = case(parse(run), "ksm-harness.c.w", "P1")
    wanted = (
        [] if verdict is Verdict.PASS else ["skipped"] if verdict is Verdict.SKIP else ["failure"] if verdict.bad else ["error"]
    )
    if verdict is not Verdict.FAIL:  # a FAIL without any finding does not come about
        assert outcome(element) == wanted
    if wanted and verdict is not Verdict.FAIL:
        assert "why so" in (element[0].get("message") or "")


def test_failure_says_what_an_mm_developer_wants_to_read() -> None:
    failure = case(parse(sample()), "ksm-harness.x86_64.new_fork", "P1")[0]
    assert (failure.get("message") or "").startswith("P1:still-mapped:reclaim: child C still maps 256 KSM pages")
    assert "expected: C.a: 256 pages swapped" in (failure.text or "")


def test_crash_text_and_operation_in_progress() -> None:
    failure = case(parse(sample()), "ksm-harness.x86_64.anon_vma_kept", "P5")[0]
    assert failure.get("type") == "CRASH"
    assert "in progress: churn (seq 61) P5" in (failure.text or "")
    assert "unlink_anon_vmas" in (failure.text or "")


def test_properties_of_the_suite() -> None:
    found = {p.get("name"): p.get("value") for p in parse(sample())[0].iter("property")}
    assert FACTS.items() <= found.items()
    assert found["spec"] == "debian:6.1"


def test_names_carry_no_revision() -> None:
    def names(run: RunResult) -> list[tuple[str | None, str | None]]:
        return [(e.get("classname"), e.get("name")) for e in parse(run).iter("testsuite", "testcase")]

    run = sample()
    other = dataclasses.replace(
        run,
        kernel="tree:/home/me/linux",
        started="2027-01-01T00:00:00Z",
        version="9",
        cells=tuple(dataclasses.replace(c, facts=dict.fromkeys(c.facts, "other")) for c in run.cells),
    )
    assert names(run) == names(other)


def test_attachments_are_absolute_and_only_files_that_exist(tmp_path: Path) -> None:
    root = parse(sample(tmp_path), tmp_path)
    element = case(root, "ksm-harness.x86_64.new_fork", "P1")
    lines = (element.findtext("system-out") or "").split("\n")
    assert f"[[ATTACHMENT|{tmp_path}/cells/x86_64/console.log]]" in lines
    assert f"[[ATTACHMENT|{tmp_path}/cells/x86_64/journal.jsonl]]" in lines
    assert not any("evidence" in text for text in lines)
    assert case(root, "ksm-harness.x86_64.many_forks", "P2").find("system-out") is None


def test_attachments_are_of_the_boot_that_the_workload_ran_in(tmp_path: Path) -> None:
    place = tmp_path / "cells" / "c"
    place.mkdir(parents=True)
    mine = ["console.2.log", "evidence.2.txt", "journal.2.jsonl", "qemu.2.cmd"]
    for name in (*mine, "console.log", "evidence.txt", "journal.jsonl", "qemu.cmd"):
        (place / name).touch()
    run = RunResult((CellResult("c", "c", (WorkloadResult("w", ("P1",), Verdict.HANG, "x", boot=2),)),), "k")
    text = case(parse(run, tmp_path), "ksm-harness.c.w", "P1").findtext("system-out") or ""
    assert sorted(text.split("\n")) == [f"[[ATTACHMENT|{place}/{name}]]" for name in mine]


def test_nasty_text_is_valid_and_harmless() -> None:
    root = parse(hostile())
    text = etree.tostring(root, encoding="unicode")
    assert not any(c in text for c in "\0\x1b\x0b\ufffe")
    assert not list(root.iter("script"))
    assert "\U0001f427" in text
    assert len(text) < 1 << 20
    # Only attachments may look like attachments: a guest names no file of the host.
    assert "[[ATTACHMENT|" not in text


def test_empty_run_is_valid() -> None:
    parse(RunResult((), "debian:6.1"))


def test_long_times_keep_to_the_schema() -> None:
    parse(RunResult((CellResult("c", "c", (WorkloadResult("w", ("P1", "P2", "P3"), Verdict.PASS, seconds=4000.12345),)),), "k"))


def test_written_as_a_whole(tmp_path: Path) -> None:
    path = write_junit(tmp_path, sample())
    SCHEMA.assertValid(etree.parse(str(path)))
    assert [p.name for p in tmp_path.iterdir()] == ["junit.xml"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job: an unmodified kernel is judged good, on all four targets."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from harness.journal.reader import read
from harness.results import Verdict

from .conftest import TARGETS, Ended, Harness, execute

pytestmark = pytest.mark.system

XSD = Path(__file__).parents[1] / "unit" / "data" / "junit-10.xsd"


def test_all_pass(good: Ended) -> None:
    assert good.code == 0, good.told()
    run = good.run
    assert [c.cell for c in run.cells] == list(TARGETS)
    for cell in run.cells:
        assert {w.workload: w.verdict for w in cell.workloads} == {w.workload: Verdict.PASS for w in cell.workloads}, cell.cell
        assert {p for w in cell.workloads for p in w.properties} == {f"P{n}" for n in range(1, 24)}
        assert cell.facts["boots"] == "1"
        assert cell.facts["hold_anon_vma"].startswith("yes, evolved: mm/ksm.c:")


def test_each_guest_is_what_it_should_be(good: Ended) -> None:
    facts = {c.cell: c.facts for c in good.run.cells}
    assert {t: (f["page_size"], f["endian"]) for t, f in facts.items()} == {
        "x86_64": ("4096", "little"),
        "aarch64": ("4096", "little"),
        "ppc64": ("65536", "big"),
        "ppc64le": ("65536", "little"),
    }
    for fact in facts.values():
        assert fact["release"].startswith("6.1.")
        assert fact["qemu"].startswith("QEMU emulator version")
        assert fact["accel"] in ("tcg", "kvm")
        assert fact["accel_reason"]
        assert "gcc" in fact["compiler"]


@pytest.mark.parametrize("target", TARGETS)
def test_evidence_is_kept(good: Ended, target: str) -> None:
    cell = good.out / "cells" / target
    for name in ("console.log", "dmesg.txt", "journal.jsonl", "qemu.cmd", "config", "cell.json"):
        assert (cell / name).stat().st_size > 0, name
    assert "Linux version 6.1." in (cell / "dmesg.txt").read_text(encoding="utf-8", errors="replace")
    journal = read([(cell / "journal.jsonl").read_bytes()])
    assert not journal.fault
    for segment in journal.segments:
        assert segment.problem() == ""
        observations = [r for r in segment.records if r["kind"] == "obs"]
        assert observations
        for record in observations:
            assert "SwapFree" in record["meminfo"]
            assert "pswpout" in record["vmstat"]
            assert "pages_sharing" in record["ksm"]


def test_reports(good: Ended) -> None:
    etree.XMLSchema(file=str(XSD)).assertValid(etree.parse(str(good.out / "junit.xml")))
    html = (good.out / "report.html").read_text(encoding="utf-8")
    assert len(html) < 3_000_000
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert "new_fork" in html
    assert "PASS" in good.stdout
    assert str(good.out / "report.html") in good.stdout.replace("\n", "")


def test_nothing_is_built_twice(good: Ended, harness: Harness) -> None:
    again = harness("--target", "all", "--workload", "new_fork")
    assert again.code == 0, again.told()
    for cell in again.run.cells:
        assert cell.facts["kernel_cached"] == "yes"
        assert cell.facts["kernel_key"] == good.facts(cell.cell)["kernel_key"]
        assert cell.timings["kernel"] < 5


def test_no_guest_is_left(good: Ended) -> None:
    ours = str(good.out)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        assert not ("qemu-system" in line and ours in line), line


def test_the_soak_options_work(harness: Harness) -> None:
    ended = harness("--workload", "anon_vma_life,ref_leak", "--arg", "rounds=3", "--arg", "cycles=6", "--arg", "churn=50")
    assert ended.code == 0, ended.told()


def test_the_host_can_be_waited_for(harness: Harness) -> None:
    ended = harness("--workload", "new_fork", "--arg", "sync=1")
    assert ended.code == 0, ended.told()


def test_judged_again_without_a_guest(good: Ended) -> None:
    before = good.run
    ended = execute(good.out, "judge", good.out)
    assert ended.code == 0, ended.told()
    assert [(c.cell, c.workloads) for c in ended.run.cells] == [(c.cell, c.workloads) for c in before.cells]

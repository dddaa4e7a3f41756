# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings are shown while the guest lives, and --fail-fast ends it at the first."""

from __future__ import annotations

import pytest

from harness.results import Verdict

from .conftest import MUTANTS, Harness, execute

pytestmark = pytest.mark.system


def test_fail_fast_ends_at_the_first_finding(harness: Harness) -> None:
    words = ("--patch", MUTANTS / "01-no-second-pass.patch", "--workload", "fork_item,new_fork,fork_tree,unmerge")
    ended = harness(*words, "--fail-fast")
    assert ended.code == 1, ended.told()
    assert ended.verdicts() == {"fork_item": "PASS", "new_fork": "FAIL", "fork_tree": "LOST", "unmerge": "LOST"}, ended.told()
    first = ended.workload("new_fork")
    assert first.findings[0].signature == "P1:still-mapped:reclaim"
    assert ended.workload("unmerge").reason == (
        "was not run: --fail-fast: stopped at the first finding, P1:still-mapped:reclaim in new_fork"
    )
    assert "x86_64: P1:still-mapped:reclaim in new_fork: child C" in ended.stderr
    # It was told while the guest lived, and the files alone give the same.
    assert b'"next":"unmerge"' not in (ended.out / "cells" / "x86_64" / "journal.jsonl").read_bytes()
    before = ended.run.cells[0].workloads
    again = execute(ended.out, "judge", ended.out)
    assert (again.code, again.run.cells[0].workloads) == (1, before), again.told()


def test_fail_fast_lets_a_good_kernel_finish(harness: Harness) -> None:
    ended = harness("--workload", "new_fork,cow", "--fail-fast")
    assert ended.code == 0, ended.told()
    assert {w.verdict for w in ended.run.cells[0].workloads} == {Verdict.PASS}

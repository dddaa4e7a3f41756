# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that refuse what they must do, and kernels broken at ksmd's cursor, in the order of forks, in shared mms."""

from __future__ import annotations

import pytest

from harness.results import Verdict

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system

# patch: the signature that must be told first, the workload that shows it.
BROKEN = {
    "14-mergeable-refused": ("P14:refused:mergeable", "new_fork"),
    "14-mergeable-unregistered": ("P14:refused:scan", "new_fork"),
    "15-fork-refused": ("P15:refused:fork", "new_fork"),
    "18-unmerging-ends-at-hole": ("P18:refused:run", "unmerge"),
    "18-run-always-fails": ("P18:refused:run", "new_fork"),
    "14-newcomer-ahead-of-cursor": ("P14:still-ksm:scan", "half_scanned"),
    "14-exit-moved-behind-cursor": ("P14:counter-pages_sharing:batch", "half_scanned"),
    "01-walk-at-one-address": ("P1:still-mapped:reclaim", "new_fork"),
    "14-shared-mm-taken-for-dead": ("P14:not-ksm:scan", "shared_mm"),
    "16-swapin-copy-is-an-error": ("P16:killed:verify", "swapin"),
    "20-limit-set-while-mapped": ("P20:tunable:set", "chains"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_kernel_is_bad(harness: Harness, name: str) -> None:
    signature, workload = BROKEN[name]
    ended = harness("--patch", MUTANTS / f"{name}.patch", "--workload", workload)
    assert ended.code == 1, ended.told()
    assert ended.workload(workload).findings[0].signature == signature, ended.told()


def test_a_slot_that_is_freed_under_the_cursor_is_a_crash(harness: Harness) -> None:
    ended = harness("--patch", MUTANTS / "14-exit-frees-cursor.patch", "--workload", "half_scanned")
    assert ended.code == 1, ended.told()
    assert ended.workload("half_scanned").verdict is Verdict.CRASH, ended.told()


def test_a_fork_that_does_not_count_must_not_end_the_walk(harness: Harness) -> None:
    ended = harness("--patch", MUTANTS / "13-foreign-fork-ends-tree.patch", "--workload", "memcg_references")
    assert ended.code == 1, ended.told()
    assert "P13" in ended.properties(), ended.told()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels broken in what mremap, chains, NUMA nodes, the blind spot and special memory have to do with KSM."""

from __future__ import annotations

import pytest

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system

# patch: the property that must be named first, the workload that shows it.
BROKEN = {
    "11-move-without-unmerge": ("P11", "remap"),
    "11-walk-by-index": ("P11", "remap"),
    "20-chain-never-collapses": ("P20", "chains"),
    "20-dups-miscounted": ("P20", "chains"),
    "20-emptiest-dup": ("P20", "chains"),
    "20-limit-off-by-one": ("P20", "chains"),
    "20-limit-set-while-shared": ("P20", "chains"),
    "20-merged-across-nodes": ("P20", "numa_nodes"),
    "22-mapped-twice-never-ksm": ("P22", "blind_spot"),
    "23-shared-is-mergeable": ("P23", "special"),
    "23-twins-never-split": ("P23", "special"),
    "23-zeros-by-checksum": ("P23", "special"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_kernel_is_bad(harness: Harness, name: str) -> None:
    prop, workload = BROKEN[name]
    ended = harness("--patch", MUTANTS / f"{name}.patch", "--workload", workload)
    assert ended.code == 1, ended.told()
    assert ended.workload(workload).findings[0].prop == prop, ended.told()


def test_a_kernel_without_the_blind_spot_is_good(harness: Harness) -> None:
    ended = harness("--patch", MUTANTS / "B22-benign-root-anon-vma.patch")
    assert ended.code == 0, ended.told()
    assert any("other semantics, not an error" in r for r in ended.workload("blind_spot").remarks)


def test_the_blind_spot_is_remarked_upon(harness: Harness) -> None:
    ended = harness("--workload", "blind_spot")
    assert ended.code == 0, ended.told()
    assert any("a known limit, not an error" in r for r in ended.workload("blind_spot").remarks)

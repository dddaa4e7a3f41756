# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels whose walks over rmap_items go astray: past a refusal, or to ptes that fork made young."""

from __future__ import annotations

import pytest

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system

# patch: the property that must be named, the workload that shows it
BROKEN = {
    "54-fork-copies-young-bits": ("P12", "fork_references"),
    "55-refusal-ends-one-list": ("P10", "missed_mlock"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_kernel_is_bad(harness: Harness, name: str) -> None:
    prop, workload = BROKEN[name]
    ended = harness("--patch", MUTANTS / f"{name}.patch", "--workload", workload)
    assert ended.code == 1, ended.told()
    assert prop in {f.prop for f in ended.workload(workload).findings}, ended.told()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that refuse what they must do, and kernels broken at ksmd's cursor, in the order of forks, in shared mms."""

from __future__ import annotations

import pytest

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
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_kernel_is_bad(harness: Harness, name: str) -> None:
    signature, workload = BROKEN[name]
    ended = harness("--patch", MUTANTS / f"{name}.patch", "--workload", workload)
    assert ended.code == 1, ended.told()
    assert ended.workload(workload).findings[0].signature == signature, ended.told()

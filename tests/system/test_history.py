# SPDX-License-Identifier: GPL-2.0-or-later
"""Real defects of the past, brought back by undoing their fix (docs/history.md), are judged bad again."""

from __future__ import annotations

import pytest

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system

# patch: the property that must be named, the workload that shows it
CAUGHT = {
    "hwpoison-takes-ksm": ("P21", "poisoned"),
    "migration-index-of-ksm": ("P19", "moved_scattered"),
    "stale-node-ends-search": ("P14", "stale_nodes"),
    "swapin-copy-uncharged": ("P16", "swapin"),
    "swapped-page-dirty": ("P16", "stale_swap"),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_defect_of_the_past_is_seen(harness: Harness, name: str) -> None:
    prop, workload = CAUGHT[name]
    ended = harness("--patch", MUTANTS / "history" / f"{name}.patch", "--workload", workload)
    assert ended.code == 1, ended.told()
    result = ended.workload(workload)  # a crash names the property in progress
    assert prop in {f.prop for f in result.findings} | {result.prop}, ended.told()

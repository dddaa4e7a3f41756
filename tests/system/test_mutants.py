# SPDX-License-Identifier: GPL-2.0-or-later
"""How some kernels that are broken on purpose are judged: what crashes, and what is seen on every target."""

from __future__ import annotations

import pytest

from harness.results import Verdict

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system


def test_an_item_without_anon_vma_is_bad(harness: Harness) -> None:
    """The fork's items are in the tree, and hold no anon_vma: a finding for P15, or a crash while it is shown."""
    ended = harness("--patch", MUTANTS / "16-fork-early-return.patch")
    assert ended.code == 1, ended.told()
    result = ended.workload("fork_item")
    assert "P15" in {f.prop for f in result.findings} or (result.verdict is Verdict.CRASH and result.prop == "P15"), ended.told()
    assert result.verdict is not Verdict.CRASH or "(seq " in result.operation, ended.told()


@pytest.mark.parametrize("name", ["61-migration-entries-left-in-forks", "66-failed-migration-not-undone"])
def test_a_migration_entry_that_is_left_is_bad(harness: Harness, name: str) -> None:
    """Whoever looks at it meets BUG_ON(!PageLocked) in pfn_swap_entry_to_page: a crash while P19 is shown."""
    ended = harness("--patch", MUTANTS / f"{name}.patch", "--workload", "migration_refused")
    assert ended.code == 1, ended.told()
    result = ended.workload("migration_refused")
    assert result.verdict is Verdict.CRASH and result.prop == "P19", ended.told()


@pytest.mark.parametrize("target", ["aarch64", "ppc64", "ppc64le"])
def test_no_second_pass_is_seen_on_every_target(harness: Harness, target: str) -> None:
    ended = harness("--target", target, "--patch", MUTANTS / "01-no-second-pass.patch", "--workload", "new_fork,fork_item")
    assert ended.code == 1, ended.told()
    finding = ended.workload("new_fork", target).findings[0]
    assert finding.signature == "P1:still-mapped:reclaim"
    assert finding.actors == ("C",)
    assert ended.workload("fork_item", target).verdict is Verdict.PASS, ended.told()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels broken on purpose are judged bad, for the right property; harmless changes are not."""

from __future__ import annotations

import pytest

from harness.results import Verdict

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system

# patch: the properties of which one must be named, the workloads to run.  Where nothing is swapped out any more each
# reclaim is waited for in vain, so there only those that matter are run.
AGEING = "fork_references,memcg_references,missed_mlock"
BROKEN = {
    "01-no-second-pass": ({"P1"}, "new_fork,fork_tree,owner_exit"),
    "03-break-after-first-fork": ({"P2"}, "all"),
    "09-unmap-stops-after-first": ({"P1", "P2"}, "new_fork,fork_tree"),
    "12-leak-put-remove-item": ({"P6"}, "all"),
    "19-swap-shared-sharing": ({"P14", "P15"}, "all"),
    "25-vmscan-never-unmaps-ksm": ({"P1"}, "new_fork,fork_tree"),
    "29-unmerge-leaves-items": ({"P18"}, "all"),
    "41-referenced-ignores-forks": ({"P12"}, AGEING),
    "42-idle-ignores-forks": ({"P12"}, AGEING),
    "43-referenced-first-item-only": ({"P12"}, AGEING),
    "44-referenced-forgets-lock": ({"P10"}, AGEING),
    "45-mlock-not-restored": ({"P10"}, AGEING),
    "46-unmap-forgets-lock": ({"P10"}, AGEING),
    "47-memcg-filter-dropped": ({"P13"}, AGEING),
    "48-memcg-filter-inverted": ({"P13"}, AGEING),
    "49-references-not-counted": ({"P12"}, AGEING),
    "50-memcg-filter-only-own": ({"P13"}, AGEING),
    "51-references-unheeded": ({"P12"}, AGEING),
    "52-references-stay": ({"P12"}, "fork_references"),
    "60-migrate-leaves-forks": ({"P19"}, "soft_offlined,migration_refused,moved_between_nodes"),
    "62-migrate-keeps-kpfn": ({"P19"}, "soft_offlined,moved_between_nodes"),
    "63-hwpoison-takes-ksm": ({"P21"}, "poisoned"),
    "65-migrate-ignores-pins": ({"P19"}, "migration_refused,moved_between_nodes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_kernel_is_bad(harness: Harness, name: str) -> None:
    properties, workloads = BROKEN[name]
    ended = harness("--patch", MUTANTS / f"{name}.patch", "--workload", workloads)
    assert ended.code == 1, ended.told()
    assert properties & ended.properties(), ended.told()
    assert f"{name}.patch" in ended.facts()["patches"]


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


@pytest.mark.parametrize("name", ["B1-benign-break-after-own-vma", "B4-benign-faster-default-scan"])
def test_harmless_change_is_good(harness: Harness, name: str) -> None:
    ended = harness("--patch", MUTANTS / f"{name}.patch")
    assert ended.code == 0, ended.told()


@pytest.mark.parametrize("target", ["aarch64", "ppc64", "ppc64le"])
def test_no_second_pass_is_seen_on_every_target(harness: Harness, target: str) -> None:
    ended = harness("--target", target, "--patch", MUTANTS / "01-no-second-pass.patch", "--workload", "new_fork,fork_item")
    assert ended.code == 1, ended.told()
    finding = ended.workload("new_fork", target).findings[0]
    assert finding.signature == "P1:still-mapped:reclaim"
    assert finding.actors == ("C",)
    assert ended.workload("fork_item", target).verdict is Verdict.PASS, ended.told()

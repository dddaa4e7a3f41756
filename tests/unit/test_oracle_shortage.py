# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations that are made to fail: what is left, and what a kernel that does not notice shows."""

from __future__ import annotations

from typing import Any

import pytest

from harness.findings import Finding
from harness.oracle import JournalContradiction, Semantics

from .oracle_story import HELLO, N, Story


def refuse(story: Story, op: str, *, errno: str = "ENOMEM", **arguments: Any) -> list[Finding]:
    """The operation is refused, as an allocation was made to fail."""
    return story.op(op, {"rc": -1, "errno": errno, "failed": True}, **arguments)


def scan_failing(story: Story, n: int, *, ends: int = 0, failed: bool = True) -> list[Finding]:
    now = story.model.ksmd.full_scans
    return story.op("batch", {"from": now, "to": now + ends, "failed": failed}, pages=10**8, kinds="ksm", failing=n)


def pages(actor: str, **more: Any) -> dict[str, Any]:
    return {"actor": actor, "area": "a", "first": 0, "count": N, **more}


def test_an_mm_without_a_slot_is_not_scanned() -> None:
    story = Story(p="P14")
    story.filled("P1", mergeable=False)
    assert refuse(story, "mergeable", errno="EAGAIN", **pages("P1", failing=1)) == []
    story.scan(2)
    assert story.counts == (0, 0, 0, 0)
    story.on("mergeable", "P1")
    story.scan()
    assert story.counts == (0, 0, 0, N)
    assert story.observe(slab=True) == []


def test_another_error_than_a_shortage_is_a_finding() -> None:
    story = Story(p="P14")
    story.filled("P1", mergeable=False)
    refuse(story, "mergeable", errno="EINVAL", **pages("P1", failing=1))
    assert story.signatures == ["P14:refused:mergeable"]


def test_only_what_was_made_to_fail_is_excused() -> None:
    story = Story(p="P14", hello={**HELLO, "mem_kb": 1000})
    story.filled("P1", mergeable=False)
    results = {"rc": -1, "errno": "EAGAIN", "available_kb": 900}
    story.op("mergeable", results, **pages("P1", failing=1))
    assert story.signatures == ["P14:refused:mergeable"]


def test_ksmd_goes_on_at_the_page_that_got_no_item() -> None:
    story = Story(p="P14")
    story.filled("P1", "P2")
    assert scan_failing(story, 3) == []
    assert story.model.ksmd.rmap_items == 2
    story.scan()
    assert story.model.ksmd.rmap_items == 2 * N
    assert story.model.memory.unsure == ""
    story.scan()
    assert story.counts == (N, N, 0, 0)


def test_a_ksmd_that_comes_to_its_end_without_that_item_is_a_finding() -> None:
    story = Story(p="P14")
    story.filled("P1", "P2")
    scan_failing(story, 3, ends=1)
    assert story.signatures == ["P14:cursor:batch"]


def test_where_the_kernel_allocates_in_another_way_nothing_is_judged() -> None:
    story = Story(p="P14")
    story.filled("P1", "P2")
    assert scan_failing(story, 3, ends=1, failed=False) == []
    assert story.model.memory.unsure


@pytest.mark.parametrize("n", [1, N])
def test_a_page_without_a_node_is_unmerged_in_both(n: int) -> None:
    story = Story(p="P7")
    story.filled("P1", "P2")
    story.scan()
    assert scan_failing(story, n, ends=1) == []
    assert story.counts == (N - 1, N - 1, 0, 2)
    assert story.states("P1")[n - 1] == story.states("P2")[n - 1] == "P"
    assert story.model.memory.cow_ksm == 2
    story.scan()
    assert story.counts == (N, N, 0, 0)
    assert story.observe(slab=True) == []


def test_a_node_that_is_kept_though_it_has_no_chain_is_a_leak() -> None:
    story = Story(p="P20")
    story.op("set", file="max_page_sharing", value="2")
    story.filled("S1", "S2", "S3", "S4", npages=1)
    story.observe(slab=True)
    story.scan()
    assert scan_failing(story, 3, ends=1) == []
    assert story.counts == (1, 1, 0, 2)
    assert story.observe(slab=True) == []
    story.scan()
    assert story.model.ksmd.tree.chains == 1

    def one_more(record: dict[str, Any]) -> None:
        record["slab"]["ksm_stable_node"] += 1

    story.observe(one_more, slab=True)
    assert story.signatures == ["P6:reference-leak:scan"]


def test_a_fork_without_a_slot_fails_or_is_not_scanned() -> None:
    story = Story(p="P15")
    story.merged()
    assert refuse(story, "fork", actor="P1", child="C", kinds="ksm", failing=1) == []
    story.scan()
    assert story.counts == (N, N, 0, 0)
    story.pids += 1
    story.op("fork", {"pid": story.pids, "failed": True}, actor="P1", child="C", kinds="ksm", failing=1)
    story.scan()
    assert story.counts == (N, N, 0, 0)
    story.exit("C")
    assert story.op("failing_forks", {"forks": 99}, actor="P1") == []
    assert story.observe(slab=True) == []
    assert story.reclaim() == []
    assert story.states("P1") == "S" * N


def test_unmerging_stops_where_there_is_no_page_for_the_copy() -> None:
    story = Story(p="P18")
    story.merged()
    assert refuse(story, "unmergeable", errno="EAGAIN", **pages("P1", kinds="pages", failing=3)) == []
    assert story.states("P1") == "PP" + "K" * (N - 2)
    assert story.model.memory.cow_ksm == 3  # the one that failed too
    assert all(vma.flags.mergeable for vma in story.model.actors["P1"].vmas)
    assert story.observe() == []
    story.on("unmergeable", "P1")
    assert story.states("P1") == "P" * N
    assert story.model.memory.cow_ksm == N + 1


def test_run_2_stops_in_the_middle_of_an_mm() -> None:
    story = Story(p="P18")
    story.merged()
    assert refuse(story, "run", value="2", kinds="pages", failing=N + 3) == []
    assert (story.states("P1"), story.states("P2")) == ("P" * N, "PP" + "K" * (N - 2))
    assert story.model.run == 0
    assert story.model.ksmd.rmap_items == N  # P2's
    assert story.observe(slab=True) == []
    story.run(2)
    assert story.counts == (0, 0, 0, 0)
    assert story.states("P2") == "P" * N


def test_a_walk_that_was_broken_off_may_be_finished_later() -> None:
    def half_then_all(story: Story) -> list[dict[str, Any]]:
        (last,) = story.predicted_attempts()
        first = {**last, "states": {**last["states"], "P2": {"a": [[N, "P"]]}}}
        return [first, last]

    for failing, found in (({"kinds": "atomic pages", "failing": 0}, []), ({}, ["P1:half-unmapped:reclaim"])):
        story = Story()
        story.merged()
        results = {"attempts": half_then_all(story), "control": "gone", "lingering": 0, "why": "done", "failed": 1}
        story.op("reclaim", results, memcg="t", keep=[], **failing)
        assert story.signatures == found


def test_no_other_operation_is_excused() -> None:
    story = Story()
    story.merged()
    with pytest.raises(JournalContradiction, match="no allocation of munmap is made to fail"):
        refuse(story, "munmap", **pages("P1"))


def test_a_kernel_that_cannot_fork_at_all_is_told_of() -> None:
    story = Story(p="", hello={**HELLO, "mem_kb": 1000})
    results = {"rc": -1, "errno": "ENOMEM", "available_kb": 900}
    story.op("fork", results, actor="init", child="new_fork")
    assert story.signatures == ["P15:refused:fork"]


def test_a_copy_that_may_not_be_charged_changes_nothing() -> None:
    story = Story(p="P16")
    story.merged()
    story.reclaim()
    story.verify("P1", count=N // 2)
    none = {"outcomes": [[N, "EIO"]]}  # of half of them a copy is needed, of the others the page itself
    assert story.on("read_without_room", "P2", results=none) == []
    assert story.model.memory.ksm_swpin_copy == 0
    assert story.verify("P2") == []
    assert story.model.memory.ksm_swpin_copy == N // 2
    assert story.observe() == []


def test_a_copy_that_is_charged_in_advance_is_marked_as_used_already() -> None:
    story = Story(p="P16")
    story.merged()
    story.reclaim()
    story.verify("P1", count=N // 2)
    assert story.on("read_without_room", "P2", results={"outcomes": [[N, ""]]}) == []
    assert story.model.memory.ksm_swpin_copy == N // 2
    # When such a page is merged the second mark activates it, and takes PG_referenced away.
    assert {pte.page.referenced for pte in story.model.actors["P2"].ptes.values() if pte.page} == {None}


@pytest.mark.parametrize(
    ("again", "lost", "told"),
    [(256, 256, True), (256, 128, True), (256, 40, False), (256, -20, False), (16, 16, False), (256, None, False)],
)
def test_reads_that_are_refused_lose_no_page(again: int, lost: int | None, told: bool) -> None:
    story = Story(p="P16")
    story.merged()
    story.reclaim()
    story.on("read_without_room", "P2", results={"outcomes": [[N, "EIO"]], "again": again, "lost": lost})
    assert story.signatures == ["P6:page-leak:read_without_room"] * told


def test_what_is_mapped_needs_no_room() -> None:
    story = Story(p="P16")
    story.merged()
    assert story.on("read_without_room", "P2", results={"outcomes": [[N, ""]]}) == []
    story.on("read_without_room", "P2", results={"outcomes": [[1, "EIO"], [N - 1, ""]]})
    assert story.signatures == ["P16:refused:read_without_room"]


def test_a_process_that_cannot_be_unmerged_is_still_to_be_merged_as_a_whole() -> None:
    story = Story(Semantics(has_merge_any=True), p="P23")
    story.merged("P1", "P2")
    story.op("merge_any", {"told": 1}, actor="P1", on=True)
    results = {"rc": -1, "errno": "ENOMEM", "failed": True, "told": 1}
    assert story.op("merge_any", results, actor="P1", on=False, kinds="pages", failing=3) == []
    assert story.states("P1") == "PP" + "K" * (N - 2)
    assert story.on("smaps", "P1", results={"mergeable": N, "ksm": N - 2}) == []
    story.op("merge_any", {"told": 0}, actor="P1", on=False)
    assert story.states("P1") == "P" * N
    assert story.on("smaps", "P1", results={"mergeable": 0, "ksm": 0}) == []
    assert story.observe() == []
    story.op("merge_any", {"told": 1}, actor="P1", on=True)
    (finding,) = story.op("merge_any", results | {"told": 0}, actor="P1", on=False, kinds="pages", failing=1)
    assert finding.signature == "P23:prctl:merge_any"


def test_counters_are_judged_until_a_whole_process_is_scanned() -> None:
    story = Story(Semantics(has_merge_any=True), p="P23")
    story.merged("P1", "P2")
    story.op("merge_any", {"told": 1}, actor="P1", on=True)
    assert not story.model.memory.unsure
    story.scan()
    assert story.model.memory.unsure

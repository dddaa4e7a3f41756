# SPDX-License-Identifier: GPL-2.0-or-later
"""ksmd's cursor in the middle of its list, and what happens there."""

from __future__ import annotations

import pytest

from harness.findings import Finding
from harness.oracle import Semantics
from harness.oracle.memory import Page

from .oracle_story import N, Story


def batch(story: Story, pages: int, *, ends: int = 0) -> list[Finding]:
    """ksmd is woken for so many pages, and comes to its list's end so often."""
    now = story.model.ksmd.full_scans
    return story.op("batch", {"from": now, "to": now + ends}, pages=pages)


def half_scanned() -> Story:
    """P1, P2 and P3 with equal pages, merged; the cursor in the middle of P2."""
    story = Story(p="P14")
    story.merged("P1", "P2", "P3")
    assert batch(story, N + N // 2) == []
    assert story.model.ksmd.cursor is story.model.actors["P2"]
    return story


def names(story: Story) -> list[str]:
    return [mm.name for mm in story.model.ksmd.mms]


def test_batches_add_up_to_a_scan() -> None:
    story = Story(p="P14")
    story.filled("P1", "P2")
    for _ in range(2):
        for _ in range(4):
            assert batch(story, N // 2) == []
        assert batch(story, 1, ends=1) == []
    assert story.counts == (N, N, 0, 0)
    assert story.model.memory.unsure == ""


def test_newcomers_wait_for_the_next_scan() -> None:
    story = half_scanned()
    story.fork("P2", "C")
    story.filled("L")
    assert names(story) == ["P1", "C", "L", "P2", "P3"]
    story.scan()
    assert story.counts == (N, 2 * N, 0, 0)
    story.scan()
    assert story.counts == (N, 4 * N, 0, 0)  # L's pages meet the stable tree


def test_a_process_that_exits_at_the_cursor_stays_there() -> None:
    story = half_scanned()
    story.exit("P2", "P1")
    assert names(story) == ["P2", "P1", "P3"]
    assert batch(story, 1) == []
    assert names(story) == ["P3"]
    assert story.counts == (N, 0, 0, 0)


def test_an_unmapped_process_is_forgotten_one_scan_later() -> None:
    story = half_scanned()
    story.on("munmap", "P2")
    story.scan()
    assert names(story) == ["P1", "P2", "P3"]
    assert story.counts == (N, N + N // 2, 0, 0)
    story.scan()
    assert names(story) == ["P1", "P3"]
    assert story.counts == (N, N, 0, 0)


def test_unmerging_puts_the_cursor_at_the_lists_head() -> None:
    story = half_scanned()
    story.run(2)
    story.run(1)
    assert story.model.ksmd.cursor is None
    story.scan(2)
    assert story.counts == (N, 2 * N, 0, 0)


def test_another_place_than_the_models_is_a_finding() -> None:
    story = half_scanned()
    (finding,) = batch(story, N, ends=1)
    assert finding.signature == "P14:cursor:batch"
    assert story.model.memory.unsure


def test_a_tree_whose_pages_changed_is_doubted() -> None:
    story = Story(p="P14")
    story.filled("P1", "P2")
    story.scan()
    batch(story, N)
    story.fill("P1", tag=500, op="write")
    batch(story, 1)
    assert "unstable tree" in story.model.memory.unsure


def test_a_page_that_came_in_mid_scan_is_doubted() -> None:
    story = half_scanned()
    story.fill("P3", tag=1, op="write")
    story.scan()
    assert "pagevec" in story.model.memory.unsure


def test_a_page_that_left_for_another_node_is_left_alone_in_the_unstable_tree() -> None:
    story = Story(p="P20")
    story.op("set", file="merge_across_nodes", value="0")
    story.spawn("P")
    story.map("P")
    story.on("bind", "P", node=0)
    story.fill("P", tag=1, step=0)
    story.on("mergeable", "P")
    story.scan()
    assert batch(story, 1) == []
    move = {"result": 0, "error": "", "before": [[1, 0]], "after": [[1, 1]]}
    assert story.on("move_pages", "P", "a", 0, 1, move, node=1, all=True) == []
    story.scan()
    # Nobody merges with the page that moved, and who has met it is in no tree.
    assert story.counts == (0, 0, 1, N - 1)
    story.scan()
    assert story.counts == (1, N - 2, 1, 0)
    assert story.model.memory.unsure == ""


def test_an_only_page_that_waits_and_is_unmerged_blocks_the_others() -> None:
    """get_mergeable_page finds none: whoever meets it gives up, and waits for the next scan."""
    story = Story(p="P14")
    story.filled("P1", "P2", npages=1)
    story.scan()
    batch(story, 1)
    story.on("unmergeable", "P1", count=1)
    story.scan()
    assert story.counts == (0, 0, 1, 1)
    story.scan()
    assert story.counts == (0, 0, 1, 0)
    assert story.model.memory.unsure == ""


def test_one_of_several_that_wait_is_unmerged() -> None:
    """Who comes by it depends on the tree's shape."""
    story = Story(p="P14")
    story.filled("P1", "P2", npages=2)
    story.scan()
    batch(story, 2)
    story.on("unmergeable", "P1", count=1)
    story.scan()
    assert story.model.memory.unsure


def test_run_wakes_ksmd() -> None:
    story = Story(p="P18")
    story.merged("P1", "P2")
    story.run(2)
    story.op("scan", {"from": 0, "to": 1, "pokes": 0}, scans=1, by="run")
    assert story.model.run == 1
    assert story.counts == (0, 0, 0, 2 * N)


def test_many_scans_at_once() -> None:
    """Long before, nothing changes any more."""
    story = Story(p="P14")
    story.merged("P1", "P2", npages=2)
    before = story.model.ksmd.pages_scanned
    story.op("scan", {"from": 2, "to": 302, "pokes": 1}, scans=260, by="itself")
    assert story.model.ksmd.full_scans == 302
    assert story.model.ksmd.pages_scanned == before + 300 * 4


def test_the_first_of_all_is_scanned_at_once() -> None:
    story = Story(p="P14")
    assert story.op("anchor", {"from": 0, "to": 1, "pokes": 1}, there=False) == []
    story.filled("P1", mergeable=False)
    assert story.on("scan", "P1", results={"from": 1, "to": 2, "pokes": 0}, scans=1, by="first") == []
    assert story.op("anchor", there=True) == []
    assert story.counts == (0, 0, 0, N)
    assert story.model.memory.unsure == ""


def test_a_first_one_that_wakes_nobody() -> None:
    story = Story(p="P14")
    story.op("anchor", {"from": 0, "to": 1, "pokes": 1}, there=False)
    story.filled("P1", mergeable=False)
    found = story.on("scan", "P1", results={"rc": -1, "errno": "ETIME", "available_kb": 1}, scans=1, by="first")
    assert [f.signature for f in found] == ["P14:refused:scan"]


def pages(story: Story, actor: str) -> list[Page | None]:
    return [pte.page for pte in story.model.actors[actor].ptes.values()]


@pytest.mark.parametrize("last_stays", [True, False])
def test_which_of_two_equal_pages_stays(last_stays: bool) -> None:
    story = Story(Semantics(met_last_stays=last_stays))
    story.filled("P1", "P2")
    first, last = pages(story, "P1"), pages(story, "P2")
    story.scan(2)
    assert pages(story, "P1") == pages(story, "P2") == (last if last_stays else first)
    assert story.states("P1") == "K" * N and story.observe() == []


@pytest.mark.parametrize(
    ("first", "second", "last_stays", "doubted"),
    [("F", "P", True, True), ("P", "F", True, False), ("F", "P", False, False), ("P", "F", False, True)],
)
def test_an_item_that_points_to_where_a_node_lay_may_be_passed_over(
    first: str,
    second: str,
    last_stays: bool,
    doubted: bool,
) -> None:
    """C maps what P maps: it is in doubt only where that is the page that got a new node, and not replaced by F's."""
    story = Story(Semantics(met_last_stays=last_stays))
    story.merged(first, second)
    story.fork("P", "C")
    story.scan()
    story.reclaim()
    for actor in "PCF":
        story.on("read", actor)
    story.scan(2)
    assert story.counts == (N, 2 * N, 0, 0) and story.observe() == []
    assert any("where a stable node lay that is gone" in note for note in story.oracle.notes) == doubted

# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are set up in another way: what the model makes of that, against mm/ksm.c and mm/memory.c of 6.12."""

from __future__ import annotations

import pytest

from harness.oracle import Semantics
from harness.oracle.setup import Setup, setup_from
from tests.unit.oracle_story import HELLO, N, Story

LATER = Semantics(cksum_first=True)


def told(**settings: object) -> dict[str, object]:
    return HELLO | {"settings": settings}


@pytest.mark.parametrize(
    ("settings", "setup"),
    [
        ({}, Setup()),
        ({"swap": "/dev/vda", "lru_gen": None, "page_cluster": "0", "smart_scan": "0"}, Setup()),
        ({"swap": "/dev/zram0", "lru_gen": "0x0007"}, Setup(swap_is_synchronous=True, lru_gen=True)),
        ({"lru_gen": "0x0000", "damon_stat": "N"}, Setup()),
        ({"damon_stat": "Y"}, Setup(damon=True)),
        ({"page_cluster": "3", "smart_scan": "1"}, Setup(swap_readahead=True, smart_scan=True)),
        ({"lru_gen": "?", "page_cluster": [], "smart_scan": {}}, Setup()),
    ],
)
def test_what_hello_tells(settings: dict[str, object], setup: Setup) -> None:
    assert setup_from(told(**settings), {}) == setup


def test_a_hello_of_old_tells_of_the_usual_guest() -> None:
    assert setup_from(HELLO, {}) == Setup()
    assert setup_from({"settings": 3}, {}) == Setup()


def test_stepping_is_told_by_the_workload() -> None:
    assert setup_from(HELLO, {"stepping": "run"}) == Setup(stepped_by_run=True)


@pytest.mark.parametrize("run", ["0", "1"])
def test_run_is_0_between_two_steps_of_a_ksmd_that_it_steps(run: str) -> None:
    story = Story(begin={"stepping": "run"})
    story.merged("P1", "P2")

    def seen(record: dict[str, object]) -> None:
        ksm = record["ksm"]
        assert isinstance(ksm, dict)
        ksm["run"] = run

    assert bool(story.observe(seen)) is (run == "1")


def test_smart_scan_leaves_out_what_does_not_merge() -> None:
    """Ages 0 to 2 are met; then 1, 2, 4 and 8 scans are left out, each time after one that is not (skip_age)."""
    story = Story(LATER, p="P14", hello=told(smart_scan="1"))
    story.spawn("P1")
    story.map("P1", "a", N)
    story.fill("P1", "a", 0, N, 1)
    story.op("mergeable", actor="P1", area="a", first=0, count=N)
    skipped = []
    for _ in range(24):
        story.scan()
        skipped.append(story.model.ksmd.pages_skipped // N)
    assert skipped == [0, 0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15, 16]
    assert story.counts == (0, 0, 0, N)  # at scan 24 they are in no tree


@pytest.mark.parametrize("forgets", [False, True])
def test_where_merging_forgets_the_checksum_it_is_taken_once_more(forgets: bool) -> None:
    """Two pages that were merged, written to and made equal again: the next scan merges them, or the one after it."""
    story = Story(p="P14", semantics=Semantics(merge_forgets_checksum=forgets))
    story.merged("P1", "P2")
    for name in ("P1", "P2"):
        for value in (7, 1):
            story.fill(name, "a", 0, N, value)
    story.scan()
    assert story.counts[:2] == ((0, 0) if forgets else (N, N))
    story.scan()
    assert story.counts[:2] == (N, N)


def test_smart_scan_never_leaves_out_a_ksm_page() -> None:
    story = Story(LATER, p="P14", hello=told(smart_scan="1"))
    story.merged("P1", "P2")
    story.scan(12)
    assert story.model.ksmd.pages_skipped == 0
    assert story.counts == (N, N, 0, 0)


def test_smart_scan_of_many_scans_at_once() -> None:
    """Each page is met in one of nine scans at last, but not in the last one of every step."""
    met = []
    for steps in ([300], [1] * 300):
        story = Story(LATER, p="P14", hello=told(smart_scan="1"))
        story.spawn("P1")
        story.map("P1", "a", N)
        story.fill("P1", "a", 0, N, 1)
        story.op("mergeable", actor="P1", area="a", first=0, count=N)
        done = 0
        for scans in steps:
            story.op("scan", {"from": done, "to": done + scans, "pokes": 1}, scans=scans, by="itself")
            done += scans
        ksmd = story.model.ksmd
        met.append((ksmd.pages_scanned, ksmd.pages_skipped))
    assert met[0] == met[1]


def test_smart_scan_can_be_turned_off() -> None:
    story = Story(LATER, p="P14", hello=told(smart_scan="1"))
    story.op("set", file="smart_scan", value="0")
    story.spawn("P1")
    story.map("P1", "a", N)
    story.fill("P1", "a", 0, N, 1)
    story.op("mergeable", actor="P1", area="a", first=0, count=N)
    story.scan(9)
    assert story.model.ksmd.pages_skipped == 0
    assert story.counts == (0, 0, N, 0)


@pytest.mark.parametrize(("swap", "cached"), [("/dev/vda", True), ("/dev/zram0", False)])
def test_what_one_pte_held_comes_back_from_zram_without_the_swap_cache(swap: str, cached: bool) -> None:
    story = Story(hello=told(swap=swap))
    story.spawn("P1")
    story.map("P1", "a", N)
    story.fill("P1", "a", 0, N, 1)
    story.reclaim()
    story.op("read", actor="P1", area="a", first=0, count=N)
    pages = [pte.page for pte in story.model.actors["P1"].ptes.values()]
    assert {page is not None and page.entry is not None for page in pages} == {cached}
    assert all(page is not None and page.exclusive for page in pages)


@pytest.mark.parametrize("swap", ["/dev/vda", "/dev/zram0"])
def test_what_two_ptes_held_goes_through_the_swap_cache(swap: str) -> None:
    story = Story(hello=told(swap=swap))
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.reclaim()
    for actor in ("P1", "C", "P2"):
        story.op("read", actor=actor, area="a", first=0, count=N)
    # Of one anon_vma tree are P1 and C; P2 is the last, and on zram nobody is left to share the slot with.
    assert story.model.memory.ksm_swpin_copy == N


def huge(*sizes: int, zeros: bool = True) -> Story:
    """A guest whose memory gets huge pages of these sizes (kB) unasked; the areas of stories begin where there is room."""
    return Story(Semantics(cksum_first=True, split_maps_zeros=zeros), p="P23", hello=told(huge_kb=[*sizes]))


def parts(story: Story, actor: str) -> list[int]:
    """For each pte in its order, how many pages its huge page has; 0: an ordinary one."""
    ptes = sorted(story.model.actors[actor].ptes.values(), key=lambda pte: pte.addr)
    return [len(pte.page.compound.parts) if pte.page is not None and pte.page.compound else 0 for pte in ptes]


def test_sizes_are_counted_in_pages_the_largest_first() -> None:
    assert setup_from(told(huge_kb=[32, 2048, 16]) | {"page_size": 4096}, {}).huge_pages == (512, 8, 4)
    assert setup_from(told(huge_kb=[2048]) | {"page_size": 65536}, {}).huge_pages == (32,)


def test_a_fault_brings_the_largest_huge_page_that_has_room() -> None:
    story = huge(16, 32)
    story.spawn("P1")
    story.map("P1", "a", 14)
    story.fill("P1", "a", 0, 1, 7)
    assert parts(story, "P1") == [8] * 8
    story.fill("P1", "a", 8, 6, 8)
    assert parts(story, "P1") == [8] * 8 + [4] * 4 + [0, 0]
    mm = story.model.actors["P1"]
    assert story.model.contents(mm, mm.areas["a"].start, mm.areas["a"].start + 9) == [7, 0, 0, 0, 0, 0, 0, 0, 8]


def test_what_is_there_already_makes_the_next_one_smaller() -> None:
    story = huge(16, 32)
    story.spawn("P1")
    story.map("P1", "a", 8)
    story.op("read", actor="P1", area="a", first=0, count=1)  # the page of zeros
    story.fill("P1", "a", 5, 1, 7)
    assert parts(story, "P1") == [0, 4, 4, 4, 4]


@pytest.mark.parametrize("zeros", [True, False])
def test_merging_splits_and_parts_of_zeros_may_give_way_to_the_page_of_zeros(zeros: bool) -> None:
    story = huge(32, zeros=zeros)
    for actor in ("P1", "P2"):
        story.spawn(actor)
        story.map(actor, "a", 8)
        story.fill(actor, "a", 0, 6, 1)
        story.op("mergeable", actor=actor, area="a", first=0, count=6)
    story.scan(2)
    assert parts(story, "P1") == parts(story, "P2") == [0] * 8
    assert [pte.zero for pte in story.model.actors["P1"].ptes.values()] == [False] * 6 + [zeros] * 2
    assert story.counts == (6, 6, 0, 0)


def test_pages_that_gave_way_in_the_middle_of_the_unstable_tree_leave_it_open_what_merges() -> None:
    story = huge(32)
    story.spawn("P1")
    story.map("P1", "a", 8)
    story.fill("P1", "a", 0, 6, 1)
    story.op("mergeable", actor="P1", area="a", first=0, count=8)
    story.scan(2)  # pages 6 and 7 are alike, and parts of one huge page, which is split in vain
    assert story.model.memory.unsure
    assert all(pte.page.unsure for pte in story.model.actors["P1"].ptes.values() if pte.page is not None)


def test_a_page_that_gave_way_blocks_the_unstable_tree_as_its_root() -> None:
    """get_mergeable_page finds nothing where the first item is, and each search of that scan ends there."""
    story = huge(32)
    for actor in ("P1", "P2"):
        story.spawn(actor)
        story.map(actor, "a", 8)
        story.fill(actor, "a", 0, 1, 0, 0)
        story.fill(actor, "a", 1, 7, 1)
        story.op("mergeable", actor=actor, area="a", first=0, count=8)
    story.op("set", file="use_zero_pages", value="1")
    story.scan(2)
    assert story.counts == (0, 0, 1, 15)
    story.scan()
    assert story.counts == (7, 7, 0, 0)

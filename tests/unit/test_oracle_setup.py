# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are set up in another way: what the model makes of that, against mm/ksm.c and mm/memory.c of 6.12."""

from __future__ import annotations

import pytest

from harness.oracle import Semantics
from harness.oracle.setup import Setup, setup_from_hello
from tests.unit.oracle_story import HELLO, N, Story

LATER = Semantics(cksum_first=True, has_smart_scan=True)


def told(**settings: object) -> dict[str, object]:
    return HELLO | {"settings": settings}


@pytest.mark.parametrize(
    ("settings", "setup"),
    [
        ({}, Setup()),
        ({"swap": "/dev/vda", "lru_gen": None, "page_cluster": "0", "smart_scan": "0"}, Setup()),
        ({"swap": "/dev/zram0", "lru_gen": "0x0007"}, Setup(swap_is_synchronous=True, lru_gen=True)),
        ({"lru_gen": "0x0000"}, Setup()),
        ({"page_cluster": "3", "smart_scan": "1"}, Setup(swap_readahead=True, smart_scan=True)),
        ({"lru_gen": "?", "page_cluster": [], "smart_scan": {}}, Setup()),
    ],
)
def test_what_hello_tells(settings: dict[str, object], setup: Setup) -> None:
    assert setup_from_hello(told(**settings)) == setup


def test_a_hello_of_old_tells_of_the_usual_guest() -> None:
    assert setup_from_hello(HELLO) == Setup()
    assert setup_from_hello({"settings": 3}) == Setup()


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


def test_smart_scan_never_leaves_out_a_ksm_page() -> None:
    story = Story(LATER, p="P14", hello=told(smart_scan="1"))
    story.merged("P1", "P2")
    story.scan(12)
    assert story.model.ksmd.pages_skipped == 0
    assert story.counts == (N, N, 0, 0)


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""The model against numbers that were measured on an unmodified 6.1 or follow from its source: none is computed here."""

from __future__ import annotations

import pytest

from harness.oracle import Semantics
from harness.oracle.records import JournalContradiction
from tests.unit.oracle_story import N, Story, cow, recorded, replayed

LATER = Semantics(cksum_first=True, merging_inherited_at_fork=None)


def copies(story: Story) -> int:
    return story.model.memory.ksm_swpin_copy


def copies_after_each(story: Story, *order: str) -> list[int]:
    """A merged pair and a fork of P1 are swapped out, and read their pages in this order."""
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.reclaim()
    measured = []
    for actor in order:
        story.verify(actor)
        measured.append(copies(story))
    return measured


@pytest.mark.parametrize("target", ["x86_64", "ppc64"])
def test_an_unmodified_kernel_is_found_good(target: str) -> None:
    hello, segments = recorded(target)
    assert len(segments) == 13
    assert [f"{s[0]['workload']}: {f.signature}" for s in segments for f in replayed(hello, s)] == []


def test_p1_new_fork_is_unmapped() -> None:
    story = Story()
    story.merged("P1", "P2")
    assert story.counts == (N, N, 0, 0)
    story.fork("P1", "C")
    assert {len(p.ptes) for p in story.model.pages() if p.ksm} == {3}
    story.reclaim()
    assert [story.states(a) for a in ("P1", "P2", "C")] == ["S" * N] * 3
    entries = {tuple(sorted(p.mm.name for p in pte.entry.ptes)) for pte in story.model.actors["C"].ptes.values() if pte.entry}
    assert entries == {("C", "P1", "P2")}
    assert story.counts == (N, N, 0, 0)  # stale nodes stay until ksmd comes by


def test_p2_forks_of_each_sharer_and_grandchildren() -> None:
    story = Story(p="P2")
    story.merged("P1", "P2")
    for parent, child in (("P1", "C1"), ("P1", "C2"), ("C1", "G"), ("P2", "D1"), ("P2", "D2")):
        story.fork(parent, child)
    story.reclaim()
    assert {story.states(a) for a in story.model.actors if a != "Z"} == {"S" * N}


def test_p3_owners_exited_with_their_items() -> None:
    story = Story(p="P3")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.exit("P1", "P2")
    story.reclaim()
    assert story.states("C") == "S" * N
    assert story.counts == (N, N, 0, 0)
    story.scan()
    assert story.counts == (0, 0, 0, 0)


def test_p4_owners_pruned() -> None:
    story = Story(p="P4")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.exit("P1", "P2")
    story.scan()
    assert story.counts == (N, 0, 0, 0)
    story.reclaim()
    assert story.states("C") == "S" * N


def test_p4_dead_owners_are_scanned_first() -> None:
    """__ksm_exit moves them behind the cursor, so a live process meets a node that has no item left, and cannot join it."""
    story = Story(p="P4")
    story.merged("P1", "P2")
    story.filled("D", tag=900)
    story.scan()
    story.fill("D", op="write")  # what P1 and P2 have
    story.fork("P1", "C")
    story.exit("P1", "P2")
    story.scan()
    assert story.counts == (N, 0, 0, N)
    assert (story.states("C"), story.states("D")) == ("K" * N, "P" * N)


@pytest.mark.parametrize("way", ["exit", "munmap", "exec"])
def test_p5_the_item_keeps_its_anon_vma(way: str) -> None:
    story = Story(p="P5")
    story.merged("P1", "P2")
    held = story.model.actors["P1"].vmas[0].anon_vma
    assert held is not None and held.refcount == 1 + N
    if way == "munmap":
        story.on("munmap", "P1")
    else:
        story.op(way, actor="P1")
    assert held.refcount == N and not held.freed
    story.reclaim()
    assert story.states("P2") == "S" * N
    story.scan()
    assert held.freed


@pytest.mark.parametrize("path", ["exit", "unmergeable", "reclaim", "fork", "pin"])
def test_p6_every_path_gives_its_references_back(path: str) -> None:
    story = Story(p="P6")
    before = len(story.model.memory.anon_vmas.live)
    story.filled("P1", "P2", mergeable=False)
    if path == "pin":
        story.on("pin", "P1")
    story.on("mergeable", "P1")
    story.on("mergeable", "P2")
    story.scan(3)
    if path == "unmergeable":
        story.on("unmergeable", "P1")
        story.on("unmergeable", "P2")
        story.scan()
    elif path == "reclaim":
        story.reclaim()
        story.scan()
    elif path == "fork":
        story.fork("P1", "C")
        story.scan()
        story.exit("C")
    story.exit("P1", "P2")
    story.scan(2)
    assert len(story.model.memory.anon_vmas.live) == before


def test_p7_failed_merge_is_undone() -> None:
    story = Story(p="P7")
    story.filled("P1", "P2", mergeable=False)
    story.on("pin", "P1")
    story.on("mergeable", "P1")
    story.on("mergeable", "P2")
    story.scan()
    assert story.counts == (0, 0, 0, 2 * N)
    measured = []
    for _ in range(3):
        story.scan()
        assert story.counts == (0, 0, N, N)
        measured.append(cow(story))
    assert measured == [16, 32, 48]
    story.op("unpin", actor="P1")
    story.scan(2)
    assert story.counts == (N, N, 0, 0)


@pytest.mark.parametrize(("sharers", "npages"), [(2, 4), (3, 4), (17, 2)])
def test_p14_many_processes(sharers: int, npages: int) -> None:
    story = Story(p="P14")
    story.merged(*(f"S{i}" for i in range(sharers)), npages=npages)
    assert story.counts == (npages, npages * (sharers - 1), 0, 0)


def test_p14_many_addresses_of_one_process() -> None:
    story = Story(p="P14")
    story.filled("P1", npages=100, step=0)
    story.scan(2)
    assert story.counts == (1, 99, 0, 0)
    assert {len(p.ptes) for p in story.model.pages() if p.ksm} == {100}
    story.reclaim()
    assert story.states("P1") == "S" * 100


def test_p14_256_items_fill_a_node_and_forks_go_beyond() -> None:
    story = Story(p="P14")
    story.filled("P1", npages=256, step=0)
    story.scan(2)
    assert story.counts == (1, 255, 0, 0)
    story.fork("P1", "C")
    story.scan()
    assert story.counts == (1, 511, 0, 0)


def test_p14_more_sharers_than_a_node_takes() -> None:
    story = Story(p="P14")
    story.filled("P1", npages=300, step=0)
    story.scan(2)
    assert story.counts == (2, 298, 0, 0)
    assert (story.model.ksmd.tree.chains, story.model.ksmd.tree.dups) == (1, 2)


def test_p15_a_fork_gets_its_items_in_one_scan() -> None:
    story = Story(p="P15")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    child = story.model.actors["C"]
    assert (child.merging.value, child.rmap_items.value) == (N, N)  # inherited
    frames = {p for p in story.model.pages() if p.ksm}
    story.scan()
    assert story.counts == (16, 32, 0, 0)
    assert (child.merging.value, child.rmap_items.value) == (2 * N, 2 * N)
    assert frames == {p for p in story.model.pages() if p.ksm}
    assert cow(story) == 0


def test_p16_order_p1_child_p2() -> None:
    story = Story(p="P16")
    assert copies_after_each(story, "P1", "C", "P2") == [0, 0, N]
    assert [story.states(a) for a in ("P1", "P2", "C")] == ["P" * N] * 3
    assert story.counts == (N, N, 0, 0)
    story.scan()
    assert story.counts == (N, 2 * N, 0, 0)


def test_p16_order_p2_p1_child() -> None:
    story = Story(p="P16")
    assert copies_after_each(story, "P2", "P1", "C") == [0, N, 2 * N]


def test_p16_before_2_6_36_the_swap_cache_serves_relatives_only_by_the_same_anon_vma() -> None:
    story = Story(Semantics(swap_cache_by_root=False), p="P16")
    assert copies_after_each(story, "P1", "C", "P2") == [0, N, 2 * N]


def test_p16_where_the_checksum_comes_first_the_child_joins_a_scan_later() -> None:
    story = Story(LATER, p="P16")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.reclaim()
    for actor in ("P1", "C", "P2"):
        story.verify(actor)
    story.scan()
    assert story.counts == (N, N, 0, N)
    story.scan()
    assert story.counts == (N, 2 * N, 0, 0)


def test_p17_even_the_last_mapper_gets_a_copy() -> None:
    story = Story(p="P17")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.fill("C", count=4, tag=500, op="write")
    assert (story.states("C"), story.states("P1"), cow(story)) == ("PPPP" + "K" * 12, "K" * N, 4)
    assert [story.verify(a) for a in ("P1", "P2", "C")] == [[], [], []]
    story.exit("P1", "C")
    story.fill("P2", tag=600, op="write")
    assert (story.states("P2"), cow(story)) == ("P" * N, 4 + N)


@pytest.mark.parametrize("kept", [False, True])
def test_p17_where_ksm_pages_are_written_to_in_place_the_last_mapper_gets_no_copy(kept: bool) -> None:
    """5.1 to 5.8; unless somebody else has a reference."""
    story = Story(Semantics(wp_reuses_ksm=True, wp_counts_users=True), p="P17")
    story.merged("P1", "P2")
    story.exit("P1")
    if kept:
        story.on("pin", "P2")
    before = [pte.page for _, pte in sorted(story.model.actors["P2"].ptes.items())]
    story.fill("P2", tag=600, op="write")
    after = [pte.page for _, pte in sorted(story.model.actors["P2"].ptes.items())]
    assert (before == after, cow(story), story.states("P2")) == (not kept, N if kept else 0, "P" * N)
    assert story.verify("P2") == []
    story.reclaim()
    assert (story.states("P2"), story.findings) == ("S" * N, [])


@pytest.mark.parametrize("counts", [False, True])
def test_p17_a_reference_more_makes_it_a_copy_since_5_9(counts: bool) -> None:
    story = Story(Semantics(wp_counts_users=counts, swap_ptes_keep_exclusive=False), p="P17")
    story.filled("P1", mergeable=False)
    story.reclaim()
    story.verify("P1")  # which leaves a page in the swap cache that one pte maps
    before = {pte.page for pte in story.model.actors["P1"].ptes.values()}
    story.fill("P1", tag=600, op="write")
    assert (before == {pte.page for pte in story.model.actors["P1"].ptes.values()}) is counts


def test_p18_run_2_after_a_fork() -> None:
    story = Story(p="P18")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.run(2)
    assert cow(story) == 48
    assert story.counts == (0, 0, 0, 0)
    assert story.model.ksmd.full_scans == 0
    assert [story.states(a) for a in ("P1", "P2", "C")] == ["P" * N] * 3
    assert not any(len(p.ptes) > 1 for p in story.model.pages())


def test_p18_swapped_ptes_are_left_alone() -> None:
    story = Story(p="P18")
    story.merged("P1", "P2")
    story.reclaim()
    story.run(2)
    assert (cow(story), story.counts, story.states("P1")) == (0, (0, 0, 0, 0), "S" * N)


@pytest.mark.parametrize("empties", [True, False])
def test_p18_before_3_9_the_swap_cache_keeps_a_stable_node_over_run_2(empties: bool) -> None:
    story = Story(Semantics(unmerging_empties_tree=empties), p="P18")
    story.merged("P1", "P2")
    story.on("pin", "P1")
    story.reclaim()
    story.op("unpin", actor="P1")
    story.run(2)
    assert len(list(story.model.ksmd.tree.nodes())) == (0 if empties else N)
    story.verify("P1")
    assert story.states("P1") == ("P" if empties else "K") * N
    assert copies(story) == (N if empties else 0)


@pytest.mark.parametrize("chains", [True, False])
def test_p18_before_3_9_what_was_unmerged_joins_the_page_that_waits_in_the_swap_cache(chains: bool) -> None:
    """Its node has no item left: before 4.13 nobody asks for one (is_page_sharing_candidate)."""
    story = Story(Semantics(unmerging_empties_tree=False, cow_frees_swap_cache=False, has_chains=chains), p="P18")
    story.merged("P1", "P2")
    story.on("pin", "P1")
    story.reclaim()
    story.op("unpin", actor="P1")
    story.verify("P1")
    story.verify("P2")
    waiting = {pte.page for pte in story.model.actors["P1"].ptes.values()}
    story.run(2)
    assert (story.states("P1"), story.states("P2")) == ("P" * N, "P" * N)
    story.run(1)
    story.scan()
    merged = {pte.page for pte in story.model.actors["P1"].ptes.values()} == waiting
    assert (merged, story.counts) == ((False, (0, 0, 0, 2 * N)) if chains else (True, (N, N, 0, 0)))


def test_p18_unmergeable_touches_only_its_range() -> None:
    story = Story(p="P18")
    story.merged("P1", "P2")
    story.on("unmergeable", "P1", count=8)
    assert (story.states("P1"), story.states("P2"), cow(story)) == ("P" * 8 + "K" * 8, "K" * N, 8)
    assert story.counts == (N, N, 0, 0)  # items stay until ksmd comes by
    story.scan()
    assert story.counts == (N, 8, 0, 0)


def test_p20_chains() -> None:
    story = Story()
    story.op("set", file="max_page_sharing", value="2")
    story.merged(*(f"S{i}" for i in range(5)))
    assert story.counts == (2 * N, 2 * N, N, 0)
    assert (story.model.ksmd.tree.chains, story.model.ksmd.tree.dups) == (N, 2 * N)
    story.fork("S0", "C")
    story.scan()
    assert story.counts[1] == 3 * N
    story.reclaim()
    assert {story.states(a) for a in story.model.actors if a != "Z"} == {"S" * N}


def _only_the_child_is_mergeable(semantics: Semantics) -> Story:
    """Its page, which it still shares with its parent, becomes the KSM page."""
    story = Story(semantics)
    story.filled("Other")
    story.filled("Parent", mergeable=False)
    story.fork("Parent", "Child")
    story.on("mergeable", "Child")
    story.scan(2)
    story.reclaim()
    return story


def test_p22_a_parent_is_out_of_reach_of_its_childs_anon_vma() -> None:
    story = _only_the_child_is_mergeable(Semantics())
    assert [story.states(a) for a in ("Child", "Other", "Parent")] == ["S" * N, "S" * N, "K" * N]


def test_p22_in_2_6_33_relatives_share_one_anon_vma() -> None:
    story = _only_the_child_is_mergeable(Semantics(era="2.6.33"))
    assert [story.states(a) for a in ("Child", "Other", "Parent")] == ["S" * N] * 3


@pytest.mark.parametrize("passes", [True, False])
def test_before_4_4_a_stale_node_may_end_a_search(passes: bool) -> None:
    """Which pages find an equal one then depends on the shape of the tree, and is not judged."""
    story = Story(Semantics(stale_node_ends_search=not passes))
    story.merged("P1", "P2")
    story.reclaim()
    story.on("read", "P1")
    story.on("read", "P2")
    story.scan()
    assert bool(story.model.memory.unsure) is not passes
    story.reclaim()
    assert story.findings == []


def test_a_child_scanned_first_leaves_its_parent_a_plain_page() -> None:
    story = Story()
    story.filled("Parent", mergeable=False)
    story.fork("Parent", "Child")
    story.on("mergeable", "Child")
    story.filled("Other")
    story.scan(2)
    assert [story.states(a) for a in ("Child", "Other", "Parent")] == ["K" * N, "K" * N, "P" * N]
    story.reclaim()
    assert [story.states(a) for a in ("Child", "Other", "Parent")] == ["S" * N] * 3


def test_a_unique_page_that_fork_shares_is_unshared_once() -> None:
    story = Story()
    story.filled("P1")
    story.fork("P1", "C")
    story.scan(2)
    assert story.counts == (0, 0, N, N)


def test_pageout_leaves_ksm_pages_of_several_mappers_alone() -> None:
    story = Story()
    story.merged("P1", "P2")
    story.on("pageout", "P1")
    assert story.states("P1") == "K" * N
    story.exit("P2")
    story.on("pageout", "P1")
    assert story.states("P1") == "S" * N


def test_what_one_of_two_gives_up_is_swapped_as_the_other_has_it() -> None:
    story = Story(p="P16")
    story.filled("P1", "P2")
    story.on("lazyfree", "P2")
    story.scan(2)
    story.on("lazyfree", "P1")
    assert (story.states("P1"), story.counts) == ("K" * N, (N, N, 0, 0))
    story.reclaim()
    assert [story.states(a) for a in ("P1", "P2")] == ["S" * N] * 2
    story.verify("P1")
    assert story.findings == []


@pytest.mark.parametrize("merged", [False, True])
def test_giving_up_what_is_not_only_ones_own_or_may_be_dropped_is_not_followed(merged: bool) -> None:
    story = Story()
    story.merged("P1", "P2")
    if merged:
        story.exit("P2")  # P1's alone, and a KSM page
    else:
        story.fill("P1", tag=1000)
        story.fork("P1", "C")
    with pytest.raises(JournalContradiction):
        story.on("lazyfree", "P1")


def test_pages_that_the_kernel_holds_as_if_to_write_are_ones_own_and_hold_what_they_held() -> None:
    story = Story(p="P17")
    story.merged("P1", "P2")
    before = cow(story)
    story.on("grab", "P1", count=4)
    assert (story.states("P1"), story.states("P2")) == ("P" * 4 + "K" * (N - 4), "K" * N)
    assert cow(story) == before + 4
    story.on("grab", "P1", count=4)
    assert cow(story) == before + 4
    story.verify("P1")
    assert story.observe() == []


def test_a_moved_area_may_stay_without_its_pages() -> None:
    story = Story(p="P11")
    story.merged("P1", "P2")
    story.on("mremap", "P1", to="m", addr=f"{0x1100000000:x}", stays=True)
    assert (story.states("P1"), story.states("P1", "m")) == ("." * N, "P" * N)
    story.fill("P1")
    story.scan(2)
    assert (story.states("P1"), story.states("P1", "m"), story.states("P2")) == ("K" * N,) * 3
    story.reclaim()
    assert (story.states("P1"), story.states("P1", "m"), story.states("P2")) == ("S" * N,) * 3
    story.verify("P1", "m")
    assert story.findings == []


def test_an_area_of_several_vmas_cannot_move_and_stay() -> None:
    story = Story()
    story.merged("P1", "P2")
    story.on("mprotect", "P1", count=4, prot="r")
    with pytest.raises(JournalContradiction):
        story.on("mremap", "P1", to="m", addr=f"{0x1100000000:x}", stays=True)


def test_zero_pages() -> None:
    story = Story()
    story.op("set", file="use_zero_pages", value="1")
    story.filled("P1", tag=0, step=0)
    story.scan(2)
    assert story.states("P1") == "0" * N
    assert story.counts == (0, 0, 0, N)


def test_pinned_pages_are_unmapped_but_come_back_as_ksm_pages() -> None:
    story = Story()
    story.merged("P1", "P2")
    story.on("pin", "P1")
    story.reclaim(lingering=N)
    assert story.states("P2") == "S" * N
    story.verify("P2")
    assert (story.states("P2"), copies(story)) == ("K" * N, 0)
    assert story.oracle.notes == []


def test_p16_swapoff_brings_all_back() -> None:
    story = Story(p="P16")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.exit("P1")
    story.reclaim()
    story.op("swapoff")
    assert story.states("P2") == story.states("C") == "P" * N
    assert story.model.memory.ksm_swpin_copy == N
    assert not any(page.entry for page in story.model.pages())
    assert story.observe() == []
    assert story.verify("C") == [] and story.verify("P2") == []


@pytest.mark.parametrize("frees", [True, False])
def test_a_ksm_page_that_its_last_mapper_copied_leaves_the_swap_cache_or_waits_for_reclaim(frees: bool) -> None:
    story = Story(Semantics(cow_frees_swap_cache=frees), p="P17")
    story.merged("P1", "P2")
    story.on("pin", "P1")
    story.reclaim()
    story.exit("P1")
    story.fill("P2", tag=100, op="write")
    story.scan()
    assert len(story.model.memory.unmapped) == (0 if frees else N)
    story.reclaim()
    assert not story.model.memory.unmapped

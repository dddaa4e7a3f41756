# SPDX-License-Identifier: GPL-2.0-or-later
"""Mappings that move, chains, NUMA nodes, the blind spot, pages of zeros: what the model predicts, and what it calls wrong."""

from __future__ import annotations

from typing import Any

import pytest

from harness.findings import Finding
from harness.oracle import JournalContradiction, Semantics
from tests.unit.oracle_story import HELLO, N, Record, Story

LIKE_ZEROS = 1 << 62
AT = 0x1000000000
FAR = AT + 7 * 0x4000000
LATER = Semantics(cksum_first=True, merging_inherited_at_fork=None, has_zero_pages_counter=True, single_dup_leaves_chain=True)


def move(story: Story, actor: str, area: str = "a", to: str = "m", addr: int = FAR, first: int = 0, count: int = N) -> None:
    story.on("mremap", actor, area, first, count, to=to, addr=f"{addr:x}")


def setting(story: Story, file: str, value: int, errno: str = "") -> list[Finding]:
    return story.op("set", {"rc": -1 if errno else 0, "errno": errno}, file=file, value=str(value))


def sharers(story: Story, count: int, npages: int = 1) -> None:
    story.filled(*(f"S{i}" for i in range(count)), npages=npages)
    story.scan(2)


def chains(story: Story) -> tuple[int, int]:
    return story.model.ksmd.tree.chains, story.model.ksmd.tree.dups


# P11


def test_a_moved_area_is_private_and_merges_again_at_its_new_address() -> None:
    story = Story(p="P11")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    move(story, "P1")
    assert (story.states("P1"), story.states("P1", "m"), story.states("C")) == ("." * N, "P" * N, "K" * N)
    assert story.model.memory.cow_ksm == N
    story.reclaim()
    assert [story.states(a, b) for a, b in (("P1", "m"), ("P2", "a"), ("C", "a"))] == ["S" * N] * 3
    story.verify("P1", "m")
    story.verify("P2")
    story.scan(2)
    assert story.states("P1", "m") == "K" * N
    story.fork("P1", "D")
    story.reclaim()
    assert story.states("D", "m") == "S" * N
    assert story.findings == []


def test_swapped_in_pages_of_a_moved_fork_are_shared_by_index() -> None:
    """page->index is that of the first address: ksm_might_need_to_copy compares it with the vma's."""
    story = Story(p="P11")
    story.filled("P", mergeable=False)
    story.fork("P", "C")
    move(story, "P")
    story.reclaim()
    story.verify("C")
    story.verify("P", "m")
    assert story.model.memory.ksm_swpin_copy == 0
    assert {p.mapcount for p in story.model.pages() if p.content == 1} == {2}


def test_a_ksm_page_that_mremap_moved_is_found() -> None:
    story = Story(p="P11")
    story.merged("P1", "P2")
    move(story, "P1")

    def moved_as_it_was(record: Record) -> None:
        runs = record["procs"]["P1"]["areas"]["m"]
        record["procs"]["P1"]["areas"]["m"] = [[*r[:4], f"{int(r[4], 16) | 1 << 21:x}", r[5]] for r in runs]

    assert [f.signature for f in story.observe(moved_as_it_was)] == ["P11:still-ksm:mremap"]


def test_areas_grow_and_shrink_where_they_are() -> None:
    story = Story(p="P11")
    story.merged("P1", "P2")
    story.op("resize", actor="P1", area="a", bytes=2 * N * 4096)
    assert story.states("P1") == "K" * N + "." * N
    story.op("resize", actor="P1", area="a", bytes=4096)
    assert story.states("P1") == "K"
    story.on("renew", "P2", first=2, count=3)
    assert story.states("P2")[:6] == "KK...K"
    story.fill("P2", first=2, count=3, tag=50)
    story.reclaim()
    assert story.states("P2") == "S" * N


@pytest.mark.parametrize(
    "wrong",
    [
        {"addr": f"{AT + 4096:x}"},
        {"addr": "1"},
        {"addr": "x"},
        {"first": N, "count": 1},
        {"to": "b", "addr": f"{FAR:x}"},
    ],
)
def test_impossible_moves(wrong: dict[str, Any]) -> None:
    story = Story(p="P11")
    story.filled("P1")
    story.map("P1", "b", 1)
    arguments: dict[str, Any] = {"to": "m", "addr": f"{FAR:x}", "first": 0, "count": N}
    with pytest.raises(JournalContradiction):
        story.on("mremap", "P1", "a", **(arguments | wrong))


# P20


def test_five_sharers_where_two_are_allowed() -> None:
    """Measured on 6.1: after two scans shared=2N sharing=2N unshared=N, N chains of 2; a fork goes beyond the limit."""
    story = Story(p="P20")
    setting(story, "max_page_sharing", 2)
    sharers(story, 5, N)
    assert (story.counts, chains(story)) == ((2 * N, 2 * N, N, 0), (N, 2 * N))
    story.fork("S1", "C")
    story.scan()
    assert story.counts[1] == 3 * N
    story.reclaim()
    assert {story.states(a) for a in story.model.actors if a != "Z"} == {"S" * N}


@pytest.mark.parametrize(("prune", "expected"), [(0, (0, 0)), (1_000_000_000, (1, 1))])
def test_a_chain_of_one_collapses_when_it_is_pruned(prune: int, expected: tuple[int, int]) -> None:
    story = Story(p="P20")
    setting(story, "stable_node_chains_prune_millisecs", prune)
    setting(story, "max_page_sharing", 2)
    sharers(story, 5)
    story.exit("S0", "S1", "S2")
    story.scan(2)
    assert chains(story) == expected
    assert story.counts == (1, 1, 0, 0)


def test_later_kernels_collapse_a_full_chain_of_one() -> None:
    story = Story(LATER, p="P20")
    setting(story, "stable_node_chains_prune_millisecs", 1_000_000_000)
    setting(story, "max_page_sharing", 2)
    sharers(story, 5)
    story.exit("S0", "S1")
    story.scan(2)
    assert chains(story) == (0, 0)
    assert story.counts == (1, 1, 1, 0)


def test_the_fullest_page_with_room_gets_the_next_sharer() -> None:
    story = Story(p="P20")
    setting(story, "stable_node_chains_prune_millisecs", 0)
    setting(story, "max_page_sharing", 4)
    sharers(story, 8)
    story.exit("S0", "S4", "S5")
    story.scan()
    story.filled("L", npages=1)
    story.scan(2)
    assert sorted(p.mapcount for p in story.model.pages() if p.ksm) == [2, 4]


@pytest.mark.parametrize("file", ["max_page_sharing", "merge_across_nodes"])
def test_the_limits_are_refused_while_pages_are_merged(file: str) -> None:
    story = Story(p="P20")
    story.merged("P1", "P2")
    assert setting(story, file, 100 if file == "max_page_sharing" else 0, "EBUSY") == []
    (finding,) = setting(story, file, 100 if file == "max_page_sharing" else 0)
    assert finding.signature == "P20:tunable:set"


def test_the_limits_can_be_set_when_nothing_is_merged() -> None:
    story = Story(p="P20")
    assert setting(story, "max_page_sharing", 1, "EINVAL") == []
    assert setting(story, "max_page_sharing", 2) == []
    (finding,) = setting(story, "merge_across_nodes", 0, "EBUSY")
    assert "was to be accepted" in finding.summary


def test_each_node_has_its_own_page() -> None:
    story = Story(p="P20")
    setting(story, "merge_across_nodes", 0)
    for i in range(4):
        story.spawn(f"S{i}")
        story.map(f"S{i}")
        story.on("bind", f"S{i}", node=i % 2)
        story.fill(f"S{i}")
        story.on("mergeable", f"S{i}")
    story.scan(2)
    assert story.counts == (2 * N, 2 * N, 0, 0)
    assert {tuple(sorted(t.mm.name for t in p.ptes)) for p in story.model.pages() if p.ksm} == {("S0", "S2"), ("S1", "S3")}
    assert story.observe() == []


# P22


def blind(story: Story) -> None:
    story.filled("P", mergeable=False)
    story.fork("P", "C")
    story.filled("O")
    story.on("mergeable", "C")
    story.scan(2)


def test_the_parent_stays_and_that_is_remarked_upon() -> None:
    story = Story(p="P22")
    blind(story)
    story.reclaim(keep=[["P", "a", 0, N]])
    assert [story.states(a) for a in ("P", "C", "O")] == ["K" * N, "S" * N, "S" * N]
    (remark,) = story.oracle.remarks
    assert f"P (pid {story.model.actors['P'].pid}) kept {N} KSM pages, as expected" in remark
    assert story.findings == []


def test_a_child_that_stays_too_is_found_though_the_parent_is_not_waited_for() -> None:
    story = Story(p="P22")
    blind(story)
    attempts = story.predicted_attempts()
    attempts[0]["states"]["C"]["a"] = [[N, "P"]]
    (finding,) = story.reclaim(attempts, keep=[["P", "a", 0, N]])
    assert (finding.signature, finding.actors) == ("P22:still-mapped:reclaim", ("C",))


def test_the_knobs_are_busy_while_the_parent_maps_what_nobody_shares() -> None:
    story = Story(p="P22")
    blind(story)
    story.exit("C", "O")
    story.scan()
    assert story.counts == (0, 0, 0, 0)
    assert setting(story, "max_page_sharing", 9, "EBUSY") == []
    story.exit("P")
    assert setting(story, "max_page_sharing", 9) == []


# P23


def test_zeros_in_a_huge_page_are_counted_no_more() -> None:
    story = Story(LATER, p="P23")
    setting(story, "use_zero_pages", 1)
    story.filled("P1", tag=0, step=0)
    story.scan(2)
    assert story.model.memory.ksm_zero_pages == N
    story.on("collapse", "P1", results={"error": "EAGAIN"})
    assert story.states("P1") == "0" * N
    story.on("collapse", "P1", results={"error": ""})
    assert story.states("P1") == "P" * N
    assert story.model.memory.ksm_zero_pages == 0
    assert story.observe() == []


@pytest.mark.parametrize("xxh64", [True, False])
def test_a_page_that_becomes_like_zeros_is_settled_if_the_checksum_takes_it_for_zeros(xxh64: bool) -> None:
    story = Story(Semantics(xxh64_checksum=xxh64), p="P23")
    story.filled("P1", npages=2, tag=0, step=0)
    story.scan()
    story.fill("P1", count=2, tag=LIKE_ZEROS)
    story.scan()
    assert story.counts == ((0, 0, 2, 0) if xxh64 else (0, 0, 0, 2))


@pytest.mark.parametrize("semantics", [Semantics(), LATER])
def test_zeros_are_given_up_and_what_looks_like_them_is_not(semantics: Semantics) -> None:
    story = Story(semantics, p="P23")
    setting(story, "use_zero_pages", 1)
    story.filled("P1", "P2", tag=0, step=0)
    story.filled("Q1", "Q2", tag=LIKE_ZEROS)
    story.scan(2)
    assert [story.states(a) for a in ("P1", "P2", "Q1", "Q2")] == ["0" * N, "0" * N, "K" * N, "K" * N]
    assert story.model.memory.ksm_zero_pages == 2 * N
    assert story.counts == (N, N, 0, 2 * N)  # items of zeros stay until the next scan
    story.scan()
    assert story.counts == (N, N, 0, 0)
    story.fill("P1", count=1, tag=5)
    story.fork("P1", "C")
    assert story.model.memory.ksm_zero_pages == 2 * N - 1 + N - 1
    story.on("unmergeable", "P2")
    assert story.states("P2") == ("P" if semantics.has_zero_pages_counter else "0") * N
    story.exit("P1", "C")
    assert story.model.memory.ksm_zero_pages == (0 if semantics.has_zero_pages_counter else N)
    assert story.observe() == []


@pytest.mark.parametrize("inherited", [None, False, True])
def test_a_forks_zeros_are_counted_where_its_other_counters_are_reset(inherited: bool | None) -> None:
    story = Story(Semantics(has_zero_pages_counter=True, merging_inherited_at_fork=inherited), p="P23")
    setting(story, "use_zero_pages", 1)
    story.filled("P1", tag=0, step=0)
    story.scan(2)
    story.fork("P1", "C")
    assert story.model.memory.ksm_zero_pages == (N if inherited else 2 * N)
    assert story.model.actors["C"].zero_pages == N


def test_a_page_that_is_not_of_zeros_and_became_them_is_found() -> None:
    story = Story(p="P23")
    story.filled("P1")

    def zeros(record: Record) -> None:
        record["procs"]["P1"]["areas"]["a"] = [[N, "P", 7, 0, f"{1 << 24:x}", 0]]

    (finding,) = story.observe(zeros)
    assert finding.signature == "P23:zeros:fill"


def huge_story(*, twin: bool) -> Story:
    story = Story(p="P23")
    story.filled("H", mergeable=False)
    story.on("hugepage", "H", pages=N)
    if twin:
        story.fill("H", first=N // 2, count=N // 2)

    def huge(record: Record) -> None:
        for run in record["procs"]["H"]["areas"]["a"]:
            run[4] = f"{int(run[4], 16) | 1 << 22:x}"

    assert story.observe(huge) == []
    story.on("mergeable", "H")
    return story


def test_ksmd_splits_a_huge_page() -> None:
    story = huge_story(twin=False)
    story.filled("P")
    story.scan()
    assert all(t.page and t.page.compound for t in story.model.actors["H"].ptes.values())
    story.scan()
    assert story.states("H") == "K" * N
    assert story.observe() == []


def test_halves_of_one_huge_page_merge_one_scan_late() -> None:
    story = huge_story(twin=True)
    story.scan(2)
    assert story.counts == (N // 2 - 1, N // 2 - 1, 1, 1)
    story.scan()
    assert story.counts == (N // 2, N // 2, 0, 0)


def test_shared_mappings_are_left_alone() -> None:
    story = Story(p="P23")
    for actor in ("P1", "P2"):
        story.spawn(actor)
        story.op("map", actor=actor, area="a", addr=f"{AT:x}", bytes=N * 4096, shared=True)
        story.fill(actor)
        story.on("mergeable", actor)
    story.scan(2)
    assert story.counts == (0, 0, 0, 0)
    assert story.op("smaps", {"mergeable": 0, "ksm": None}, actor="P1", area="a") == []
    (finding,) = story.op("smaps", {"mergeable": N, "ksm": None}, actor="P2", area="a")
    assert finding.signature == "P23:vm-flags:smaps"
    assert story.op("strange", {"pages": 4, "mergeable": 0}, actor="P1", mapping="file") == []
    assert story.op("vvar", {"pages": 4, "mergeable": 0}, actor="P1") == []
    (finding,) = story.op("strange", {"pages": 1, "mergeable": 1}, actor="P1", mapping="droppable")
    assert finding.signature == "P23:vm-flags:strange" and "P1.[droppable]" in finding.summary


def test_a_process_merged_as_a_whole() -> None:
    story = Story(Semantics(has_merge_any=True, merging_inherited_at_fork=None), p="P23")
    for actor in ("P1", "P2"):
        story.filled(actor, mergeable=False)
        assert story.op("merge_any", actor=actor, on=True) == []
        story.map(actor, "b")
        story.fill(actor, "b", tag=100)
    story.scan(2)
    assert story.states("P1") == story.states("P2", "b") == "K" * N
    story.fork("P1", "C")
    story.op("exec", actor="C")
    story.map("C", "d")
    assert story.op("smaps", {"mergeable": N, "ksm": None}, actor="C", area="d") == []
    assert story.op("strange", {"pages": 1, "mergeable": 1}, actor="C", mapping="heap") == []
    (finding,) = story.op("strange", {"pages": 1, "mergeable": 0}, actor="C", mapping="heap")
    assert "0 pages of C.[heap] are VM_MERGEABLE where 1 are expected" in finding.summary
    assert story.op("merge_any", {"told": 0}, actor="P2", on=False) == []
    assert story.states("P2") == "P" * N
    story.map("P2", "e")
    assert story.op("smaps", {"mergeable": 0, "ksm": None}, actor="P2", area="e") == []
    (finding,) = story.op("merge_any", {"told": 1}, actor="P2", on=False)
    assert finding.signature == "P23:prctl:merge_any"


def test_a_kernel_without_memory_merge_refuses_it() -> None:
    story = Story(p="P23")
    story.spawn("P1")
    assert story.op("merge_any", {"rc": -1, "errno": "EINVAL"}, actor="P1", on=True) == []
    (finding,) = story.op("merge_any", {"rc": -1, "errno": "ENOMEM"}, actor="P1", on=True)
    assert finding.signature == "P23:prctl:merge_any"


@pytest.mark.parametrize("item_bytes", [64, 72, None])
def test_profit_is_less_the_size_of_the_kernels_items(item_bytes: int | None) -> None:
    story = Story(Semantics(has_zero_pages_counter=True), hello={**HELLO, "rmap_item_bytes": item_bytes})
    story.merged("P1", "P2")
    items = 2 * N * (item_bytes or 64)

    def profit(record: Record) -> None:
        record["ksm"]["general_profit"] = str(N * 4096 - items)

    def wrong(record: Record) -> None:
        record["ksm"]["general_profit"] = str(N * 4096 - items + 8 * N)

    assert story.observe(profit) == []
    (finding,) = story.observe(wrong)
    assert finding.signature == "P14:counter-general_profit:obs"


@pytest.mark.parametrize("counted", [False, True])
def test_profit_is_of_zeros_too_where_they_are_counted(counted: bool) -> None:
    """As since 6.6; 6.4 has the profit without them."""
    story = Story(Semantics(has_zero_pages_counter=counted), p="P23")
    setting(story, "use_zero_pages", 1)
    story.filled("P1", tag=0, step=0)
    story.scan(3)
    assert story.counts == (0, 0, 0, 0)

    def profit(record: Record) -> None:
        record["ksm"]["general_profit"] = str(N * 4096 * counted)
        stat = record["procs"]["P1"]["stat"]
        stat |= {"ksm_merging_pages": 0, "ksm_rmap_items": 0, "ksm_process_profit": N * 4096 * counted}
        if counted:
            stat["ksm_zero_pages"] = N

    def wrong(record: Record) -> None:
        profit(record)
        record["procs"]["P1"]["stat"]["ksm_process_profit"] += 8

    assert story.observe(profit) == []
    assert [f.kind for f in story.observe(wrong)] == ["counter-ksm_process_profit"]


def test_run_is_not_merging_and_unmerging_at_once() -> None:
    story = Story(p="P18")
    assert setting(story, "run", 3, "EINVAL") == []
    (finding,) = setting(story, "run", 3)
    assert finding.signature == "P18:tunable:set"

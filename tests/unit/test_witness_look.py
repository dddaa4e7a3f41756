# SPDX-License-Identifier: GPL-2.0-or-later
"""The second witness's eyes: structures in memory to Graph, and memory that may hold anything."""

from __future__ import annotations

import os
import random
import time

import pytest

from harness.graph import AnonVma, Chain, Item, Mm, Node, Slot, Vma
from harness.witness import follow
from tests.unit.kernel_heap import BASE, SIZE, Heap, Story

ORDERS = pytest.mark.parametrize("order", ["<", ">"])


@ORDERS
def test_all_that_is_there(order: str) -> None:
    s = Story(order)
    s.heap.variable("ksm_pages_sharing", 4)
    graph = s.heap.looker().look()
    assert graph.faults == ()
    one, two = s.items
    whole, first, second, moved = s.nodes
    assert graph.slots == (Slot(s.slots[0], s.mms[0], tuple(one)), Slot(s.slots[1], s.mms[1], tuple(two)))
    assert graph.nodes == {
        whole: Node(whole, 0, 0, 100, 2, (one[0], two[0])),
        first: Node(first, 0, s.chain, 101, 2, (one[1], two[1])),
        second: Node(second, 0, s.chain, 102, 2, (one[2], two[2])),
        moved: Node(moved, -1, 0, 103, 2, (one[3], two[3])),
    }
    assert graph.chains == {s.chain: Chain(s.chain, 0, (first, second))}
    assert graph.items[one[1]] == Item(one[1], s.mms[0], 0x11000, 0x200, s.anon_vmas[0], first)
    assert graph.items[two[4]] == Item(two[4], s.mms[1], 0x18000, 0x105, 0, 0), "its union holds a nid and an rb_node"
    assert set(graph.anon_vmas) == set(s.anon_vmas)
    a = s.anon_vmas[0]
    assert graph.anon_vmas[a] == AnonVma(a, a, a, 4, 1, 1, (s.vmas[0],))
    assert graph.vmas[s.vmas[1]] == Vma(s.vmas[1], s.mms[1], 0x10000, 0x20000, 16, 0x8000_0073, s.anon_vmas[1], (s.anon_vmas[1],))
    mm = graph.mms[s.mms[0]]
    assert (mm.pid, mm.comm, mm.users, mm.count) == (7, "P1", 1, 2)
    assert [graph.vmas[vma].start for vma in mm.vmas] == [0x10000, *range(0x50000, 0x56000, 0x1000)], "no file's vma; ascending"
    assert set(graph.mms) == set(s.mms), "neither init nor a kernel thread"
    assert graph.counters["ksm_pages_sharing"] == 4


def test_a_dead_mm_that_a_slot_still_has() -> None:
    s = Story()
    s.heap.tasks([])
    graph = s.heap.looker().look()
    assert {mm.pid for mm in graph.mms.values()} == {0}
    assert isinstance(graph.mms[s.mms[1]], Mm)


def test_trees_of_several_nodes() -> None:
    s = Story()
    h = s.heap
    h.variable("ksm_nr_node_ids", 2)
    roots = h.room(16)
    h.word(roots + 8, h.tree("node", [s.nodes[0]]))
    h.variable("root_stable_tree", roots)
    h.variable("root_unstable_tree", h.room(16))
    graph = h.looker().look()
    assert [node.tree for node in graph.nodes.values()] == [1, -1]


def test_unstable_trees_are_dead_between_scans() -> None:
    s = Story()
    loose = [items[4] for items in s.items]
    s.heap.word(s.heap.unstable, s.heap.tree("item", loose))
    assert s.heap.looker().look().unstable == ()
    s.heap.variable("cursor", s.slots[0])
    assert s.heap.looker().look().unstable == tuple(loose)


def drop_second(s: Story) -> None:
    """Nothing leads to the second process any more."""
    h = s.heap
    h.ring("slot", h.layout.symbols["ksm_mm_head"] + h.offset("slot", "next"), [])
    h.ring("node", h.layout.symbols["migrate_nodes"], [], "list_next", "list_prev")
    h.word(h.stable, 0)
    h.tasks([h.task(7, s.mms[0])])
    h.set("anon_vma", s.anon_vmas[1], refcount=3)


@pytest.mark.parametrize(("byte", "there"), [(0xCC, True), (0xBB, False), (0, False)])  # in use, free, something else
def test_the_red_zone_tells_what_is_an_anon_vma_still(byte: int, there: bool) -> None:
    s = Story()
    for anon_vma in s.anon_vmas:
        s.heap.red_zone("anon_vma", anon_vma, 0xCC)
    looker = s.heap.looker()
    looker.look()
    drop_second(s)
    s.heap.red_zone("anon_vma", s.anon_vmas[1], byte)
    assert (s.anon_vmas[1] in looker.look().former) is there


def test_what_nothing_leads_to_any_more_is_looked_at_once_more() -> None:
    s = Story()
    looker = s.heap.looker()
    assert looker.look().former == {}
    h = s.heap
    drop_second(s)
    graph = looker.look()
    gone = s.anon_vmas[1]
    assert graph.former == {gone: AnonVma(gone, gone, gone, 3, 1, 1, (s.vmas[1],))}
    assert looker.look().former == {}
    h.set("anon_vma", s.anon_vmas[0], tree=0x6B6B6B6B6B6B6B6B)
    h.tasks([])
    graph = looker.look()
    assert (graph.former[s.anon_vmas[0]].vmas, graph.faults) == ((), ()), "what it is now need not be an anon_vma"


def test_a_files_vma_is_of_interest_only_for_its_anon_vma() -> None:
    s = Story()
    h = s.heap
    file = s.vmas[0] + h.layout.sizes["vma"] + 8
    own = h.new("anon_vma", refcount=1)
    h.set("anon_vma", own, root=own, parent=own)
    assert file not in h.looker().look().vmas
    h.set("vma", file, anon_vma=own)
    h.ring("chain", file + h.offset("vma", "next"), [h.new("chain", vma=file, anon_vma=own)])
    graph = h.looker().look()
    assert file in graph.vmas
    assert file not in graph.mms[s.mms[0]].vmas
    assert own in graph.anon_vmas


# What cannot be followed.


def faults(s: Story) -> str:
    return "\n".join(s.heap.looker().look().faults)


@pytest.mark.parametrize("poison", [0xDEAD_0000_0000_0122, 0x6B6B_6B6B_6B6B_6B6B, 1, BASE + SIZE, BASE + SIZE - 8, 1 << 63])
def test_a_poisoned_pointer_is_a_fault(poison: int) -> None:
    s = Story()
    s.heap.set("item", s.items[0][2], rmap_list=poison)
    assert f"rmap_list of item {s.items[0][2]:#x} is {poison:#x}, where nothing can be" in faults(s)


def test_every_pointer_poisoned() -> None:
    """One after the other: always a fault that names it, and the rest is there."""
    for kind, what, member in (
        ("node", "nodes", "hlist"), ("vma", "vmas", "next"), ("vma", "vmas", "anon_vma"), ("mm", "mms", "maple"),
        ("anon_vma", "anon_vmas", "tree"), ("anon_vma", "anon_vmas", "root"), ("anon_vma", "anon_vmas", "parent"),
    ):  # fmt: skip
        s = Story()
        s.heap.set(kind, getattr(s, what)[0], **{member: 0xDEAD_0000_0000_0100})
        graph = s.heap.looker().look()
        assert any("0xdead000000000100" in fault for fault in graph.faults), (kind, member)
        assert len(graph.slots) == 2


def test_lists_that_come_round() -> None:
    s = Story()
    s.heap.set("item", s.items[0][4], rmap_list=s.items[0][1])
    assert f"comes round to item {s.items[0][1]:#x}" in faults(s)
    s = Story()
    h = s.heap
    first = s.items[0][0] + h.offset("item", "next")
    h.set("item", s.items[1][0], next=first)
    assert "comes round" in faults(s)
    s = Story()
    h = s.heap
    h.set("slot", s.slots[1], next=s.slots[0] + h.offset("slot", "next"))
    assert "ksm_mm_head comes round" in faults(s)
    s = Story()
    h = s.heap
    h.set("node", s.chain, left=s.nodes[0] + h.offset("node", "parent"))
    assert "stable tree 0 comes round" in faults(s)


def test_links_that_do_not_lead_back() -> None:
    s = Story()
    s.heap.set("slot", s.slots[1], prev=BASE)
    assert f"is {BASE:#x}, not" in faults(s)
    s = Story()
    s.heap.set("item", s.items[1][0], pprev=BASE)
    assert f"in the hlist of node {s.nodes[0]:#x} is {BASE:#x}, not" in faults(s)
    s = Story()
    s.heap.set("node", s.chain, parent=BASE)
    assert "the parent of" in faults(s)


def test_a_node_in_two_places() -> None:
    s = Story()
    h = s.heap
    h.hlist("node", s.chain + h.offset("node", "hlist"), [s.nodes[1], s.nodes[0]], "dup_next", "dup_pprev")
    assert f"node {s.nodes[0]:#x} is in more than one place" in faults(s)


def test_a_chain_link_of_another_vma() -> None:
    s = Story()
    h = s.heap
    stray = h.new("chain", vma=s.vmas[1], anon_vma=s.anon_vmas[0])
    h.ring("chain", s.vmas[0] + h.offset("vma", "next"), [stray])
    assert f"chain {stray:#x} in anon_vma_chain of vma {s.vmas[0]:#x} is of vma {s.vmas[1]:#x}" in faults(s)


def test_more_than_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "MOST_OBJECTS", 20)
    s = Story()
    graph = s.heap.looker().look()
    assert "more than 20 structures" in graph.faults[-1]
    assert graph.slots, "what was seen before is told"


def test_any_memory_at_all() -> None:
    """Bits that flip anywhere: never an exception, never an endless loop."""
    rolls = random.Random(6)
    for round_ in range(150):
        s = Story("<" if round_ % 2 else ">")
        looker = s.heap.looker()
        for _ in range(rolls.choice((1, 4, 64))):
            at = rolls.randrange(0x100, 0x4000 + 0x3000)
            value = rolls.choice((0, 0xFF, rolls.randrange(256)))
            os.pwrite(s.heap.fd, bytes([value]) * rolls.choice((1, 8)), at)
        started = time.thread_time()
        looker.look()
        assert time.thread_time() - started < 5
        os.close(s.heap.fd)


def test_random_memory() -> None:
    rolls = random.Random(7)
    heap = Heap()
    words = [BASE + 8 * rolls.randrange(SIZE // 8) for _ in range(SIZE // 8)]
    for at, word in enumerate(words[0x800:], start=0x800):
        os.pwrite(heap.fd, word.to_bytes(8, "little"), 8 * at)
    started = time.thread_time()
    graph = heap.looker().look()
    assert graph.faults
    assert time.thread_time() - started < 20


def test_a_maple_tree_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node leads to new ones, and none to a vma."""
    monkeypatch.setattr(follow, "MOST_OBJECTS", 500)
    s = Story()
    h = s.heap
    nodes = [h.room(256, 256) for _ in range(2000)]
    for i, node in enumerate(nodes):
        depth = len(str(9 * i)) - 1  # of the tree of ten children each, in this order
        for slot in range(10):
            child = nodes[10 * i + slot + 1] if 10 * i + slot + 1 < len(nodes) else 0
            h.word(node + 8 + 8 * slot, 10 ** (12 - 3 * depth) * (slot + 1))
            h.word(node + 8 + 8 * 15 + 8 * slot, child | 2 << 3 | 6 if child else 0)
    h.set("mm", s.mms[0], maple=nodes[0] | 2 << 3 | 6)
    assert "more than 500 structures" in h.looker().look().faults[-1]


def test_a_former_tree_without_an_end_loses_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Story()
    looker = s.heap.looker()
    looker.look()
    h = s.heap
    h.tasks([])
    h.ring("slot", h.layout.symbols["ksm_mm_head"] + h.offset("slot", "next"), [])
    h.word(h.stable, 0xDEAD_0000_0000_0100)
    h.ring("node", h.layout.symbols["migrate_nodes"], [], "list_next", "list_prev")
    chains = [h.new("chain") for _ in range(100)]
    h.set("anon_vma", s.anon_vmas[0], tree=h.tree("chain", chains))
    monkeypatch.setattr(follow, "MOST_OBJECTS", 50)
    graph = looker.look()
    assert "0xdead000000000100" in graph.faults[0]
    assert "more than 50 structures" in graph.faults[-1]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a second witness saw, compared with the model: each single thing that is wrong in the kernel's memory is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness import graph
from harness.findings import Finding, Tier
from harness.graph import Graph
from harness.oracle import Oracle
from tests.unit.oracle_story import N, Record, Story, recorded
from tests.unit.test_oracle_census import Story as Roaming
from tests.unit.witness_graph import PAGE_SIZE, Kernel

Corruption = Callable[["Watched", Graph], Graph]


class Watched(Story):
    """A story with a look after each operation."""

    def __init__(self, **more: Any) -> None:
        self.kernel: Kernel | None = None
        super().__init__(**more)
        self.kernel = Kernel(self.model)

    def step(self, record: Record) -> list[Finding]:
        found = super().step(record)
        if record["kind"] == "ret" and self.kernel is not None:
            assert self.look() == []
        return found

    def look(self, corrupt: Corruption | None = None) -> list[Finding]:
        assert self.kernel is not None
        seen = self.kernel.look()
        found = self.oracle.look(self.seq, corrupt(self, seen) if corrupt else seen)
        self.findings += found
        return found

    def look_only(self) -> Graph:
        assert self.kernel is not None
        return self.kernel.look()

    def item(self, seen: Graph, actor: str, page: int) -> graph.Item:
        mm = self.model.actors[actor]
        return next(i for i in seen.items.values() if i.mm == self.at(mm) and i.addr == (mm.areas["a"].start + page) * PAGE_SIZE)

    def at(self, thing: Any) -> int:
        assert self.kernel is not None
        return self.kernel.at(thing)

    def anon_vma(self, actor: str, seen: Graph) -> graph.AnonVma:
        vma = self.model.actors[actor].vmas[0]
        assert vma.anon_vma is not None
        return seen.anon_vmas[self.at(vma.anon_vma)]


def put(seen: Mapping[int, Any], *things: Any) -> dict[int, Any]:
    """The same objects, but for these."""
    return {**seen, **{thing.address: thing for thing in things}}


def merged(**more: Any) -> Watched:
    """P1 and P2 merged, C a child of P1 that has items too."""
    story = Watched(**more)
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.scan()
    return story


def references(delta: int, actor: str = "P1") -> Corruption:
    def corrupt(story: Watched, seen: Graph) -> Graph:
        anon = story.anon_vma(actor, seen)
        return replace(seen, anon_vmas=put(seen.anon_vmas, replace(anon, refcount=anon.refcount + delta)))

    return corrupt


def without_item(story: Watched, seen: Graph) -> Graph:
    """Its node and its anon_vma have let go of it as well."""
    item = story.item(seen, "C", 3)
    node, anon = seen.nodes[item.head], seen.anon_vmas[item.anon_vma]
    node = replace(node, items=tuple(a for a in node.items if a != item.address), length=node.length - 1)
    slots = tuple(replace(s, items=tuple(a for a in s.items if a != item.address)) for s in seen.slots)
    counters = {**seen.counters, "ksm_pages_sharing": seen.counters["ksm_pages_sharing"] - 1}
    counters["ksm_rmap_items"] -= 1
    return replace(
        seen,
        items={a: i for a, i in seen.items.items() if a != item.address},
        nodes=put(seen.nodes, node),
        anon_vmas=put(seen.anon_vmas, replace(anon, refcount=anon.refcount - 1)),
        slots=slots,
        counters=counters,
    )


def item_of_nowhere(story: Watched, seen: Graph) -> Graph:
    extra = replace(story.item(seen, "C", N - 1), address=0x1234, flags=0, addr=story.item(seen, "C", N - 1).addr + PAGE_SIZE)
    slots = tuple(replace(s, items=(*s.items, extra.address)) if s.mm == extra.mm else s for s in seen.slots)
    counters = {**seen.counters, "ksm_rmap_items": seen.counters["ksm_rmap_items"] + 1}
    return replace(seen, items=put(seen.items, extra), slots=slots, counters=counters)


def item_without_flags(story: Watched, seen: Graph) -> Graph:
    """It has left the tree, by the book."""
    item = story.item(seen, "C", 3)
    node, anon = seen.nodes[item.head], seen.anon_vmas[item.anon_vma]
    node = replace(node, items=tuple(a for a in node.items if a != item.address), length=node.length - 1)
    return replace(
        seen,
        items=put(seen.items, replace(item, flags=0)),
        nodes=put(seen.nodes, node),
        anon_vmas=put(seen.anon_vmas, replace(anon, refcount=anon.refcount - 1)),
        counters={**seen.counters, "ksm_pages_sharing": seen.counters["ksm_pages_sharing"] - 1},
    )


def hlist_forgets(story: Watched, seen: Graph) -> Graph:
    """The node's list lacks one that thinks it is there."""
    item = story.item(seen, "C", 3)
    node = seen.nodes[item.head]
    node = replace(node, items=tuple(a for a in node.items if a != item.address), length=node.length - 1)
    return replace(
        seen, nodes=put(seen.nodes, node), counters={**seen.counters, "ksm_pages_sharing": seen.counters["ksm_pages_sharing"] - 1}
    )


def item_in_another_node(story: Watched, seen: Graph) -> Graph:
    item, other = story.item(seen, "C", 3), story.item(seen, "C", 4)
    old, new = seen.nodes[item.head], seen.nodes[other.head]
    old = replace(old, items=tuple(a for a in old.items if a != item.address), length=old.length - 1)
    new = replace(new, items=(item.address, *new.items), length=new.length + 1)
    return replace(seen, nodes=put(seen.nodes, old, new), items=put(seen.items, replace(item, head=new.address)))


def anon_vmas_swapped(story: Watched, seen: Graph) -> Graph:
    """One item holds its parent's, and an item of the parent its child's: no count shows it."""
    one, two = story.item(seen, "C", 3), story.item(seen, "P1", 3)
    items = put(seen.items, replace(one, anon_vma=two.anon_vma), replace(two, anon_vma=one.anon_vma))
    return replace(seen, items=items)


def anon_vma_missing(story: Watched, seen: Graph) -> Graph:
    """What a fork's item is like that never took a reference."""
    item = story.item(seen, "C", 3)
    anon = seen.anon_vmas[item.anon_vma]
    return replace(
        seen,
        items=put(seen.items, replace(item, anon_vma=0)),
        anon_vmas=put(seen.anon_vmas, replace(anon, refcount=anon.refcount - 1)),
    )


def items_out_of_order(story: Watched, seen: Graph) -> Graph:
    slots = tuple(replace(s, items=(s.items[1], s.items[0], *s.items[2:])) if len(s.items) > 1 else s for s in seen.slots)
    return replace(seen, slots=slots)


def item_in_anothers_list(story: Watched, seen: Graph) -> Graph:
    item = story.item(seen, "C", 3)
    return replace(seen, items=put(seen.items, replace(item, mm=story.at(story.model.actors["P1"]))))


def slot_missing(story: Watched, seen: Graph) -> Graph:
    """With all that its items were."""
    slot = next(s for s in seen.slots if s.mm == story.at(story.model.actors["C"]))
    for address in slot.items:
        item = seen.items[address]
        node, anon = seen.nodes[item.head], seen.anon_vmas[item.anon_vma]
        node = replace(node, items=tuple(a for a in node.items if a != address), length=node.length - 1)
        anon = replace(anon, refcount=anon.refcount - 1)
        counters = {**seen.counters, "ksm_pages_sharing": seen.counters["ksm_pages_sharing"] - 1}
        counters["ksm_rmap_items"] -= 1
        items = {a: i for a, i in seen.items.items() if a != address}
        seen = replace(seen, items=items, nodes=put(seen.nodes, node), anon_vmas=put(seen.anon_vmas, anon), counters=counters)
    return replace(seen, slots=tuple(s for s in seen.slots if s is not slot))


def slot_of_the_dead(story: Watched, seen: Graph) -> Graph:
    mm = graph.Mm(0xDEAD00, 0, "", 0, 1, ())
    return replace(seen, mms=put(seen.mms, mm), slots=(*seen.slots, graph.Slot(0xDEAD10, mm.address, ())))


def slots_reversed(story: Watched, seen: Graph) -> Graph:
    return replace(seen, slots=tuple(reversed(seen.slots)))


def slots_mm_dropped(story: Watched, seen: Graph) -> Graph:
    mm = seen.mms[story.at(story.model.actors["C"])]
    return replace(seen, mms=put(seen.mms, replace(mm, count=1)))


def length_off(story: Watched, seen: Graph) -> Graph:
    node = seen.nodes[story.item(seen, "C", 3).head]
    return replace(seen, nodes=put(seen.nodes, replace(node, length=node.length + 1)))


def node_of_another_page(story: Watched, seen: Graph) -> Graph:
    one, two = (seen.nodes[story.item(seen, "C", page).head] for page in (3, 4))
    return replace(seen, nodes=put(seen.nodes, replace(one, kpfn=two.kpfn), replace(two, kpfn=one.kpfn)))


def pte_uncounted(story: Watched, seen: Graph) -> Graph:
    page = seen.pages[seen.nodes[story.item(seen, "C", 3).head].kpfn]
    return replace(seen, pages={**seen.pages, page.pfn: replace(page, mapcount=page.mapcount - 1)})


def another_tree(story: Watched, seen: Graph) -> Graph:
    node = seen.nodes[story.item(seen, "C", 3).head]
    return replace(seen, nodes=put(seen.nodes, replace(node, tree=1)))


def empty_node(story: Watched, seen: Graph) -> Graph:
    return replace(seen, nodes=put(seen.nodes, graph.Node(0xE0, 0, 0, 0x77, 0, ())))


def vma_split(story: Watched, seen: Graph) -> Graph:
    vma = seen.vmas[story.at(story.model.actors["C"].vmas[0])]
    mm = seen.mms[vma.mm]
    half = replace(vma, address=0xA0, start=vma.start + PAGE_SIZE, pgoff=vma.pgoff + 1)
    vmas = put(seen.vmas, replace(vma, end=vma.start + PAGE_SIZE), half)
    return replace(seen, vmas=vmas, mms=put(seen.mms, replace(mm, vmas=(vma.address, half.address, *mm.vmas[1:]))))


def vma_not_mergeable(story: Watched, seen: Graph) -> Graph:
    vma = seen.vmas[story.at(story.model.actors["C"].vmas[0])]
    return replace(seen, vmas=put(seen.vmas, replace(vma, flags=0)))


def child_not_linked(story: Watched, seen: Graph) -> Graph:
    """The child's vma is not in its parent's anon_vma: no walk finds its ptes before ksmd comes by."""
    vma, anon = seen.vmas[story.at(story.model.actors["C"].vmas[0])], story.anon_vma("P1", seen)
    anon = replace(anon, vmas=tuple(v for v in anon.vmas if v != vma.address))
    return replace(
        seen,
        vmas=put(seen.vmas, replace(vma, chain=vma.chain[:1])),
        anon_vmas=put(seen.anon_vmas, anon),
    )


def other_root(story: Watched, seen: Graph) -> Graph:
    return replace(
        seen, anon_vmas=put(seen.anon_vmas, replace(story.anon_vma("C", seen), root=story.anon_vma("P2", seen).address))
    )


def other_parent(story: Watched, seen: Graph) -> Graph:
    return replace(
        seen, anon_vmas=put(seen.anon_vmas, replace(story.anon_vma("C", seen), parent=story.anon_vma("P2", seen).address))
    )


def child_uncounted(story: Watched, seen: Graph) -> Graph:
    anon = story.anon_vma("P1", seen)
    return replace(seen, anon_vmas=put(seen.anon_vmas, replace(anon, children=anon.children - 1)))


def vma_inactive(story: Watched, seen: Graph) -> Graph:
    anon = story.anon_vma("P1", seen)
    return replace(seen, anon_vmas=put(seen.anon_vmas, replace(anon, active=0)))


def poisoned(story: Watched, seen: Graph) -> Graph:
    return replace(seen, faults=("the rmap_item at 0x10 has anon_vma 0x6b6b6b6b6b6b6b6b",))


def counter_off(story: Watched, seen: Graph) -> Graph:
    return replace(seen, counters={**seen.counters, "ksm_pages_shared": seen.counters["ksm_pages_shared"] + 1})


SINGLE: list[tuple[Corruption, set[str]]] = [
    (references(1), {"P6:reference-leak:scan"}),
    (references(-1), {"P15:reference-lost:scan"}),
    (references(-1, "P2"), {"P15:reference-lost:scan"}),
    (without_item, {"P15:item-missing:scan"}),
    (item_of_nowhere, {"P6:item-extra:scan"}),
    (item_without_flags, {"P15:item-state:scan"}),
    (hlist_forgets, {"P15:item-head:scan"}),
    (item_in_another_node, {"P15:item-node:scan"}),
    (anon_vmas_swapped, {"P15:item-anon-vma:scan"}),
    (anon_vma_missing, {"P15:item-anon-vma:scan"}),
    (items_out_of_order, {"P15:item-list:scan"}),
    (item_in_anothers_list, {"P15:item-list:scan"}),
    (slot_missing, {"P15:slot-missing:scan"}),
    (slot_of_the_dead, {"P6:slot-extra:scan"}),
    (slots_reversed, {"P14:slot-order:scan"}),
    (slots_mm_dropped, {"P15:mm-count:scan"}),
    (length_off, {"P20:hlist-length:scan"}),
    (node_of_another_page, {"P15:node-page:scan"}),
    (pte_uncounted, {"P15:page-mapcount:scan"}),
    (another_tree, {"P20:tree:scan"}),
    (empty_node, {"P6:node-extra:scan"}),
    (vma_split, {"P8:vma:scan"}),
    (vma_not_mergeable, {"P8:vma:scan"}),
    (child_not_linked, {"P8:vma-links:scan", "P8:anon-vma-vmas:scan"}),
    (other_root, {"P8:anon-vma-root:scan", "P6:reference-leak:scan", "P15:reference-lost:scan"}),
    (other_parent, {"P8:anon-vma-parent:scan", "P8:anon-vma-count:scan"}),
    (child_uncounted, {"P8:anon-vma-count:scan"}),
    (vma_inactive, {"P8:anon-vma-count:scan"}),
    (poisoned, {"P15:unreadable:scan"}),
    (counter_off, {"P15:counter-pages_shared:scan"}),
]


@pytest.mark.parametrize(("corrupt", "signatures"), SINGLE, ids=lambda v: getattr(v, "__name__", None))
def test_each_single_thing_that_is_wrong_is_named_once(corrupt: Corruption, signatures: set[str]) -> None:
    story = merged()
    found = story.look(corrupt)
    assert {f.signature for f in found} == signatures, found
    assert all("(record " in f.summary for f in found)
    story.oracle._judge._told.clear()  # each signature is told once in any case; a look repeats nothing by itself
    assert story.look(corrupt) == []


def test_what_is_left_behind_is_a_leak_also_after_something_was_unmerged() -> None:
    story = merged()
    story.on("unmergeable", "P2", count=4)
    assert [f.signature for f in story.look(empty_node)] == ["P18:node-extra:unmergeable"]
    story.kernel, kernel = None, story.kernel
    story.scan()
    story.kernel = kernel
    assert story.look(empty_node) == []  # as it was
    assert [f.signature for f in story.look(slot_of_the_dead)] == ["P6:slot-extra:scan"]
    assert [f.signature for f in story.look(without_item)] == ["P18:item-missing:scan"]


def test_the_refcount_is_accounted_for_in_words() -> None:
    story = Watched()
    story.merged("P1", "P2")
    for child in ("C1", "C2", "C3"):
        story.fork("P1", child)
    story.on("unmergeable", "P2", count=4)
    (finding,) = story.look(references(-1))
    assert finding.summary == (
        "the anon_vma of P1.a has refcount 19 where 20 is right (16 rmap_items + 1 as vmas are linked in it + 3 as the root of "
        f"3 others): 1 reference lost, after unmergeable of P2.a[0..3] (record {story.seq - 1})"
    )
    assert (finding.prop, finding.tier, finding.seq, finding.pages) == ("P5", Tier.SAFETY, story.seq, f"P1.a[0..{N - 1}]")


def test_what_gets_worse_is_told_again_and_what_is_mended_is_not() -> None:
    story = merged()
    assert len(story.look(references(1))) == 1
    story.kernel, kernel = None, story.kernel
    story.exit("P2")
    story.kernel = kernel
    assert [f.signature for f in story.look(references(2))] == ["P6:reference-leak:exit"]
    assert story.look() == []


def test_an_anon_vma_that_nothing_leads_to_any_more_is_seen_to_be_leaked() -> None:
    """Each item of the dead process was to put it, and one did not: neither a list nor a tree has it now."""
    story = Watched()
    story.merged("P1", "P2")
    story.exit("P2")
    story.kernel, kernel = None, story.kernel
    story.scan()
    story.kernel = kernel

    def leak(story: Watched, seen: Graph) -> Graph:
        (freed,) = seen.former.values()
        return replace(seen, former={freed.address: replace(freed, refcount=1)})

    def used_again(story: Watched, seen: Graph) -> Graph:
        """A private file mapping's, which a look does not lead to."""
        return replace(seen, former={a: replace(v, refcount=1, active=2) for a, v in seen.former.items()})

    assert kernel is not None
    look = kernel.look()
    assert story.oracle.look(story.seq, used_again(story, look)) == []
    (finding,) = story.oracle.look(story.seq, leak(story, look))
    assert finding.signature == "P6:reference-leak:scan"
    assert finding.summary.startswith("the anon_vma of P2.a has refcount 1 though nothing holds it any more")


def test_a_leak_that_was_told_is_not_told_again_when_the_last_holder_goes() -> None:
    story = Watched()
    story.merged("P1", "P2")
    assert [f.kind for f in story.look(references(2, "P2"))] == ["reference-leak"]
    story.oracle._judge._told.clear()
    story.kernel, kernel = None, story.kernel
    story.exit("P2")
    story.kernel = kernel

    def unlinked(story: Watched, seen: Graph) -> Graph:
        dead = next(mm for mm in story.model.ksmd.mms if mm.dead)
        held = next(iter(dead.items.values())).anon_vma
        assert held is not None
        anon = seen.anon_vmas[story.at(held)]
        return replace(seen, anon_vmas=put(seen.anon_vmas, replace(anon, refcount=anon.refcount + 2)))

    assert story.look(unlinked) == []
    story.kernel = None
    story.scan()
    story.kernel = kernel

    def leaked(story: Watched, seen: Graph) -> Graph:
        return replace(seen, former={a: replace(v, refcount=2) for a, v in seen.former.items()})

    assert story.look(leaked) == []


def test_what_the_first_look_shows_is_of_before() -> None:
    oracle = Oracle({"cpus": 1}, {"seq": 0, "p": "P1", "kind": "begin", "workload": "w", "page_size": PAGE_SIZE})
    kernel = Kernel(oracle.model)
    oracle.step({"seq": 1, "kind": "op", "op": "spawn", "actor": "Z", "memcg": "t"})
    oracle.step({"seq": 2, "kind": "ret", "of": 1, "op": "spawn", "rc": 0, "pid": 300})
    lost = graph.AnonVma(0x70, 0x70, 0x70, 5, 0, 0, ())
    (finding,) = oracle.look(2, replace(kernel.look(), former={0x70: lost}))
    assert finding.signature == "P6:reference-leak:reset"
    assert finding.summary.startswith("the anon_vma at 0x70 has refcount 5 though nothing holds it any more")
    assert finding.summary.endswith(", after the reset before this workload")


def test_what_one_workload_has_told_the_next_one_does_not_tell() -> None:
    before = merged()
    assert [f.kind for f in before.look(references(2))] == ["reference-leak"]
    address = before.at(before.model.actors["P1"].vmas[0].anon_vma)

    def next_workload(refcount: int) -> list[Finding]:
        oracle = Oracle({"cpus": 1}, {"seq": 0, "p": "P1", "kind": "begin", "workload": "x", "page_size": PAGE_SIZE})
        oracle.follow(before.oracle)
        former = {address: graph.AnonVma(address, address, address, refcount, 0, 0, ())}
        return oracle.look(2, Graph(former=former))

    (finding,) = next_workload(3)
    assert finding.summary.startswith("the anon_vma of P1.a has refcount 3 though nothing holds it any more")
    before.oracle._witness._references._off[address] = 2  # as it was before the look above
    assert next_workload(2) == []


def test_a_leaked_child_explains_its_roots_reference() -> None:
    story = merged()
    story.exit("C")
    story.kernel, kernel = None, story.kernel
    story.scan()
    story.kernel = kernel
    leaked: list[graph.AnonVma] = []

    def leak(story: Watched, seen: Graph) -> Graph:
        former = seen.former
        if not leaked:
            (freed,) = (v for v in seen.former.values() if v.root == story.anon_vma("P1", seen).address)
            leaked.append(replace(freed, refcount=1))
            former = put(former, leaked[0])
        root = story.anon_vma("P1", seen)
        return replace(seen, former=former, anon_vmas=put(seen.anon_vmas, replace(root, refcount=root.refcount + 1)))

    assert [f.signature for f in story.look(leak)] == ["P6:reference-leak:scan"]
    story.oracle._judge._told.clear()
    assert story.look(leak) == []


def test_an_anon_vma_that_was_freed_too_early_and_used_again_is_not_taken_for_the_old_one() -> None:
    story = Watched()
    story.merged("P1", "P2")
    story.exit("P2")
    story.kernel, kernel = None, story.kernel
    story.filled("P3", mergeable=False)
    story.kernel = kernel

    def again(story: Watched, seen: Graph) -> Graph:
        """P3's vma has got what P2's items still hold."""
        dead = next(mm for mm in story.model.ksmd.mms if mm.dead)
        held = next(i for i in dead.items.values()).anon_vma
        assert held is not None
        new, old = story.anon_vma("P3", seen), story.at(held)
        vma = seen.vmas[new.vmas[0]]
        return replace(
            seen,
            anon_vmas={
                a: v for a, v in put(seen.anon_vmas, replace(new, address=old, root=old, parent=old)).items() if a != new.address
            },
            vmas=put(seen.vmas, replace(vma, anon_vma=old, chain=(old,))),
        )

    assert {f.signature for f in story.look(again)} >= {"P5:reference-lost:fill", "P8:vma-links:fill"}


def roots_held(story: Watched, seen: Graph) -> Graph:
    """Each item holds the root, and nothing else its own any more than vmas do."""
    roots = {a: v.root for a, v in seen.anon_vmas.items()}
    stable = [i for i in seen.items.values() if i.flags & 0x200 and roots.get(i.anon_vma, i.anon_vma) != i.anon_vma]
    counts: dict[int, int] = {}
    for item in stable:
        counts[item.anon_vma] = counts.get(item.anon_vma, 0) - 1
        counts[roots[item.anon_vma]] = counts.get(roots[item.anon_vma], 0) + 1
    anon_vmas = {a: replace(v, refcount=v.refcount + counts.get(a, 0)) for a, v in seen.anon_vmas.items()}
    unheld = {a for a, v in anon_vmas.items() if not v.refcount}
    for gone in unheld:
        root = anon_vmas[roots[gone]]
        anon_vmas[root.address] = replace(root, refcount=root.refcount - 1)
    anon_vmas = {a: v for a, v in anon_vmas.items() if a not in unheld}
    items = put(seen.items, *(replace(i, anon_vma=roots[i.anon_vma]) for i in stable))
    return replace(seen, items=items, anon_vmas=anon_vmas)


def test_items_that_hold_an_ancestor_are_remarked_on_and_no_error() -> None:
    story = merged()
    assert story.look(roots_held) == []
    (remark,) = story.oracle.remarks
    assert "other semantics, not an error" in remark
    story.kernel, kernel = None, story.kernel
    story.exit("C")
    story.kernel = kernel
    assert story.look(roots_held) == []  # C's own was freed, which the model still has
    story.kernel = None
    story.scan()
    story.fork("P1", "D")
    story.kernel = kernel
    assert story.look(roots_held) == []
    assert [f.kind for f in story.look(lambda s, g: references(-1)(s, roots_held(s, g)))] == ["reference-lost"]
    assert len(story.oracle.remarks) == 1


def test_an_item_that_holds_a_descendant_is_an_error() -> None:
    """A walk from there does not reach the vma itself."""
    story = merged()
    own, others = story.item(story.look_only(), "P1", 3), story.item(story.look_only(), "C", 3)

    def descendant(story: Watched, seen: Graph) -> Graph:
        return replace(seen, items=put(seen.items, replace(own, anon_vma=others.anon_vma)))

    assert "item-anon-vma" in {f.kind for f in story.look(descendant)}


def test_chains_and_dups() -> None:
    story = Watched(p="P20")
    story.op("set", file="max_page_sharing", value="2")
    story.filled(*(f"P{i}" for i in range(1, 7)), npages=2)
    story.scan(3)
    assert story.model.ksmd.tree.chains == 2

    def dup_lost(story: Watched, seen: Graph) -> Graph:
        """A dup stands in the tree by itself."""
        chain = next(iter(seen.chains.values()))
        dup = seen.nodes[chain.dups[0]]
        counters = {**seen.counters, "ksm_stable_node_dups": seen.counters["ksm_stable_node_dups"] - 1}
        return replace(
            seen,
            nodes=put(seen.nodes, replace(dup, chain=0)),
            chains=put(seen.chains, replace(chain, dups=chain.dups[1:])),
            counters=counters,
        )

    def chains_mixed(story: Watched, seen: Graph) -> Graph:
        """A dup hangs in the chain of another content."""
        one, two = seen.chains.values()
        dup = replace(seen.nodes[one.dups[0]], chain=two.address)
        one, two = replace(one, dups=one.dups[1:]), replace(two, dups=(dup.address, *two.dups))
        return replace(seen, nodes=put(seen.nodes, dup), chains=put(seen.chains, one, two))

    assert [f.signature for f in story.look(dup_lost)] == ["P20:chain:scan"]
    story.oracle._judge._told.clear()
    assert story.look() == []
    assert [f.signature for f in story.look(chains_mixed)] == ["P20:chain:scan"]


def test_a_doubtful_chain_is_not_judged() -> None:
    """A search of another content may have tidied it up, or not: docstring of stable_tree."""
    story = Watched(p="P20")
    story.op("set", file="max_page_sharing", value="2")
    story.filled("P1", "P2", "P3", "P4", npages=2)
    story.scan(3)
    story.exit("P3", "P4")
    story.scan()
    chains = [c for c in story.model.ksmd.tree.roots.values() if getattr(c, "doubtful", False)]
    assert len(chains) == 2

    def collapsed(story: Watched, seen: Graph) -> Graph:
        counters = {**seen.counters, "ksm_stable_node_chains": 0, "ksm_stable_node_dups": 0}
        nodes = {a: replace(n, chain=0) for a, n in seen.nodes.items()}
        return replace(seen, chains={}, nodes=nodes, counters=counters)

    assert story.look(collapsed) == []


def test_a_stale_empty_node_may_have_been_met_by_another_search() -> None:
    """The model's tree has contents for its order, so it keeps the node until that content is searched for."""
    story = Watched()
    story.merged("P1", "P2")
    story.on("pin", "P1", count=1)
    for actor in ("P1", "P2"):
        story.on("unmergeable", actor, count=1)
    story.scan()
    (empty,) = (n for n in story.model.ksmd.tree.nodes() if not n.items)
    assert not empty.stale
    story.op("unpin", actor="P1")
    assert empty.stale

    def pruned(story: Watched, seen: Graph) -> Graph:
        return replace(seen, nodes={a: n for a, n in seen.nodes.items() if n.items})

    assert story.look() == []
    assert story.look(pruned) == []


def test_an_mm_whose_process_is_gone_is_known_by_where_it_was() -> None:
    story = merged()
    story.exit("C")
    (dead,) = (mm for mm in story.model.ksmd.mms if mm.dead)

    def without(story: Watched, seen: Graph) -> Graph:
        return replace(seen, slots=tuple(s for s in seen.slots if s.mm != story.at(dead)), items=dict(seen.items))

    assert "P15:slot-missing:exit" not in {f.signature for f in story.look()}
    assert "slot-missing" in {f.kind for f in story.look(without)}


def test_after_a_scan_that_nobody_asked_for_items_are_not_compared_but_vmas_are() -> None:
    story = merged()
    story.model.memory.doubt("ksmd made a scan that nobody asked for")
    assert story.look(without_item) == []
    assert any("ksmd made a scan that nobody asked for" in note for note in story.oracle.notes)
    assert [f.kind for f in story.look(vma_not_mergeable)] == ["vma"]
    assert [f.kind for f in story.look(references(-1))] == ["reference-lost"]


def test_a_ksmd_that_went_on_unasked_is_not_compared_with_a_model_that_does_not_know() -> None:
    """Between the end of an operation and the look; what the guest tells next says how many scans it were."""
    story = merged()

    def ahead(scans: int) -> Corruption:
        def corrupt(story: Watched, seen: Graph) -> Graph:
            gone = without_item(story, seen)
            return replace(gone, counters={**gone.counters, "seqnr": gone.counters["seqnr"] + scans})

        return corrupt

    assert story.look(ahead(1)) == []
    assert any("a scan that nobody asked for" in note for note in story.oracle.notes)
    assert [f.kind for f in story.look(ahead(0))] == ["item-missing"]


def test_after_a_failure_only_the_look_itself_is_judged() -> None:
    story = merged()
    story.step({"kind": "op", "op": "munmap", "actor": "P1", "area": "a", "first": 0, "count": 1})
    story.kernel, kernel = None, story.kernel
    story.step({"kind": "ret", "of": story.seq, "op": "munmap", "rc": -1, "errno": "ENOMEM"})
    story.kernel = kernel
    assert story.look(vma_split) == []
    assert [f.kind for f in story.look(references(1))] == ["reference-leak"]


def test_after_a_roam_the_look_itself_is_judged_with_the_names_of_who_is_there_now() -> None:
    story = Roaming()
    story.roam()
    vma = graph.Vma(0x200, 0x100, 0, 4 * PAGE_SIZE, 0, 0x80000000, 0x300, (0x300,))
    seen = Graph(
        mms={0x100: graph.Mm(0x100, 11, "init", 1, 2, (0x200,))},
        vmas={0x200: vma},
        anon_vmas={0x300: graph.AnonVma(0x300, 0x300, 0x300, 2, 1, 1, (0x200,))},
    )
    (finding,) = story.oracle.look(story.seq, seen)
    assert finding.signature == "P6:reference-leak:roam"
    assert finding.summary.startswith("the anon_vma of W1.a has refcount 2 where 1 is right")
    assert [box.title for box in story.oracle.drawings[0].after.boxes] == ["W1.a", "W1.a[0..3]"]
    assert any("all acted at once" in note for note in story.oracle.notes)
    assert story.oracle.look(story.seq, replace(seen, anon_vmas={}, vmas={}, mms={})) == []


def test_recorded_workloads_of_real_guests_go_through_with_looks() -> None:
    """The model's own graph after every record of all workloads compares clean: nothing in the comparison is at odds with it."""
    for target in ("x86_64", "ppc64"):
        hello, segments = recorded(target)
        for segment in segments:
            oracle = Oracle(hello, segment[0])
            kernel = Kernel(oracle.model, oracle.page_size)
            for record in segment[1:]:
                oracle.step(record)
                if record["kind"] in ("ret", "obs"):
                    found = oracle.look(record["seq"], kernel.look())
                    assert found == [], (segment[0]["workload"], record["seq"], found)

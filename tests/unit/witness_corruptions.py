# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways in which one thing in a kernel's memory may be wrong."""

from __future__ import annotations

from dataclasses import replace

from harness import graph
from harness.graph import Graph
from tests.unit.oracle_story import N
from tests.unit.watched_story import Corruption, Watched, put
from tests.unit.witness_graph import PAGE_SIZE


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


# Each, and what it is named by.
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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Do the lists, trees and counters of a look agree with each other?  Asked of the kernel's memory alone."""

from __future__ import annotations

from collections.abc import Iterator

from harness.findings import Tier
from harness.graph import Graph, Item, Node
from harness.oracle.trees import State
from harness.oracle.witness.lists import SEQNR_MASK, state
from harness.oracle.witness.matching import Match, named
from harness.oracle.witness.mismatch import Mismatch, Rule

_READABLE = Rule("unreadable", "what is referred to is not freed: a reference too few, or a stray write")
_OWN_LIST = Rule("item-list", "get_next_rmap_item")
_ASCENDING = Rule("item-list", "get_next_rmap_item inserts where it has come to")
_FRESH = Rule("item-age", "ksmd removes and inserts each unstable item anew (BUG_ON(age > 1))")
_HEAD = Rule("item-head", "stable_tree_append and remove_rmap_item_from_tree link and unlink an item in one go")
_LENGTH = Rule(
    "hlist-length",
    "stable_tree_append and remove_rmap_item_from_tree count the items that they link and unlink",
    Tier.ACCOUNTING,
)
_MM_COUNT = Rule("mm-count", "mmdrop when the slot is freed")
_COUNTERS = {
    name: Rule(f"counter-{name.removeprefix('ksm_')}", counted, Tier.ACCOUNTING)
    for name, counted in (
        ("ksm_pages_shared", "stable nodes with an item"),
        ("ksm_pages_sharing", "stable items beyond the first of each node"),
        ("ksm_pages_unshared", "items with UNSTABLE_FLAG"),
        ("ksm_rmap_items", "items in the lists of all mms"),
        ("ksm_stable_node_chains", "chains in the stable trees"),
        ("ksm_stable_node_dups", "stable nodes in chains"),
    )
}


def census(match: Match) -> Iterator[Mismatch]:
    """All that a look contradicts itself in, but for references (``references``)."""
    for fault in match.graph.faults:
        yield Mismatch(
            _READABLE,
            fault,
            f"what lies in the kernel's memory cannot be followed: {fault}",
            "structures that lead to each other",
            fault,
        )
    yield from _lists(match)
    yield from _nodes(match)
    yield from _counters(match.graph)
    yield from _mms(match)


def _lists(match: Match) -> Iterator[Mismatch]:
    """Each item is in the list of its own mm, and these are ascending."""
    graph = match.graph
    for slot in graph.slots:
        last = -1
        for address in slot.items:
            item = graph.items.get(address)
            if item is None:
                continue
            where = match.place(slot.mm, item.addr)
            if item.mm != slot.mm:
                yield Mismatch(
                    _OWN_LIST,
                    ("list", address),
                    f"the rmap_item at {named(where)} is in the list of another mm",
                    "its own mm's",
                    f"mm {item.mm:#x} in the list of {slot.mm:#x}",
                    places=(where,),
                    focus=(address,),
                )
            if item.addr <= last:
                yield Mismatch(
                    _ASCENDING,
                    ("order", address),
                    f"the rmap_list that {named(where)} is in does not ascend",
                    "ascending addresses",
                    f"{item.addr:#x} after {last:#x}",
                    places=(where,),
                    focus=(address,),
                )
            last = item.addr


def _nodes(match: Match) -> Iterator[Mismatch]:
    """A stable item is in the hlist of its head, and nowhere else; lengths are right."""
    graph = match.graph
    heads: dict[int, int] = {}
    for node in graph.nodes.values():
        for address in node.items:
            item = graph.items.get(address)
            if item is None:
                continue
            if address in heads or state(item) is not State.STABLE or item.head != node.address:
                yield _item_head(match, item, "in the hlist of a node that is not its head")
            heads[address] = node.address
        if node.length >= 0 and node.length != len(node.items):
            yield _length(match, node)
    for address, item in graph.items.items():
        if state(item) is State.STABLE and address not in heads:
            yield _item_head(match, item, "in the hlist of no node that is in a tree")
    seqnr = graph.counters.get("seqnr")
    for item in graph.items.values() if seqnr is not None else ():
        age = (seqnr - item.flags) & SEQNR_MASK if seqnr is not None else 0
        if state(item) is State.UNSTABLE and age > 1:
            where = match.place(item.mm, item.addr)
            yield Mismatch(
                _FRESH,
                ("age", item.address),
                f"the rmap_item of {named(where)} is {age} scans old and still in the unstable tree",
                "the last scan's",
                f"{age} scans old",
                places=(where,),
                focus=(item.address,),
            )


def _item_head(match: Match, item: Item, what: str) -> Mismatch:
    where = match.place(item.mm, item.addr)
    return Mismatch(
        _HEAD,
        ("head", item.address),
        f"the rmap_item of {named(where)} is {what}",
        "in the hlist of its head, once",
        f"head {item.head:#x}",
        places=(where,),
        focus=(item.address,),
        state=item.head,
    )


def _length(match: Match, node: Node) -> Mismatch:
    items = [i for a in node.items if (i := match.graph.items.get(a)) is not None]
    where = tuple(match.place(i.mm, i.addr) for i in items)
    what = f"the stable node of {named(where[0])}" if where else f"a stable node without items (kpfn {node.kpfn:#x})"
    return Mismatch(
        _LENGTH,
        ("length", node.address),
        f"{what} has rmap_hlist_len {node.length} with {len(node.items)} rmap_items",
        str(len(node.items)),
        str(node.length),
        places=where,
        focus=(node.address,),
        state=node.length - len(node.items),
    )


def _counters(graph: Graph) -> Iterator[Mismatch]:
    """mm/ksm.c's own counters, against what they count."""
    shared = sum(1 for node in graph.nodes.values() if node.items)
    right = {
        "ksm_pages_shared": shared,
        "ksm_pages_sharing": sum(len(node.items) for node in graph.nodes.values()) - shared,
        "ksm_pages_unshared": sum(1 for item in graph.items.values() if state(item) is State.UNSTABLE),
        "ksm_rmap_items": sum(len(slot.items) for slot in graph.slots),
        "ksm_stable_node_chains": len(graph.chains),
        "ksm_stable_node_dups": sum(1 for node in graph.nodes.values() if node.chain),
    }
    for name, value in right.items():
        seen = graph.counters.get(name)
        if seen is not None and seen != value:
            yield Mismatch(
                _COUNTERS[name],
                name,
                f"{name} is {seen} where the kernel's own structures have {value}",
                f"{name} {value}",
                f"{name} {seen}",
                state=seen - value,
            )


def _mms(match: Match) -> Iterator[Mismatch]:
    """ksmd has a reference to each mm on its list; how many more there are depends on what each CPU ran last."""
    for slot in match.graph.slots:
        mm = match.graph.mms.get(slot.mm)
        if mm is not None and mm.count < 1 + (mm.users > 0):
            where = match.place(slot.mm, 0)[0]
            yield Mismatch(
                _MM_COUNT,
                ("mm", slot.mm),
                f"the mm of {where} is on ksmd's list and has mm_count {mm.count}",
                "one for the slot (mmgrab in __ksm_enter), one as long as it has users",
                f"mm_count {mm.count}, mm_users {mm.users}",
                state=mm.count,
            )

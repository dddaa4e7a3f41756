# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold in the model after every step: the invariants I1-I11 of KSM, rmap and swap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.oracle import rmap
from harness.oracle.address_space import Mm
from harness.oracle.anon_vma import AnonVma
from harness.oracle.memory import Page, Pte, SwapEntry
from harness.oracle.model import Model
from harness.oracle.trees import Item, State


def check_invariants(model: Model) -> list[str]:
    """The invariants that do not hold, each as a line that begins with its number; empty if all is well.

    I6 (bytes are those of the last write) needs a second book of what was written, which the caller keeps; I10 (the
    log is clean) is the guest's.
    """
    return [
        *_ptes(model),  # I1, I2, I7, I9
        *_counters(model),  # I3
        *_anon_vmas(model),  # I4
        *_reach(model),  # I5
        *_items(model),  # I8, I11
    ]


def _living(model: Model) -> list[Mm]:
    return list(model.actors.values())


def _known(model: Model) -> list[Mm]:
    """Living mms, and dead ones that ksmd still has."""
    return _living(model) + [mm for mm in model.ksmd.mms if mm.dead]


def _ptes(model: Model) -> Iterator[str]:
    mapped: dict[Page, set[Pte]] = {}
    swapped: dict[SwapEntry, set[Pte]] = {}
    for mm in _known(model):
        if mm.dead and mm.ptes:
            yield f"I9 {mm.name} is dead and has ptes"
        for addr, pte in mm.ptes.items():
            if (pte.mm, pte.addr) != (mm, addr):
                yield f"I1 the pte at {mm.name}:{addr:x} believes it is elsewhere"
            if (pte.page is not None) + (pte.entry is not None) + pte.zero + pte.poison != 1:
                yield f"I9 the pte at {mm.name}:{addr:x} is not exactly one of present, swapped, poisoned and zeros"
            if pte.page is not None:
                mapped.setdefault(pte.page, set()).add(pte)
            if pte.entry is not None:
                swapped.setdefault(pte.entry, set()).add(pte)
    for page, ptes in mapped.items():
        if page.ptes != ptes:
            yield f"I1 a page of content {page.content} counts {len(page.ptes)} ptes, {len(ptes)} map it"
        if page.freed:
            yield f"I1 a page of content {page.content} is freed and mapped"
        if page.exclusive and (page.ksm or len(ptes) > 1):
            yield f"I7 a page of content {page.content} is exclusive and shared"
        if page.ksm and page.node is not None and page.content != page.node.content:
            yield f"I7 a KSM page was written: content {page.content}, its node's {page.node.content}"
        if page.entry is not None and page.entry.cached is not page:
            yield f"I2 a page of content {page.content} is in the swap cache under an entry that does not know it"
    for entry, ptes in swapped.items():
        if entry.ptes != ptes:
            yield f"I2 a swap entry of content {entry.content} counts {len(entry.ptes)}, {len(ptes)} ptes hold it"
        if entry.cached is not None and entry.cached.content != entry.content:
            yield f"I6 the swap cache has content {entry.cached.content} for an entry of content {entry.content}"


def _counters(model: Model) -> Iterator[str]:
    ksmd = model.ksmd
    states: Counter[State] = Counter()
    nodes = set()
    for mm in ksmd.mms:
        for item in mm.items.values():
            states[item.state] += 1
            if item.node is not None:
                nodes.add(item.node)
    held = ksmd.tree.nodes()
    shared = sum(1 for n in held if n.items)
    items = sum(len(n.items) for n in held)
    if (ksmd.tree.pages_shared, ksmd.tree.pages_sharing) != (shared, items - shared):
        yield f"I3 shared/sharing {ksmd.tree.pages_shared}/{ksmd.tree.pages_sharing}, the tree has {shared}/{items - shared}"
    if states[State.STABLE] != items or not nodes <= set(held):
        yield f"I3 {states[State.STABLE]} stable items, the tree's nodes have {items}"
    if ksmd.pages_unshared != states[State.UNSTABLE]:
        yield f"I3 pages_unshared {ksmd.pages_unshared}, {states[State.UNSTABLE]} items are unstable"
    if ksmd.rmap_items != sum(states.values()):
        yield f"I3 {ksmd.rmap_items} rmap_items counted, {sum(states.values())} exist"


def _anon_vmas(model: Model) -> Iterator[str]:
    held: Counter[AnonVma] = Counter()
    for mm in model.ksmd.mms:
        for item in mm.items.values():
            if (item.anon_vma is not None) != (item.state is State.STABLE):
                yield f"I4 the item at {mm.name}:{item.addr:x} is {item.state.name} and holds {item.anon_vma}"
            if item.anon_vma is not None:
                held[item.anon_vma] += 1
    live = model.memory.anon_vmas.live | model.memory.other_anon_vmas.live
    children = Counter(a.root for a in live if a.root is not a)
    for anon_vma in live | set(held):
        expected = held[anon_vma] + children[anon_vma] + (not anon_vma.unlinked)
        if anon_vma.refcount != expected or anon_vma.freed:
            yield f"I4 an anon_vma has {anon_vma.refcount} references, {expected} are accounted for"
        if anon_vma.unlinked != (not anon_vma.vmas):
            yield "I4 an anon_vma's first reference and its vmas are at odds"
    for mm in _living(model):
        for vma in mm.vmas:
            if any(a.freed or vma not in a.vmas for a in vma.chain):
                yield f"I4 {vma} is linked to an anon_vma that is freed or does not know it"


def _reach(model: Model) -> Iterator[str]:
    for page in model.pages():
        reach = rmap.reachable(page)
        if not reach <= page.ptes:
            yield f"I5 a walk of a page of content {page.content} finds ptes that do not map it"
        if not page.ksm and not page.file and reach != page.ptes:
            yield f"I5 a walk finds {len(reach)} of {page.mapcount} ptes of a plain page of content {page.content}"


def _items(model: Model) -> Iterator[str]:
    for mm in model.ksmd.mms:
        stable = 0
        for addr, item in mm.items.items():
            if (item.mm, item.addr) != (mm, addr):
                yield f"I8 the item at {mm.name}:{addr:x} believes it is elsewhere"
            if item.state is State.STABLE:
                stable += 1
                yield from _stable_item(item)
        if mm.merging.own != stable:
            yield f"I11 {mm.name}: ksm_merging_pages {mm.merging.own}, {stable} stable items"
        if mm.rmap_items.own != len(mm.items):
            yield f"I11 {mm.name}: ksm_rmap_items {mm.rmap_items.own}, {len(mm.items)} items"


def _stable_item(item: Item) -> Iterator[str]:
    """Its node knows it, and its page has the node's content."""
    node = item.node
    if node is None or item not in node.items:
        yield f"I8 the stable item at {item.mm.name}:{item.addr:x} is in no node"
    elif not node.stale and (not node.page.ksm or node.page.content != node.content):
        yield f"I8 the node of {item.mm.name}:{item.addr:x} has a page that is not its own"

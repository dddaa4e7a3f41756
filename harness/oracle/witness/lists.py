# SPDX-License-Identifier: GPL-2.0-or-later
"""ksmd's list of mms (ksm_mm_head) and each mm's list of rmap_items, against the model's."""

from __future__ import annotations

from collections.abc import Iterator

from harness import graph
from harness.findings import Tier
from harness.oracle.model import Model
from harness.oracle.trees import State
from harness.oracle.witness.matching import Match, named, place
from harness.oracle.witness.mismatch import Mismatch, Rule

SEQNR_MASK = 0x0FF
UNSTABLE_FLAG = 0x100
STABLE_FLAG = 0x200

_WORDS = {State.NONE: "in neither tree", State.UNSTABLE: "in the unstable tree", State.STABLE: "in the stable tree"}

_SLOT = Rule(
    "slot-missing", "__ksm_enter: at the first MADV_MERGEABLE of an mm, and by ksm_fork for the child of an mm that ksmd knows"
)
_SLOT_EXTRA = Rule(
    "slot-extra", "__ksm_exit, the scan and run=2 free the slot of an mm that is gone or has no VM_MERGEABLE vma (mmdrop)"
)
_SLOT_ORDER = Rule(
    "slot-order",
    "a new mm goes to the list's tail between scans (__ksm_enter), one that exits to its head (__ksm_exit)",
    Tier.ACCOUNTING,
)
_ITEM = Rule("item-missing", "alloc_rmap_item at ksmd's first visit, free_rmap_item when it finds no page there any more")
_ITEM_STATE = Rule("item-state", "stable_tree_append, unstable_tree_search_insert and remove_rmap_item_from_tree set the flags")
_ITEM_EXTRA = Rule(
    "item-extra",
    "the scan drops items that it passes over or that trail (get_next_rmap_item, remove_trailing_rmap_items), run=2 all",
)


def state(item: graph.Item) -> State:
    """Which tree the item's flags say it is in."""
    if item.flags & STABLE_FLAG:
        return State.STABLE
    return State.UNSTABLE if item.flags & UNSTABLE_FLAG else State.NONE


def compare_slots(match: Match, model: Model) -> Iterator[Mismatch]:
    """The same mms, in the same order: it decides which of two equal pages becomes the KSM page."""
    has = {slot.mm for slot in match.graph.slots}
    for mm in model.ksmd.mms:
        if match.addresses.get(mm) not in has and mm not in match.unseen:
            dead = " (it is dead, and its rmap_items wait for ksmd)" if mm.dead else ""
            yield Mismatch(_SLOT, mm, f"ksmd does not know the mm of {mm.name}{dead}", "a ksm_mm_slot on ksmd's list", "none")
    wanted = set(model.ksmd.mms)
    for slot in match.graph.slots:
        known = match.mms.get(slot.mm)
        if slot.mm == match.anchor or known in wanted:
            continue
        whose = f"of {known.name}" if known is not None else "of a process that is gone"
        yield Mismatch(
            _SLOT_EXTRA,
            ("slot", slot.mm),
            f"ksmd still has the mm {whose}, which it was to forget",
            "no ksm_mm_slot",
            f"a ksm_mm_slot with {len(slot.items)} rmap_items",
        )
    seen = [match.mms[slot.mm] for slot in match.graph.slots if match.mms.get(slot.mm) in wanted]
    expected = [mm for mm in model.ksmd.mms if mm in seen]
    if seen != expected:
        yield Mismatch(
            _SLOT_ORDER,
            "slots",
            "ksmd's list has the mms in another order",
            ", ".join(mm.name for mm in expected),
            ", ".join(mm.name for mm in seen),
            state=tuple(mm.name for mm in seen),
        )


def compare_items(match: Match, model: Model) -> Iterator[Mismatch]:
    """Every address that ksmd tracks has an item, in the tree that the model has it in, and no other address has."""
    slots = {slot.mm: slot for slot in match.graph.slots}
    for mm in model.ksmd.mms:
        slot = slots.get(match.addresses.get(mm, 0))
        if slot is None:
            continue
        seen = {match.page(i.addr): i for a in slot.items if (i := match.graph.items.get(a)) is not None}
        for addr, item in mm.items.items():
            told = seen.get(addr)
            where = place(mm, addr)
            if told is None:
                yield Mismatch(
                    _ITEM,
                    ("item", mm, addr),
                    f"{named(where)} has no rmap_item",
                    f"an rmap_item {_WORDS[item.state]}",
                    "none",
                    places=(where,),
                )
            elif state(told) is not item.state:
                now = state(told)
                yield Mismatch(
                    _ITEM_STATE,
                    ("item", mm, addr),
                    f"the rmap_item of {named(where)} is {_WORDS[now]}",
                    _WORDS[item.state],
                    _WORDS[now],
                    places=(where,),
                    focus=(told.address,),
                    state=now,
                )
        for addr in seen.keys() - mm.items.keys():
            yield _extra(match, slot.mm, seen[addr])
    for slot in match.graph.slots:
        for address in slot.items if slot.mm == match.anchor else ():
            if (told := match.graph.items.get(address)) is not None:
                yield _extra(match, slot.mm, told)


def _extra(match: Match, mm: int, item: graph.Item) -> Mismatch:
    where = match.place(mm, item.addr)
    return Mismatch(
        _ITEM_EXTRA,
        ("extra", mm, item.addr),
        f"{named(where)} has an rmap_item that was to be freed",
        "none",
        f"an rmap_item {_WORDS[state(item)]}",
        places=(where,),
        focus=(item.address,),
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""KSM's own objects, as its slab caches count them (mm/ksm.c: ksm_slab_init)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.oracle.address_space import Mm
from harness.oracle.model import Model
from harness.oracle.records import Fields, decimal
from harness.oracle.trees import Chain

OBJECTS = {
    "ksm_rmap_item": "an item that leaves its mm's list is freed (free_rmap_item)",
    "ksm_stable_node": "a node that leaves the tree is freed, and so is a chain (free_stable_node)",
    "ksm_mm_slot": "the slot of an mm that leaves ksmd's list is freed (mm_slot_free)",
}


@dataclass(frozen=True)
class Seen:
    """A counter beside its prediction, an interval where the kernel is not exact."""

    name: str
    low: int
    high: int
    seen: int
    op: str
    reason: str = ""  # for an interval
    mm: Mm | None = None


class Objects:
    """Compares their numbers, as differences from those that were seen first: init's anchor has a slot too."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._first: dict[str, tuple[int, int, int]] = {}  # observed, and the model's interval at that time

    def judge(self, obs: Fields, op: str) -> Iterator[Seen]:
        """What an observation says of them; a cache that is merged with others, or gets objects back late, says nothing."""
        slab = obs.data.get("slab")
        if not isinstance(slab, Mapping) or self.model.memory.semantics.frees_after_grace:
            return
        for name, (low, high) in self._expected().items():
            number = decimal(slab.get(name))
            if number is None or number < 0:
                continue
            first, low_then, high_then = self._first.setdefault(name, (number, low, high))
            low, high = low - high_then, high - low_then
            reason = "a node without items goes when a search meets it" if low != high else ""
            yield Seen(name, low, high, number - first, op, reason)

    def _expected(self) -> dict[str, tuple[int, int]]:
        ksmd, tree = self.model.ksmd, self.model.ksmd.tree
        nodes = tree.nodes()
        sure = sum(1 for node in nodes if node.items or node.in_use)
        chains = [root for root in tree.roots.values() if isinstance(root, Chain)]
        sure_chains = sum(1 for chain in chains if not chain.doubtful and any(not node.stale for node in chain.dups))
        items, slots = sum(len(mm.items) for mm in ksmd.mms), len(ksmd.mms)
        return {
            "ksm_rmap_item": (items, items),
            "ksm_stable_node": (sure + sure_chains, len(nodes) + len(chains)),
            "ksm_mm_slot": (slots, slots),
        }

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which mm, vma and rmap_item of the kernel is which of the model.

Left out on purpose, as no journal tells of them: init itself; the process that init keeps with a mergeable area and no page
in it, so that ksmd's list is never empty (workloads/lib/anchor.c), whose slot is the only one of a process that
is no actor; the workload's own process; and what an actor has beside its areas (stack, heap, data).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness import graph
from harness.graph import Graph
from harness.oracle.address_space import Mm, Vma
from harness.oracle.model import Model
from harness.oracle.trees import Item
from harness.oracle.witness.mismatch import Place


@dataclass
class Match:
    """The pairs of one look, by the kernel's addresses."""

    graph: Graph
    page_size: int
    mms: dict[int, Mm] = field(default_factory=dict)
    addresses: dict[Mm, int] = field(default_factory=dict)
    unseen: list[Mm] = field(default_factory=list)  # actors that the look has no mm of
    anchor: int = 0  # the mm that keeps ksmd's list from being empty
    items: dict[int, Item] = field(default_factory=dict)
    vmas: dict[int, Vma] = field(default_factory=dict)

    def page(self, address: int) -> int:
        """A user address in pages."""
        return address // self.page_size

    def place(self, mm: int, address: int) -> Place:
        """A page as the journal names it; ``?`` stands for an mm that is no actor's, or for memory outside of all areas."""
        known = self.mms.get(mm)
        if known is not None:
            return place(known, self.page(address))
        told = self.graph.mms.get(mm)
        return (f"{told.comm}({told.pid})" if told is not None and told.pid else f"mm {mm:#x}"), "?", self.page(address)

    def owner(self, vma: int) -> Mm | None:
        """Whose vma it is, if an actor's."""
        seen = self.graph.vmas.get(vma)
        return self.mms.get(seen.mm) if seen is not None else None

    def stranger(self, mm: int) -> bool:
        """It is a living process that is no actor."""
        told = self.graph.mms.get(mm)
        return mm not in self.mms and told is not None and told.pid != 0


def place(mm: Mm, addr: int) -> Place:
    """A page of the model as the journal names it."""
    for name, area in mm.areas.items():
        if area.start <= addr < area.start + area.npages:
            return mm.name, name, addr - area.start
    return mm.name, "?", addr


def named(where: Place) -> str:
    """``P1.a[3]``."""
    return f"{where[0]}.{where[1]}[{where[2]}]"


class Matcher:
    """Remembers where the mms of processes that are gone lie, as long as ksmd has them."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self._known: dict[Mm, int] = {}

    def match(self, model: Model, graph: Graph, roster: Sequence[Mm] | None = None) -> Match:
        """Pair what can be paired.  ``roster`` are all actors, if the model does not know them any more."""
        match = Match(graph, self.page_size)
        if roster is not None:
            self._living(roster, match)
            return match
        self._living(model.actors.values(), match)
        self._dead(model, match)
        self._known = dict(match.addresses)
        match.anchor = next((slot.mm for slot in graph.slots if match.stranger(slot.mm)), 0)
        for slot in graph.slots:
            mm = match.mms.get(slot.mm)
            if mm is None:
                continue
            for address in slot.items:
                seen = graph.items.get(address)
                item = mm.items.get(match.page(seen.addr)) if seen is not None else None
                if item is not None:
                    match.items[address] = item
        for address, mm in match.mms.items():
            if not mm.dead and address in graph.mms:
                self._vmas(mm, graph.mms[address], match)
        return match

    @staticmethod
    def _living(actors: Iterable[Mm], match: Match) -> None:
        """By pid: exec gives a process another mm."""
        pids = {mm.pid: mm.address for mm in match.graph.mms.values() if mm.pid}
        for mm in actors:
            address = pids.get(mm.pid)
            if address is None:
                match.unseen.append(mm)
            else:
                match.addresses[mm] = address
                match.mms[address] = mm

    def _dead(self, model: Model, match: Match) -> None:
        """As they were seen while alive; one that never was is taken for the next of those that nobody knows."""
        graph, dead = match.graph, [mm for mm in model.ksmd.mms if mm.dead]
        for mm in dead:
            address = self._known.get(mm)
            if address is not None and address not in match.mms:
                match.addresses[mm] = address
                match.mms[address] = mm
        gone = [s.mm for s in graph.slots if s.mm not in match.mms and s.mm in graph.mms and not graph.mms[s.mm].pid]
        for mm, address in zip((mm for mm in dead if mm not in match.addresses and mm not in self._known), gone, strict=False):
            match.addresses[mm] = address
            match.mms[address] = mm

    @staticmethod
    def _vmas(mm: Mm, seen: graph.Mm, match: Match) -> None:
        vmas = {(vma.start, vma.end): vma for vma in mm.vmas}
        for address in seen.vmas:
            told = match.graph.vmas.get(address)
            vma = vmas.get((match.page(told.start), match.page(told.end))) if told is not None else None
            if vma is not None:
                match.vmas[address] = vma

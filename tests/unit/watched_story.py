# SPDX-License-Identifier: GPL-2.0-or-later
"""Stories with a look of a second witness after each operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness import graph
from harness.findings import Finding
from harness.graph import Graph
from tests.unit.oracle_story import Record, Story
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

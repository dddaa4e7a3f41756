# SPDX-License-Identifier: GPL-2.0-or-later
"""The graph that a correct kernel would have in its memory, made from the model: kernel addresses come from slab caches."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from harness import graph
from harness.graph import Graph
from harness.oracle import address_space, anon_vma, trees
from harness.oracle.memory import Page
from harness.oracle.model import Model
from harness.oracle.trees import State

PAGE_SIZE = 4096
VM_FLAGS = {"mergeable": 0x80000000, "locked": 0x2000}
ANCHOR, WORKLOAD = 32001, 32002  # pids of processes that are no actors
_OTHER = 0x7FFF0000  # pages: what a process has beside its areas


class _Slab:
    """Addresses of objects: those of objects that are gone are given to new ones, the last one first."""

    def __init__(self, base: int) -> None:
        self._next = base
        self._free: list[int] = []
        self._used: dict[Any, int] = {}

    def of(self, thing: Hashable) -> int:
        if thing not in self._used:
            self._next += 0x100
            self._used[thing] = self._free.pop() if self._free else self._next
        return self._used[thing]

    def keep(self, things: Iterable[Hashable]) -> None:
        """All others are freed."""
        kept = set(things)
        for thing in [t for t in self._used if t not in kept]:
            self._free.append(self._used.pop(thing))


class Kernel:
    """Renders looks at one model."""

    def __init__(self, model: Model, page_size: int = PAGE_SIZE) -> None:
        self.model = model
        self.page_size = page_size
        names = ("item", "node", "chain", "anon_vma", "vma", "mm", "slot")
        self._slabs = {name: _Slab(0xFFFF880000000000 + (i << 32)) for i, name in enumerate(names)}
        self._frames = _Slab(0x100000)
        self._before: dict[int, graph.AnonVma] = {}

    def at(self, thing: Any) -> int:
        """The address of an item, node, chain, anon_vma, vma or mm."""
        kinds: dict[type, str] = {
            trees.Item: "item", trees.Node: "node", trees.Chain: "chain", anon_vma.AnonVma: "anon_vma",
            address_space.Vma: "vma", address_space.Mm: "mm",
        }  # fmt: skip
        return self._slabs[kinds[type(thing)]].of(thing)

    def pfn(self, page: Page) -> int:
        return page.pfn if page.pfn is not None else self._frames.of(page) // 0x100

    def _mms(self) -> list[address_space.Mm]:
        return [*self.model.actors.values(), *(mm for mm in self.model.ksmd.mms if mm.dead)]

    def _vmas(self, mm: address_space.Mm) -> list[address_space.Vma]:
        return [*(v for v in mm.vmas if not v.flags.shared), *([mm.other] if mm.other is not None else [])]

    def _anon_vmas(self) -> set[anon_vma.AnonVma]:
        found = {a for mm in self._mms() for vma in self._vmas(mm) for a in vma.chain}
        found |= {i.anon_vma for mm in self._mms() for i in mm.items.values() if i.anon_vma is not None}
        return found | {a.root for a in found}

    def look(self) -> Graph:
        """What lies in memory now."""
        mms, anon_vmas = self._mms(), self._anon_vmas()
        nodes = self.model.ksmd.tree.nodes()
        self._slabs["mm"].keep([*mms, "anchor", "workload"])
        self._slabs["item"].keep(i for mm in mms for i in mm.items.values())
        self._slabs["node"].keep(nodes)
        self._slabs["anon_vma"].keep(anon_vmas)
        self._slabs["vma"].keep([v for mm in mms for v in self._vmas(mm)] + ["anchor"])
        freed = {a: v for a, v in self._before.items() if a not in {self.at(x) for x in anon_vmas}}
        seen = {self.at(a): self._anon_vma(a) for a in anon_vmas}
        self._before = seen
        return Graph(
            items={self.at(i): self._item(i) for mm in mms for i in mm.items.values()},
            nodes={self.at(n): self._node(n) for n in nodes},
            chains={self.at(c): self._chain(k, c) for k, c in self.model.ksmd.tree.roots.items() if isinstance(c, trees.Chain)},
            anon_vmas=seen,
            former={a: graph.AnonVma(a, v.root, v.parent, 0, v.children, 0, ()) for a, v in freed.items()},
            vmas={self.at(v): self._vma(v) for mm in mms for v in self._vmas(mm)} | self._anchors_vma(),
            mms={self.at(mm): self._mm(mm) for mm in mms} | self._others(),
            slots=self._slots(),
            pages={self.pfn(n.page): self._page(n) for n in nodes},
            counters=self._counters(nodes),
        )

    def _item(self, item: trees.Item) -> graph.Item:
        flags = {State.NONE: 0, State.UNSTABLE: 0x100 | (self.model.ksmd.full_scans - 1) & 0xFF, State.STABLE: 0x200}[item.state]
        held = self.at(item.anon_vma) if item.anon_vma is not None else 0
        head = self.at(item.node) if item.node is not None else 0
        return graph.Item(self.at(item), self.at(item.mm), item.addr * self.page_size, flags, held, head)

    def _node(self, node: trees.Node) -> graph.Node:
        items = tuple(self.at(i) for i in node.walk_order())
        chain = self.at(node.chain) if node.chain is not None else 0
        tree = -1 if node.set_aside else node.key[0]
        return graph.Node(self.at(node), tree, chain, self.pfn(node.page), len(items), items)

    def _chain(self, key: trees.Key, chain: trees.Chain) -> graph.Chain:
        return graph.Chain(self.at(chain), key[0], tuple(self.at(d) for d in chain.dups))

    def _anon_vma(self, anon: anon_vma.AnonVma) -> graph.AnonVma:
        vmas = tuple(self.at(v) for v in anon.vmas)
        parent = self.at(anon.parent) if not anon.parent.freed else 0x6B6B
        return graph.AnonVma(
            self.at(anon), self.at(anon.root), parent, anon.refcount, anon.num_children, anon.num_active_vmas, vmas
        )

    def _vma(self, vma: address_space.Vma) -> graph.Vma:
        start, end = (vma.start, vma.end) if vma.end else (_OTHER, _OTHER + 8)
        flags = sum(bit for name, bit in VM_FLAGS.items() if getattr(vma.flags, name))
        own = self.at(vma.anon_vma) if vma.anon_vma is not None else 0
        chain = tuple(self.at(a) for a in reversed(vma.chain))
        return graph.Vma(
            self.at(vma), self.at(vma.mm), start * self.page_size, end * self.page_size, vma.pgoff, flags, own, chain
        )

    def _anchors_vma(self) -> dict[int, graph.Vma]:
        address, mm = self._slabs["vma"].of("anchor"), self._slabs["mm"].of("anchor")
        return {address: graph.Vma(address, mm, 5 * self.page_size, 6 * self.page_size, 5, VM_FLAGS["mergeable"], 0, ())}

    def _mm(self, mm: address_space.Mm) -> graph.Mm:
        living = not mm.dead
        count = living + mm.registered + 1  # one CPU keeps it as its last
        vmas = tuple(self.at(v) for v in self._vmas(mm)) if living else ()
        return graph.Mm(self.at(mm), mm.pid if living else 0, "init" if living else "", int(living), count, vmas)

    def _others(self) -> dict[int, graph.Mm]:
        anchor, workload = (self._slabs["mm"].of(name) for name in ("anchor", "workload"))
        return {
            anchor: graph.Mm(anchor, ANCHOR, "init", 1, 2, (self._slabs["vma"].of("anchor"),)),
            workload: graph.Mm(workload, WORKLOAD, "init", 1, 1, ()),
        }

    def _slots(self) -> tuple[graph.Slot, ...]:
        slots = self._slabs["slot"]
        mms = self.model.ksmd.mms
        found = [graph.Slot(slots.of(mm), self.at(mm), tuple(self.at(mm.items[a]) for a in sorted(mm.items))) for mm in mms]
        anchor = graph.Slot(slots.of("anchor"), self._slabs["mm"].of("anchor"), ())
        first = sum(mm.dead for mm in mms)  # those that exit go before it
        return (*found[:first], anchor, *found[first:])

    def _page(self, node: trees.Node) -> graph.Page:
        page = node.page
        mapping = self.at(node) | 3 if not node.stale else 0
        return graph.Page(self.pfn(page), 0, mapping, page.index, page.mapcount + page.extra_refs, page.mapcount)

    def _counters(self, nodes: list[trees.Node]) -> dict[str, int]:
        ksmd = self.model.ksmd
        return {
            "ksm_pages_shared": ksmd.tree.pages_shared,
            "ksm_pages_sharing": ksmd.tree.pages_sharing,
            "ksm_pages_unshared": ksmd.pages_unshared,
            "ksm_rmap_items": ksmd.rmap_items,
            "ksm_stable_node_chains": ksmd.tree.chains,
            "ksm_stable_node_dups": ksmd.tree.dups,
            "seqnr": ksmd.full_scans,
        }

# SPDX-License-Identifier: GPL-2.0-or-later
"""A small kernel heap made by hand, in a file as a guest's RAM is: what the witness looks at, without a guest."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Sequence

from harness.guest.ram import Range
from harness.witness.layout import COUNTERS, STRUCTURES, VARIABLES, Field, Layout
from harness.witness.look import Looker
from harness.witness.memory import Memory, Ram

BASE = 0xFFFF_8880_0000_0000
SIZE = 1 << 20
PIVOTS = 15
SYMBOLS = ("ksm_mm_head", "migrate_nodes", "init_task")


def layout(order: str) -> Layout:
    """Every member is a word of its own; where that is nobody's business."""
    structures = {
        name: {member: Field(8 * i, 8, signed=member in ("length", "refcount")) for i, member in enumerate(members)}
        for name, (_, members, _) in STRUCTURES.items()
    }
    structures["vma"].pop("older")
    structures["mm"].pop("mmap")
    for name in ("range", "arange"):
        structures[name] = {"pivot": Field(8, 8), "slot": Field(8 + 8 * PIVOTS, 8)}
    sizes = {name: 256 if name in ("range", "arange") else 8 * len(members) for name, members in structures.items()}
    variables = {name: (BASE + 0x100 + 8 * i, Field(0, 8)) for i, name in enumerate(VARIABLES)}
    symbols = {name: BASE + 0x1000 + 0x200 * i for i, name in enumerate(SYMBOLS)}
    return Layout("little" if order == "<" else "big", structures, sizes, variables, symbols)


class Heap:
    """Memory with structures in it, and lists and trees among them."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.layout = layout(order)
        self.fd = os.memfd_create("heap", os.MFD_CLOEXEC)
        os.truncate(self.fd, SIZE)
        self._end = BASE + 0x4000
        for name in COUNTERS:
            self.variable(name, 0)
        self.variable("ksm_nr_node_ids", 1)
        self.variable("cursor", self.layout.symbols["ksm_mm_head"])
        self.stable, self.unstable = self.room(8), self.room(8)
        self.variable("root_stable_tree", self.stable)
        self.variable("root_unstable_tree", self.unstable)
        self.ring("slot", self.layout.symbols["ksm_mm_head"] + self.offset("slot", "next"), [])
        self.ring("node", self.layout.symbols["migrate_nodes"], [], "list_next", "list_prev")
        self.tasks([])

    def looker(self) -> Looker:
        """A witness of it."""
        ram = Ram([self.fd], [Range(0, SIZE, 0, 0)])
        return Looker(Memory(ram, [(BASE, BASE + SIZE, 0)]), self.layout)

    def room(self, size: int, align: int = 8) -> int:
        """Fresh memory, zeros."""
        address = -(-self._end // align) * align
        self._end = address + size
        return address

    def word(self, address: int, value: int) -> None:
        os.pwrite(self.fd, struct.pack(self.order + "Q", value & (1 << 64) - 1), address - BASE)

    def offset(self, kind: str, member: str) -> int:
        return self.layout.structures[kind][member].offset

    def variable(self, name: str, value: int) -> None:
        self.word(self.layout.variables[name][0], value)

    def new(self, kind: str, /, **members: int) -> int:
        """A structure, and a word behind it."""
        address = self.room(self.layout.sizes[kind])
        self.room(8)
        self.set(kind, address, **members)
        return address

    def red_zone(self, kind: str, address: int, byte: int) -> None:
        """The word behind a structure."""
        self.word(address + self.layout.sizes[kind], int.from_bytes(bytes([byte] * 8), "little"))

    def set(self, kind: str, address: int, /, **members: int) -> None:
        for member, value in members.items():
            self.word(address + self.offset(kind, member), value)

    def ring(self, kind: str, head: int, entries: Sequence[int], following: str = "next", before: str = "prev") -> None:
        """A list_head list; ``head`` is the address of its head."""
        member = self.offset(kind, following)
        places = [head, *(entry + member for entry in entries), head]
        for place, after in itertools.pairwise(places):
            self.word(place, after)
            if after == head:
                self.word(head + 8, place)
            else:
                self.set(kind, after - member, **{before: place})

    def hlist(self, kind: str, first: int, entries: Sequence[int], following: str = "next", pprev: str = "pprev") -> None:
        """An hlist; ``first`` is the address of its head."""
        link, member = first, self.offset(kind, following)
        for entry in entries:
            self.word(link, entry + member)
            self.set(kind, entry, **{pprev: link})
            link = entry + member
        self.word(link, 0)

    def tree(self, kind: str, entries: Sequence[int], above: int = 0) -> int:
        """A balanced tree of these in this order: its topmost rb_node."""
        if not entries:
            return 0
        middle = len(entries) // 2
        entry = entries[middle]
        top = entry + self.offset(kind, "parent")
        self.set(kind, entry, parent=above | (len(entries) & 1))
        self.set(kind, entry, left=self.tree(kind, entries[:middle], top))
        self.set(kind, entry, right=self.tree(kind, entries[middle + 1 :], top))
        return top

    def tasks(self, entries: Sequence[int]) -> None:
        member = self.offset("task", "next")
        places = [self.layout.symbols["init_task"], *entries]
        for place, after in zip(places, [*places[1:], places[0]], strict=True):
            self.word(place + member, after + member)

    def task(self, pid: int, mm: int, comm: bytes = b"init", **members: int) -> int:
        address = self.new("task", mm=mm, pid=pid, tgid=pid, **members)
        os.pwrite(self.fd, comm.ljust(16, b"\0"), address + self.offset("task", "comm") - BASE)
        self._end += 16
        return address

    def maple(self, vmas: Sequence[tuple[int, int]]) -> int:
        """A maple tree of (address, last byte): leaves of four vmas below one arange node."""
        leaves = []
        for at in range(0, len(vmas), 4):
            group = vmas[at : at + 4]
            leaves.append((self._maple_node(1, [(vma, last) for vma, last in group]), group[-1][1]))
        return self._maple_node(3, leaves) if len(leaves) > 1 else leaves[0][0]

    def _maple_node(self, kind: int, entries: Sequence[tuple[int, int]]) -> int:
        address = self.room(256, 256)
        for i, (entry, last) in enumerate(entries):
            self.word(address + 8 + 8 * i, last)
            self.word(address + 8 + 8 * PIVOTS + 8 * i, entry)
        return address | kind << 3 | 2 | 4


class Story:
    """Two processes of one vma each, with a page merged among them, a chain of two dups, and one node on migrate_nodes."""

    def __init__(self, order: str = "<") -> None:
        self.heap = h = Heap(order)
        self.mms = [h.new("mm", users=1, count=2) for _ in range(2)]
        self.anon_vmas = [h.new("anon_vma", refcount=4, children=1, active=1) for _ in self.mms]
        self.vmas = []
        for mm, anon_vma in zip(self.mms, self.anon_vmas, strict=True):
            vma = h.new("vma", start=0x10000, end=0x20000, mm=mm, flags=0x8000_0073, pgoff=16, anon_vma=anon_vma)
            file = h.new("vma", start=0x30000, end=0x40000, mm=mm, ops=BASE)
            more = [h.new("vma", start=a, end=a + 0x1000, mm=mm, pgoff=a >> 12) for a in range(0x50000, 0x56000, 0x1000)]
            for other in more:
                h.ring("chain", other + h.offset("vma", "next"), [])
            ends = [(vma, 0x1FFFF), (file, 0x3FFFF), *((other, 0x50FFF + 0x1000 * i) for i, other in enumerate(more))]
            h.set("mm", mm, maple=h.maple(ends))
            chain = h.new("chain", vma=vma, anon_vma=anon_vma)
            h.ring("chain", vma + h.offset("vma", "next"), [chain])
            h.set("anon_vma", anon_vma, root=anon_vma, parent=anon_vma, tree=h.tree("chain", [chain]))
            self.vmas.append(vma)
        h.tasks([h.task(1, h.new("mm")), h.task(7, self.mms[0], b"P1"), h.task(2, 0), h.task(8, self.mms[1], b"P2")])
        self.nodes = [h.new("node", kpfn=100 + i, length=2) for i in range(4)]
        self.chain = h.new("node", length=-1024)
        whole, *dups, moved = self.nodes
        h.word(h.stable, h.tree("node", [self.chain, whole]))
        h.hlist("node", self.chain + h.offset("node", "hlist"), dups, "dup_next", "dup_pprev")
        h.ring("node", h.layout.symbols["migrate_nodes"], [moved], "list_next", "list_prev")
        self.items: list[list[int]] = []
        for mm, anon_vma in zip(self.mms, self.anon_vmas, strict=True):
            mine = [
                h.new("item", mm=mm, anon_vma=anon_vma, address=0x10000 + 0x1000 * i | 0x200, head=node)
                for i, node in enumerate(self.nodes)
            ]
            mine.append(h.new("item", mm=mm, anon_vma=BASE, address=0x18105))
            for item, after in zip(mine, [*mine[1:], 0], strict=True):
                h.set("item", item, rmap_list=after)
            self.items.append(mine)
        for node, items in zip(self.nodes, zip(*self.items, strict=True), strict=False):
            h.hlist("item", node + h.offset("node", "hlist"), items)
        self.slots = [h.new("slot", mm=mm, rmap_list=mine[0]) for mm, mine in zip(self.mms, self.items, strict=True)]
        h.ring("slot", h.layout.symbols["ksm_mm_head"] + h.offset("slot", "next"), self.slots)

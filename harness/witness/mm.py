# SPDX-License-Identifier: GPL-2.0-or-later
"""Address spaces and what binds their anonymous memory together: mms, vmas, anon_vmas and the chains between them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from harness.graph import AnonVma, Mm, Vma
from harness.witness.follow import Follower

_COMM = 16
_PF_KTHREAD = 0x0020_0000
_INIT = 1
_LEAF = 1  # enum maple_type: maple_dense, maple_leaf_64, maple_range_64, maple_arange_64
_ARANGE = 3
_DEPTH = 16  # of a maple tree
_ALL = (1 << 64) - 1
# SLUB_RED_ACTIVE of include/linux/poison.h, right behind an object (mm/slub.c, init_object), as many as a pointer has bytes.
_RED_ACTIVE = b"\xcc" * 8


def _internal(entry: int) -> bool:
    """xa_is_internal(): not something that was stored."""
    return entry & 3 == 2


class AddressSpaces:
    """One look's reading of them.  The graph's parts, under their names there."""

    def __init__(self, follower: Follower) -> None:
        self._f = f = follower
        layout = f.layout
        self.mms: dict[int, Mm] = {}
        self.vmas: dict[int, Vma] = {}
        self.anon_vmas: dict[int, AnonVma] = {}
        self._anonymous: set[int] = set()  # of the vmas, those of private anonymous memory
        self._wanted: list[tuple[int, str]] = []  # anon_vmas to be read, and where they were found
        self._vma = layout.shape("vma", "start", "end", "mm", "flags", "pgoff", "anon_vma", "ops")
        self._vma_list = layout.structures["vma"]["next"].offset
        self._chain_list = layout.shape("chain", "next", "prev", "vma", "anon_vma")
        self._chain_next = layout.structures["chain"]["next"].offset
        self._chain_tree = layout.shape("chain", "parent", "right", "left", "vma", "anon_vma")
        self._chain_rb = layout.structures["chain"]["parent"].offset
        self._mm = layout.shape("mm", "users", "count", "maple" if layout.has("mm", "maple") else "mmap")
        counts = [name for name in ("children", "active") if layout.has("anon_vma", name)]
        self._counts = counts
        self._size = layout.sizes["anon_vma"]
        self._anon_vma = layout.shape("anon_vma", "root", "parent", "refcount", "tree", *counts)

    def processes(self) -> None:
        """The mms of all processes but init."""
        layout = self._f.layout
        shape = layout.shape("task", "next", "mm", "pid", "tgid", "flags")
        fields = layout.structures["task"]
        member, head = fields["next"].offset, layout.symbols["init_task"] + fields["next"].offset
        at, seen = self._f.pointer(head), {head}
        while at not in seen:
            seen.add(at)
            values = self._f.get(shape, at, "tasks of a process", member)
            if values is None:
                return
            following, mm, pid, tgid, flags = values
            if mm and pid == tgid and pid != _INIT and not flags & _PF_KTHREAD:
                comm = self._f.memory.read(at - member + fields["comm"].offset, _COMM) or b""
                self.add_mm(mm, pid, comm.partition(b"\0")[0].decode("ascii", "replace"), f"mm of process {pid}")
            at = following
        if at != head:
            self._f.fault(f"the list of processes comes round to {at:#x}")

    def add_mm(self, address: int, pid: int, comm: str, where: str) -> None:
        """An mm and its private anonymous memory."""
        if address in self.mms:
            return
        values = self._f.get(self._mm, address, where)
        if values is None:
            return
        users, count, root = values
        vmas = []
        maple = self._f.layout.has("mm", "maple")
        for vma in self._maple(address, root) if maple else self._mmap(address, root):
            if self._add_vma(vma, f"a vma of mm {address:#x}"):
                vmas.append(vma)
        self.mms[address] = Mm(address, pid, comm, users, count, tuple(vmas))

    def want(self, anon_vma: int, where: str) -> None:
        """An anon_vma to be read by close()."""
        if anon_vma and anon_vma not in self.anon_vmas:
            self._wanted.append((anon_vma, where))

    def close(self) -> None:
        """Read all that is wanted, and all that those lead to."""
        while self._wanted:
            address, where = self._wanted.pop()
            if address not in self.anon_vmas:
                self._add_anon_vma(address, where)

    def _is_allocated(self, address: int) -> bool:
        """Whether its red zone says so: a free object's has other bytes, and memory that is used for something else has any."""
        return self._f.memory.read(address + self._size, len(_RED_ACTIVE)) == _RED_ACTIVE

    def former(self, addresses: Iterable[int]) -> dict[int, AnonVma]:
        """Those that were anon_vmas and are reached no more, as their memory is now: anything, so that nothing is a fault.

        Where anon_vmas have red zones (``slub_debug=Z``) these are the ones that nobody has freed.
        """
        found = {}
        zoned = any(map(self._is_allocated, self.anon_vmas))
        with self._f.unfaulted():
            for address in addresses:
                if zoned and not self._is_allocated(address):
                    continue
                if address not in self.anon_vmas and (values := self._f.memory.shape(self._anon_vma, address)) is not None:
                    found[address] = self._made(address, values, tuple(vma for _, vma, _ in self._tree(address, values[3])))
        return found

    def _tree(self, address: int, root: int) -> Iterator[tuple[int, int, int]]:
        """What an interval tree has: each chain, its vma and its anon_vma."""
        what = f"the interval tree of anon_vma {address:#x}"
        for chain, (_, _, _, vma, anon_vma) in self._f.inorder(root, self._chain_tree, self._chain_rb, what):
            yield chain, vma, anon_vma

    def _made(self, address: int, values: tuple[int, ...], vmas: tuple[int, ...]) -> AnonVma:
        root, parent, refcount, _, *rest = values
        told = dict(zip(self._counts, rest, strict=True))
        return AnonVma(address, root, parent, refcount, told.get("children", -1), told.get("active", -1), vmas)

    def _add_anon_vma(self, address: int, where: str) -> None:
        values = self._f.get(self._anon_vma, address, where)
        if values is None:
            return
        vmas = []
        what = f"the interval tree of anon_vma {address:#x}"
        for chain, vma, anon_vma in self._tree(address, values[3]):
            if anon_vma != address:
                self._f.fault(f"chain {chain:#x} in {what} is of anon_vma {anon_vma:#x}")
            vmas.append(vma)
        # Before what it leads to, which leads back to it.
        self.anon_vmas[address] = self._made(address, values, tuple(vmas))
        for vma in vmas:
            self._add_vma(vma, f"a vma of {what}", linked=True)
        self.want(values[0], f"root of anon_vma {address:#x}")
        # The root is held by a reference, a parent only by the vmas that it shares with its children.
        if vmas:
            self.want(values[1], f"parent of anon_vma {address:#x}")

    def _add_vma(self, address: int, where: str, linked: bool = False) -> bool:
        """Whether it is of private anonymous memory (vma_is_anonymous).

        A file's vma is left out unless it has an anon_vma, or is ``linked`` in one.
        """
        if address in self.vmas:
            return address in self._anonymous
        values = self._f.get(self._vma, address, where)
        if values is None:
            return False
        start, end, mm, flags, pgoff, anon_vma, ops = values
        if ops and not anon_vma and not linked:
            return False
        if not ops:
            self._anonymous.add(address)
        chain = []
        what = f"anon_vma_chain of vma {address:#x}"
        for link, (_, _, vma, other) in self._f.around(address + self._vma_list, self._chain_list, self._chain_next, what):
            if vma != address:
                self._f.fault(f"chain {link:#x} in {what} is of vma {vma:#x}")
            chain.append(other)
        self.vmas[address] = Vma(address, mm, start, end, pgoff, flags, anon_vma, tuple(chain))
        self.want(anon_vma, f"anon_vma of vma {address:#x}")
        for other in chain:
            self.want(other, f"an anon_vma of {what}")
        return not ops

    # An mm's vmas, ascending.

    def _mmap(self, mm: int, first: int) -> Iterator[int]:
        """Its list, before 6.1."""
        shape, at, seen = self._f.layout.shape("vma", "older"), first, set[int]()
        while at and at not in seen:
            seen.add(at)
            yield at
            values = self._f.get(shape, at, f"a vma of mm {mm:#x}")
            at = values[0] if values else 0
        if at:
            self._f.fault(f"the vmas of mm {mm:#x} come round to {at:#x}")

    def _maple(self, mm: int, root: int) -> Iterator[int]:
        """Its maple tree (lib/maple_tree.c)."""
        if not root:
            return
        if not _internal(root) or root <= 4096:
            yield root
            return
        yield from self._maple_node(mm, root, _ALL, 0, set())

    def _maple_node(self, mm: int, encoded: int, most: int, depth: int, seen: set[int]) -> Iterator[int]:
        kind, address = encoded >> 3 & 0xF, encoded & ~0xFF
        if address in seen or depth > _DEPTH or not _LEAF <= kind <= _ARANGE:
            self._f.fault(f"the maple tree of mm {mm:#x} leads to {encoded:#x}, which is no node of it")
            return
        seen.add(address)
        self._f.count()
        name = "arange" if kind == _ARANGE else "range"
        fields = self._f.layout.structures[name]
        pivots_at, slots_at = fields["pivot"].offset, fields["slot"].offset
        pivots = (slots_at - pivots_at) // 8
        data = self._f.memory.read(address + pivots_at, 8 * (2 * pivots + 1))
        if data is None:
            self._f.fault(f"a node of the maple tree of mm {mm:#x} is {address:#x}, where nothing can be")
            return
        words = struct.unpack(f"{self._f.layout.order}{2 * pivots + 1}Q", data)
        for i in range(pivots + 1):
            last = words[i] if i < pivots and (words[i] or not i) else most
            entry = words[pivots + i]
            if kind == _LEAF:
                if entry and not _internal(entry):
                    yield entry
            elif entry:
                yield from self._maple_node(mm, entry, last, depth + 1, seen)
            if last >= most:
                return

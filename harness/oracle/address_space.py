# SPDX-License-Identifier: GPL-2.0-or-later
"""Address spaces: vmas that split and merge, and the page tables.  Addresses are in pages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.oracle import anon_vma
from harness.oracle.anon_vma import AnonVma, AnonVmas

if TYPE_CHECKING:
    from harness.oracle.memory import Pte
    from harness.oracle.trees import Item


@dataclass(frozen=True)
class VmFlags:
    """The vm_flags that matter, and the protection; vmas merge when all are equal."""

    prot: str = "rw"
    mergeable: bool = False  # VM_MERGEABLE
    locked: bool = False  # VM_LOCKED
    onfault: bool = False  # VM_LOCKONFAULT
    huge: bool = False  # VM_HUGEPAGE
    shared: bool = False  # VM_SHARED
    bound: int | None = None  # memory policy: pages come from this NUMA node only

    @property
    def node(self) -> int:
        """The NUMA node that pages come from; without a policy the first one, which alone has CPUs."""
        return self.bound or 0


class Vma:
    """``struct vm_area_struct`` of private anonymous memory, pages ``start`` to ``end`` - 1."""

    __slots__ = ("anon_vma", "chain", "end", "flags", "mm", "pgoff", "start")

    def __init__(self, mm: Mm, start: int, end: int, flags: VmFlags, pgoff: int | None = None) -> None:
        self.mm = mm
        self.start = start
        self.end = end
        self.flags = flags
        self.pgoff = start if pgoff is None else pgoff  # vm_pgoff: where it was when its first page came
        self.anon_vma: AnonVma | None = None
        self.chain: list[AnonVma] = []  # oldest first

    def index_of(self, addr: int) -> int:
        """linear_page_index: page->index of a page at this address."""
        return self.pgoff + addr - self.start

    def __repr__(self) -> str:
        return f"{self.mm.name}[{self.start:x}..{self.end:x})"


@dataclass(frozen=True)
class Area:
    """A mapping as the journal names it: where it was made, whatever became of its vmas."""

    start: int
    npages: int


@dataclass
class Tally:
    """A counter of an mm_struct: what the mm counted itself, and what fork may have copied from its parent."""

    own: int = 0
    inherited: int = 0

    @property
    def value(self) -> int:
        """What /proc shows if it was copied."""
        return self.own + self.inherited


class Mm:
    """``struct mm_struct``, with what KSM keeps of it (``struct ksm_mm_slot``)."""

    def __init__(self, name: str, memcg: str) -> None:
        self.name = name
        self.memcg = memcg
        self.pid = 0
        self.vmas: list[Vma] = []  # ascending
        self.areas: dict[str, Area] = {}
        self.ptes: dict[int, Pte] = {}
        self.other: Vma | None = None  # stands for what the process has beside its areas: stack, data
        self.executed = False  # it is another program's than it was at first
        self.dead = False
        self.registered = False  # MMF_VM_MERGEABLE, and on ksmd's list
        self.items: dict[int, Item] = {}  # rmap_list
        self.merging = Tally()  # ksm_merging_pages
        self.rmap_items = Tally()  # ksm_rmap_items
        self.zero_pages = 0  # ksm_zero_pages
        self.merge_any = False  # MMF_VM_MERGE_ANY
        self.ever_locked = False

    def vma_at(self, addr: int) -> Vma | None:
        """vma_lookup."""
        i = bisect_right(self.vmas, addr, key=_start) - 1
        if i >= 0 and addr < self.vmas[i].end:
            return self.vmas[i]
        return None

    def vmas_in(self, start: int, end: int) -> list[Vma]:
        """All vmas with a page in [start, end)."""
        i = max(0, bisect_right(self.vmas, start, key=_start) - 1)
        found = []
        for vma in self.vmas[i:]:
            if vma.start >= end:
                break
            if vma.end > start:
                found.append(vma)
        return found

    def insert(self, start: int, npages: int) -> Vma:
        """mmap: a new vma, which has no neighbour to merge with."""
        vma = Vma(self, start, start + npages, VmFlags(mergeable=self.merge_any))
        self.link(vma)
        return vma

    def link(self, vma: Vma) -> None:
        """vma_link: where there is none."""
        self.vmas.insert(bisect_right(self.vmas, vma.start, key=_start), vma)

    def _split(self, addr: int) -> None:
        """__split_vma: both halves are linked in the same anon_vmas."""
        old = self.vma_at(addr)
        if old is None or old.start == addr:
            return
        new = Vma(self, addr, old.end, old.flags, old.index_of(addr))
        new.anon_vma = old.anon_vma
        anon_vma.clone(new, old)
        old.end = addr
        self.vmas.insert(bisect_right(self.vmas, addr, key=_start), new)

    def isolate(self, start: int, end: int) -> list[Vma]:
        """Split at both ends, and give the vmas in between."""
        self._split(start)
        self._split(end)
        return self.vmas_in(start, end)

    def remove(self, vma: Vma) -> None:
        """The vma goes; its ptes must be gone already."""
        anon_vma.unlink(vma)
        self.vmas.remove(vma)

    def change(self, start: int, end: int, flags: Callable[[VmFlags], VmFlags]) -> list[Vma]:
        """Give the range other flags: mprotect_fixup, madvise_update_vma, mlock_fixup.  Returns the range's vmas."""
        for vma in self.isolate(start, end):
            vma.flags = flags(vma.flags)
        self.merge_around(start, end)
        return self.vmas_in(start, end)

    def merge_around(self, start: int, end: int) -> None:
        """vma_merge: of a range and its neighbours, those that are compatible become one."""
        i = max(0, bisect_right(self.vmas, start, key=_start) - 2)
        while i + 1 < len(self.vmas) and self.vmas[i].start < end:
            if not self._merge(self.vmas[i], self.vmas[i + 1]):
                i += 1

    def _merge(self, vma: Vma, after: Vma) -> bool:
        """vma_merge, __vma_adjust: ``vma`` takes over ``after`` if they are compatible (is_mergeable_anon_vma)."""
        if vma.end != after.start or vma.flags != after.flags or vma.index_of(vma.end) != after.pgoff:
            return False
        ours, theirs = vma.anon_vma, after.anon_vma
        if ours is not theirs and not (ours is None or theirs is None):
            return False
        if ours is None and theirs is not None:
            if len(after.chain) != 1:
                return False
            vma.anon_vma = theirs
            anon_vma.clone(vma, after)
        elif theirs is None and ours is not None and len(vma.chain) != 1:
            return False
        vma.end = after.end
        self.remove(after)
        return True

    def prepare_anon_vma(self, cache: AnonVmas, vma: Vma) -> AnonVma:
        """anon_vma_prepare: a neighbour's is used if the vmas could be merged after an mprotect."""
        if vma.anon_vma is not None:
            return vma.anon_vma
        return anon_vma.prepare(cache, vma, self._reusable(vma))

    def _reusable(self, vma: Vma) -> AnonVma | None:
        """find_mergeable_anon_vma, reusable_anon_vma: the next vma's first, then the previous one's."""
        for other in (self.vma_at(vma.end), self.vma_at(vma.start - 1)):
            if other is None or len(other.chain) != 1 or other.anon_vma is None:
                continue
            # anon_vma_compatible: all but the protection is equal, and vm_pgoff goes on.
            same = replace(vma.flags, prot="") == replace(other.flags, prot="")
            if same and other.pgoff - vma.pgoff == other.start - vma.start:
                return other.anon_vma
        return None

    def ptes_in(self, start: int, end: int) -> Iterator[Pte]:
        """The ptes of a range that are not none, ascending."""
        ptes = self.ptes
        for addr in range(start, end):
            pte = ptes.get(addr)
            if pte is not None:
                yield pte


def _start(vma: Vma) -> int:
    return vma.start

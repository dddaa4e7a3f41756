# SPDX-License-Identifier: GPL-2.0-or-later
"""The model: all processes of a workload, and the journal's operations on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.oracle import anon_vma, faults, rmap
from harness.oracle.address_space import Area, Mm, Vma, VmFlags
from harness.oracle.inheritance import Inheritance
from harness.oracle.ksmd import Ksmd
from harness.oracle.memory import Memory, Page, Pte
from harness.oracle.pins import Pins
from harness.oracle.records import JournalContradiction
from harness.oracle.semantics import Semantics
from harness.oracle.setup import USUAL, Setup

MASK = (1 << 64) - 1  # contents are 64-bit tags
MAX_PAGES = 1 << 20  # of an area; more is no workload of ours


class Model:
    """KSM, rmap and swap at pte granularity.  ``actors`` holds the processes that are alive, by name."""

    def __init__(self, semantics: Semantics, setup: Setup = USUAL) -> None:
        self.semantics = semantics
        self.merging_inheritance = Inheritance(semantics.merging_inherited_at_fork)
        self.items_inheritance = Inheritance(semantics.merging_inherited_at_fork)
        self.memory = Memory(semantics, setup)
        self.ksmd = Ksmd(self.memory)
        self.actors: dict[str, Mm] = {}
        self.run = 1
        self.huge_pages = 1  # pages of a transparent huge page
        self._pins = Pins(self.memory)

    # Who and where.

    def actor(self, name: str) -> Mm:
        """The mm of a living actor."""
        mm = self.actors.get(name)
        if mm is None:
            raise JournalContradiction(f"no actor {name!r} is alive")
        return mm

    def span(self, mm: Mm, area: str, first: int, count: int) -> tuple[int, int]:
        """The addresses [start, end) of pages of an area."""
        where = mm.areas.get(area)
        if where is None:
            raise JournalContradiction(f"{mm.name} has no area {area!r}")
        if first < 0 or count < 0 or first + count > where.npages:
            raise JournalContradiction(f"pages {first}..{first + count - 1} of {mm.name}.{area}, which has {where.npages}")
        return where.start + first, where.start + first + count

    def begin_op(self, op: str) -> None:
        """Name the operation that the following changes belong to."""
        self.memory.op = op
        self.memory.tick += 1

    # Processes.

    def _add(self, name: str, mm: Mm, pid: int) -> None:
        if name in self.actors:
            raise JournalContradiction(f"there is an actor {name!r} already")
        mm.pid = pid
        self.actors[name] = mm

    def spawn(self, name: str, memcg: str, pid: int = 0) -> Mm:
        """A process unrelated to the others."""
        mm = Mm(name, memcg)
        self._add(name, mm, pid)
        self._give_other_memory(mm)
        return mm

    def _give_other_memory(self, mm: Mm) -> None:
        mm.other = _other_vma(mm)
        anon_vma.prepare(self.memory.other_anon_vmas, mm.other, None)

    def fork(self, parent: Mm, name: str, pid: int = 0, *, slot: bool = True) -> Mm:
        """dup_mmap: VM_LOCKED is not handed on; a parent that ksmd knows makes a child that ksmd knows.

        ``slot``: there was memory for its mm_slot.
        """
        child = Mm(name, parent.memcg)
        self._add(name, child, pid)
        if parent.registered and slot:
            self.ksmd.enter(child)
        child.areas = dict(parent.areas)
        self._pins.share(child, parent)
        self._inherit_counters(child, parent)
        child.merge_any = parent.merge_any
        era, reuses = self.semantics.era, self.semantics.reuses_anon_vmas
        if parent.other is not None:
            child.other = _other_vma(child)
            anon_vma.fork(child.other, parent.other, era, reuses=reuses)
        for old in parent.vmas:
            new = child.insert(old.start, old.end - old.start)
            new.flags, new.pgoff = replace(old.flags, locked=False, onfault=False), old.pgoff
            anon_vma.fork(new, old, era, reuses=reuses)
        for pte in parent.ptes.values():
            vma = parent.vma_at(pte.addr)
            if vma is not None and vma.anon_vma is not None:  # else vma_needs_copy says no
                self._copy_pte(child, pte)
        return child

    def _inherit_counters(self, child: Mm, parent: Mm) -> None:
        child.zero_pages = parent.zero_pages
        if parent.registered and not self.semantics.merging_inherited_at_fork:
            self.memory.ksm_zero_pages += parent.zero_pages
        self.merging_inheritance.fork(child.merging, parent.merging)
        self.items_inheritance.fork(child.rmap_items, parent.rmap_items)

    def _copy_pte(self, child: Mm, old: Pte) -> None:
        """copy_present_pte, copy_nonpresent_pte."""
        memory = self.memory
        new = memory.pte(child, old.addr)
        new.zero, new.ksm_zero, new.dirty, new.poison = old.zero, old.ksm_zero, old.dirty, old.poison
        memory.stamp(new)
        if old.page is not None:
            old.page.exclusive = False
            memory.map(new, old.page)
            new.young = False  # pte_mkold
        elif old.entry is not None:
            old.swp_exclusive = False
            new.entry = old.entry
            old.entry.ptes.add(new)

    def exit(self, name: str) -> None:
        """The process is gone; ksmd finds out later."""
        mm = self.actor(name)
        del self.actors[name]
        self._leave(mm)

    def exec(self, name: str) -> Mm:
        """The process stays, its mm does not."""
        mm = self.actor(name)
        pid = mm.pid
        self.exit(name)
        new = self.spawn(name, mm.memcg, pid)
        new.executed = True
        if mm.merge_any:  # ksm_execve
            new.merge_any = True
            self.ksmd.enter(new)
        return new

    def _leave(self, mm: Mm) -> None:
        """exit_mmap, after ksm_exit."""
        mm.dead = True
        self.ksmd.exit(mm)
        self._pins.close(mm)
        for pte in sorted(mm.ptes.values(), key=_addr):
            self.memory.zap(pte)
        for vma in list(mm.vmas):
            mm.remove(vma)
        if mm.other is not None:
            anon_vma.unlink(mm.other)
            mm.other = None

    # Memory.

    def map(self, mm: Mm, area: str, addr: int, npages: int, *, shared: bool = False) -> None:
        """A private or shared anonymous mapping at page ``addr``."""
        if not 1 <= npages <= MAX_PAGES or addr < 0:
            raise JournalContradiction(f"{mm.name}.{area} has {npages} pages at {addr:x}")
        if area in mm.areas or mm.vmas_in(addr, addr + npages):
            raise JournalContradiction(f"{mm.name}.{area} is mapped where something is mapped already")
        mm.areas[area] = Area(addr, npages)
        vma = mm.insert(addr, npages)
        vma.flags = VmFlags(shared=True) if shared else vma.flags

    def write(self, mm: Mm, start: int, end: int, tag: int, step: int) -> None:
        """Fill pages with contents tag, tag + step, …"""
        for i, addr in enumerate(range(start, end)):
            page = faults.write(self.memory, mm, addr)
            page.content = (tag + i * step) & MASK

    def read(self, mm: Mm, start: int, end: int) -> None:
        """Touch each page."""
        for addr in range(start, end):
            faults.read(self.memory, mm, addr)

    def contents(self, mm: Mm, start: int, end: int) -> list[int]:
        """What the process sees in these pages."""
        ptes = mm.ptes
        return [ptes[addr].content if addr in ptes else 0 for addr in range(start, end)]

    def munmap(self, mm: Mm, start: int, end: int) -> None:
        """The pages are gone; items stay until ksmd comes by."""
        faults.zap_range(self.memory, mm, start, end)
        for vma in mm.isolate(start, end):
            mm.remove(vma)

    def mprotect(self, mm: Mm, start: int, end: int, prot: str) -> None:
        """Another protection; vmas split and merge."""
        mm.change(start, end, lambda f: replace(f, prot=prot))

    def mlock(self, mm: Mm, start: int, end: int, *, onfault: bool) -> None:
        """mlock2; without MLOCK_ONFAULT the range is populated, by writing where that is allowed."""
        mm.ever_locked = True
        for pte in mm.ptes_in(start, end):  # mlock_pte_range
            marks = pte.page is not None and (self.semantics.mlock_marks_ksm or not pte.page.ksm)
            if pte.page is not None and marks and not pte.locked:
                pte.page.mlock.lock()
        vmas = mm.change(start, end, lambda f: replace(f, locked=True, onfault=onfault))
        if onfault:
            return  # populate_vma_page_range: "it has no work to do here"
        touch: Callable[[Memory, Mm, int], object]
        for vma in vmas:
            touch = faults.write if "w" in vma.flags.prot else faults.read
            for addr in range(max(start, vma.start), min(end, vma.end)):
                touch(self.memory, mm, addr)
        for pte in mm.ptes_in(start, end):
            if pte.page is not None:
                pte.page.referenced = None  # FOLL_TOUCH

    def munlock(self, mm: Mm, start: int, end: int) -> None:
        """VM_LOCKED goes."""
        for pte in mm.ptes_in(start, end):
            if pte.page is not None and pte.locked:
                self.memory.munlock(pte.page, others=any(p.locked for p in pte.page.ptes if p is not pte))
        mm.change(start, end, lambda f: replace(f, locked=False, onfault=False))

    def pin(self, mm: Mm, start: int, end: int) -> None:
        """vmsplice: a reference on each page (get_user_pages_fast without FOLL_PIN or FOLL_WRITE)."""
        self.read(mm, start, end)
        self._pins.add(mm, (pte.page for pte in mm.ptes_in(start, end) if pte.page is not None))

    def unpin(self, mm: Mm) -> None:
        """The pipe is drained."""
        self._pins.drain(mm)

    # KSM.

    def mergeable(self, mm: Mm, start: int, end: int) -> None:
        """MADV_MERGEABLE."""
        if all(vma.flags.shared for vma in mm.vmas_in(start, end)):
            return  # "just ignore the advice": and ksmd does not hear of the mm
        self.ksmd.enter(mm)
        mm.change(start, end, lambda f: replace(f, mergeable=not f.shared))

    def unmergeable(self, mm: Mm, start: int, end: int) -> None:
        """MADV_UNMERGEABLE: KSM ptes are broken, items stay until ksmd comes by."""
        for vma in mm.vmas_in(start, end):
            if vma.flags.mergeable and vma.anon_vma is not None:
                self.ksmd.break_ksm(vma, max(start, vma.start), min(end, vma.end))
        mm.change(start, end, lambda f: replace(f, mergeable=False))

    def unmerge_short(self, mm: Mm, start: int, end: int, failing: int) -> None:
        """MADV_UNMERGEABLE that gets no page for its copy number ``failing``, from 1: vm_flags stay."""
        copies = failing - 1
        for vma in mm.vmas_in(start, end):
            if vma.flags.mergeable and vma.anon_vma is not None:
                copies -= self.ksmd.break_ksm(vma, max(start, vma.start), min(end, vma.end), copies)
                if copies < 0:
                    return
            mm.change(max(start, vma.start), min(end, vma.end), lambda f: replace(f, mergeable=False))

    def unmerge_all_short(self, failing: int) -> None:
        """run_store: run=2 that gets no page for its copy number ``failing``, from 1."""
        self.ksmd.unmerge_all(failing - 1)
        self.run = 0
        self.memory.unmerging = False

    def set_run(self, value: int) -> None:
        """run_store."""
        if value == self.run:
            return
        self.run = value
        self.memory.unmerging = value == 2
        if value == 2:
            self.ksmd.unmerge_all()

    def set_tunable(self, file: str, value: int) -> None:
        """A tunable that was written with success; ``tunables`` says whether it can be."""
        ksmd = self.ksmd
        if file == "max_page_sharing" and value != ksmd.tree.max_page_sharing:
            ksmd.tree.remove_unmapped()
            ksmd.tree.max_page_sharing = value
        elif file == "merge_across_nodes" and bool(value) != ksmd.tree.merge_across_nodes:
            ksmd.tree.remove_unmapped()
            ksmd.tree.merge_across_nodes = bool(value)
        elif file == "stable_node_chains_prune_millisecs":
            ksmd.tree.prune_millisecs = value
        elif file == "use_zero_pages":
            ksmd.use_zero_pages = bool(value)
        elif file == "smart_scan":
            ksmd.smart_scan = bool(value)

    # Reclaim.

    def pages(self) -> dict[Page, None]:
        """All pages that an actor maps."""
        found: dict[Page, None] = {}
        for mm in self.actors.values():
            for pte in mm.ptes.values():
                if pte.page is not None:
                    found[pte.page] = None
        return found

    def plan_reclaim(self, memcg: str) -> dict[Page, list[Pte]]:
        """For each page that is charged to ``memcg``, the ptes that reclaim takes it out of."""
        return {page: rmap.to_unmap(self.memory, page, memcg) for page in self.pages() if page.memcg == memcg}

    def look_at(self, memcg: str) -> None:
        """Reclaim's walks for references give and take PG_referenced (mm/vmscan.c: folio_check_references)."""
        for page in (*self.pages(), *self.memory.unmapped):
            if page.memcg == memcg:
                page.referenced = None

    def drop_unmapped(self, memcg: str) -> None:
        """Reclaim also frees what only the swap cache holds."""
        for page in list(self.memory.unmapped):
            if page.memcg == memcg:
                self.memory.drop_unmapped(page)

    def reclaim(self, memcg: str) -> None:
        """Reclaim as it must go; the judge does this by halves, with what was observed."""
        self.look_at(memcg)
        for page, ptes in self.plan_reclaim(memcg).items():
            if ptes:
                self.memory.swap_out(page, ptes)
        self.drop_unmapped(memcg)

    def swap_off(self) -> None:
        """try_to_unuse: every swap pte gets its page, and no page stays in the swap cache.

        The order of the mms is not told: who shares a page with relatives, and who gets a copy, may depend on it.
        """
        for mm in self.actors.values():
            for pte in list(mm.ptes.values()):
                vma = mm.vma_at(pte.addr)
                if pte.entry is not None and vma is not None:
                    faults.swap_in(self.memory, pte, vma, write=False)
                    pte.young = False  # pte_mkold
        for page in (*self.pages(), *self.memory.unmapped):
            self.memory.uncache(page)
            if not page.ptes:
                self.memory.release(page)

    def plan_pageout(self, mm: Mm, start: int, end: int) -> dict[Page, list[Pte]]:
        """MADV_PAGEOUT: pages with a single mapping only (mm/madvise.c: page_mapcount != 1)."""
        plan = {}
        for pte in mm.ptes_in(start, end):
            if pte.page is not None and pte.page.mapcount == 1:
                plan[pte.page] = rmap.to_unmap(self.memory, pte.page, None)
        return plan


def _other_vma(mm: Mm) -> Vma:
    """A vma that is in no list: it stands for the rest of a process."""
    return Vma(mm, 0, 0, VmFlags())


def _addr(pte: Pte) -> int:
    return pte.addr

# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages, page table entries and swap entries, and the ties between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.oracle.anon_vma import AnonVma, AnonVmas
from harness.oracle.mlock import Mlock
from harness.oracle.semantics import Semantics
from harness.oracle.setup import USUAL, Setup

if TYPE_CHECKING:
    from harness.oracle.address_space import Mm, Vma
    from harness.oracle.huge import Compound
    from harness.oracle.trees import Node


SIGBUS = -2  # in a content's place: whoever touches the page is killed


class Page:
    """A page frame of anonymous memory: plain, or a KSM page (then ``node`` is its stable node, if it has one)."""

    __slots__ = (
        "anon_vma", "by", "compound", "content", "copied", "entry", "exclusive", "extra_refs", "file", "freed", "idle",
        "index", "ksm", "memcg", "mlock", "moves", "nid", "node", "pfn", "poisoned", "ptes", "referenced", "seen",
        "unsure", "when", "young",
    )  # fmt: skip

    def __init__(self, content: int, memcg: str, nid: int | None = 0) -> None:
        self.content = content
        self.memcg = memcg  # to which it is charged
        self.nid = nid  # NUMA node it lies on; None: cannot be told
        self.file = False  # of a shared mapping
        self.compound: Compound | None = None  # the huge page that it is a part of
        self.ptes: set[Pte] = set()
        self.extra_refs = 0  # pins
        self.ksm = False
        self.node: Node | None = None
        self.anon_vma: AnonVma | None = None  # page->mapping of a plain page
        self.index = 0  # page->index, as an address
        self.exclusive = False  # PageAnonExclusive
        self.entry: SwapEntry | None = None  # in the swap cache under this entry
        self.freed = False
        self.mlock = Mlock()
        self.idle: bool | None = False  # PG_idle; None: a walk may have found that it had been used, or others before it
        self.young: bool | None = False  # PG_young: idle page tracking took a young bit from a pte
        self.referenced: bool | None = False  # PG_referenced: set by what marks it as accessed, and by walks that find it young
        self.unsure = False  # what it is can no longer be told, so nothing but its bytes is judged
        self.poisoned = False  # PG_hwpoison
        self.moves = 0  # to another frame, since it was observed last
        self.by = ""  # the operation that made it what it is, and its number
        self.when = 0
        self.pfn: int | None = None  # as observed last
        self.copied: int | None = None  # frame of the KSM page that a write fault copied, which was there when this one came
        self.seen = 0  # number of the observation that saw it last

    @property
    def mapcount(self) -> int:
        """page_mapcount."""
        return len(self.ptes)


class Pte:
    """A page table entry that is not none: it maps a page, holds a swap or a hwpoison entry, or maps the page of zeros."""

    __slots__ = (
        "addr", "by", "dirty", "entry", "ksm_zero", "mm", "page", "poison", "swp_exclusive", "when", "young", "zero",
    )  # fmt: skip

    def __init__(self, mm: Mm, addr: int) -> None:
        self.mm = mm
        self.addr = addr
        self.page: Page | None = None
        self.entry: SwapEntry | None = None
        self.zero = False
        self.poison = False  # hwpoison entry: a touch raises SIGBUS
        self.ksm_zero = False  # ksmd put the page of zeros there (mm/ksm.c: use_zero_pages)
        self.dirty = False
        self.young: bool | None = False  # None: an access may have set it or not, as a TLB had the pte
        self.swp_exclusive = False  # pte_swp_exclusive
        self.by = ""  # the operation that changed it last, and its number
        self.when = 0

    @property
    def locked(self) -> bool:
        """It lies in a VM_LOCKED vma."""
        vma = self.mm.vma_at(self.addr) if self.mm.ever_locked else None
        return vma is not None and vma.flags.locked

    @property
    def content(self) -> int:
        """The tag of the bytes that the process sees there."""
        if self.page is not None:
            return self.page.content
        if self.entry is None:
            return SIGBUS if self.poison else 0
        cached = self.entry.cached
        return SIGBUS if cached is not None and cached.poisoned else self.entry.content  # do_swap_page


class SwapEntry:
    """A slot of the swap device: the ptes that hold it (swap_count), its bytes, and the page in the swap cache."""

    __slots__ = ("cached", "content", "memcg", "offset", "ptes", "seen", "unsure")

    def __init__(self, page: Page) -> None:
        self.content = page.content
        self.memcg = page.memcg
        self.ptes: set[Pte] = set()
        self.cached: Page | None = None
        self.offset: int | None = None  # as observed last
        self.seen = 0
        self.unsure = False  # its old KSM page may still be in the swap cache, or may not


@dataclass
class Memory:
    """What all processes share: the kernel's behaviour, its event counters, and the operation in progress."""

    semantics: Semantics
    setup: Setup = USUAL
    anon_vmas: AnonVmas = field(default_factory=AnonVmas)  # of areas
    other_anon_vmas: AnonVmas = field(default_factory=AnonVmas)  # of what else processes have, one for each
    cow_ksm: int = 0
    ksm_swpin_copy: int = 0
    ksm_zero_pages: int = 0
    unmerging: bool = False  # run is 2 (KSM_RUN_UNMERGE)
    op: str = ""
    tick: int = 0
    unmapped: set[Page] = field(default_factory=set)  # without ptes, but kept by the swap cache or a pin
    unsure: str = ""  # why the counters can no longer be predicted
    migrations: int = 0  # of pages, as operations asked for
    # MADV_HWPOISON tells its caller at once, early kill or not (mm/madvise.c: MF_ACTION_REQUIRED, 6.11 on): as was seen
    # with ordinary memory; None: not seen yet.
    poisoner_told: bool | None = None

    def doubt(self, why: str) -> None:
        """From here on the counters cannot be predicted; the first reason stays."""
        self.unsure = self.unsure or why

    def stamp(self, pte: Pte) -> None:
        """Note which operation changed the pte."""
        pte.by, pte.when = self.op, self.tick

    def pte(self, mm: Mm, addr: int) -> Pte:
        """The pte, made if there is none."""
        pte = mm.ptes.get(addr)
        if pte is None:
            pte = mm.ptes[addr] = Pte(mm, addr)
        return pte

    def map(self, pte: Pte, page: Page) -> None:
        """Let a pte that maps nothing map the page."""
        if not page.ptes:
            self.unmapped.discard(page)
        pte.page = page
        pte.young = True
        page.ptes.add(pte)
        # What was just read from swap may not be on the LRU yet.  Before 5.18 a KSM page is marked where a page of a locked
        # vma is merged into it (mm/ksm.c: try_to_merge_one_page), not where it is mapped again from the swap cache.
        if pte.locked and (self.semantics.mlock_marks_ksm or not page.ksm or page.entry is None):
            page.mlock.lock(on_lru=page.entry is None)
        self.stamp(pte)

    def new_page(self, pte: Pte, vma: Vma, content: int) -> Page:
        """page_add_new_anon_rmap: a fresh page, mapped by this pte alone, writable."""
        page = Page(content, pte.mm.memcg, vma.flags.node)
        page.anon_vma = pte.mm.prepare_anon_vma(self.anon_vmas, vma)
        page.index = vma.index_of(pte.addr)
        page.exclusive = True
        page.by, page.when = self.op, self.tick
        self.unmap_zero(pte)
        pte.zero = pte.poison = False
        pte.dirty = True
        self.map(pte, page)
        return page

    def unmap(self, pte: Pte, *, keep_cached: bool = False) -> None:
        """page_remove_rmap, and what becomes of the page; ``keep_cached``: it stays in the swap cache if it is there."""
        page = pte.page
        if page is None:
            return
        page.ptes.discard(pte)
        pte.page = None
        if pte.locked:  # munlock_vma_page
            self.munlock(page, others=any(p.locked for p in page.ptes))
        if not page.ptes and keep_cached and page.entry is not None:
            self.unmapped.add(page)
        elif not page.ptes:
            self.release(page)

    def munlock(self, page: Page, *, others: bool) -> None:
        """One VM_LOCKED vma maps the page no more, or is no more VM_LOCKED; ``others`` are."""
        page.mlock.unlock(others=others, counted=self.semantics.mlock_marks_ksm)

    def release(self, page: Page) -> None:
        """A page without ptes: its swap slot is dropped if no pte holds it (free_swap_cache), and it is freed."""
        if page.entry is not None and not page.entry.ptes:
            self.uncache(page)
        if page.entry is None and not page.extra_refs:
            page.freed = True
            self.unmapped.discard(page)
        else:
            self.unmapped.add(page)

    def split_huge(self, page: Page) -> None:
        """split_huge_page: parts of zeros that nobody locks may give way to the page of zeros (try_to_map_unused_to_zeropage)."""
        if page.compound is None:
            return
        parts = list(page.compound.parts)
        page.compound.split()
        for part in parts if self.semantics.split_maps_zeros else ():
            if part.content == 0 and not part.poisoned and not part.mlock.marked and not any(p.locked for p in part.ptes):
                for pte in list(part.ptes):
                    self.unmap(pte)
                    pte.zero = True
                    self.stamp(pte)

    def unmap_zero(self, pte: Pte) -> None:
        """ksm_might_unmap_zero_page: ksmd's page of zeros leaves a pte."""
        if pte.ksm_zero:
            pte.ksm_zero = False
            pte.mm.zero_pages -= 1
            self.ksm_zero_pages -= 1

    def uncache(self, page: Page) -> None:
        """delete_from_swap_cache."""
        if page.entry is not None:
            page.entry.cached = None
            page.entry = None

    def zap(self, pte: Pte) -> None:
        """zap_pte_range: the pte becomes none, as at munmap or exit."""
        if pte.page is not None:
            self.unmap(pte)
        elif pte.entry is not None:
            entry = pte.entry
            entry.ptes.discard(pte)
            pte.entry = None
            # free_swap_and_cache, __try_to_reclaim_swap(TTRS_UNMAPPED)
            if not entry.ptes and entry.cached is not None and not entry.cached.ptes:
                self.release(entry.cached)
        self.unmap_zero(pte)
        del pte.mm.ptes[pte.addr]

    def swap_out(self, page: Page, ptes: list[Pte]) -> None:
        """try_to_unmap of these ptes; a page that nothing maps or holds any more is then written and freed."""
        entry = page.entry
        if page.compound is not None:
            page.compound.split()
        if entry is None:
            entry = page.entry = SwapEntry(page)
            entry.cached = page
        elif not entry.ptes:
            entry.offset = None  # the slot may have been given back and another one taken
            entry.content = page.content
        for pte in ptes:
            page.ptes.discard(pte)
            pte.page = None
            pte.entry = entry
            pte.dirty = False
            pte.swp_exclusive = page.exclusive and self.semantics.swap_ptes_keep_exclusive
            entry.ptes.add(pte)
            self.stamp(pte)
        page.exclusive = False
        if not page.ptes:
            self.drop_unmapped(page)

    def drop_unmapped(self, page: Page) -> None:
        """__remove_mapping: reclaim frees a page without ptes, unless somebody has a reference to it."""
        if page.extra_refs:
            self.unmapped.add(page)
            return
        self.uncache(page)
        page.freed = True
        self.unmapped.discard(page)

    def unpin(self, page: Page) -> None:
        """A reference that a pipe had is gone."""
        page.extra_refs -= 1
        if not page.ptes:
            self.release(page)

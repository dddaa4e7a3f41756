# SPDX-License-Identifier: GPL-2.0-or-later
"""Page faults: what reading and writing do to a page table (mm/memory.c of 6.1)."""

from __future__ import annotations

from harness.oracle.address_space import Mm, Vma
from harness.oracle.anon_vma import AnonVma
from harness.oracle.huge import Compound
from harness.oracle.memory import Memory, Page, Pte, SwapEntry
from harness.oracle.records import JournalContradiction


def vma_of(mm: Mm, addr: int) -> Vma:
    """The vma of an address that a process can touch without dying of it."""
    vma = mm.vma_at(addr)
    if vma is None:
        raise JournalContradiction(f"{mm.name} touches page {addr:x}, where nothing is mapped")
    return vma


def read(memory: Memory, mm: Mm, addr: int) -> None:
    """A read access: what is swapped comes in, what is not there becomes the page of zeros."""
    pte = mm.ptes.get(addr)
    if pte is None:
        vma_of(mm, addr)
        pte = memory.pte(mm, addr)
        pte.zero = True
        memory.stamp(pte)
    elif pte.entry is not None:
        swap_in(memory, pte, vma_of(mm, addr), write=False)
    else:
        _use(pte)


def _use(pte: Pte) -> None:
    """An access without a fault: it makes the pte young unless the TLB has it, as where clearing the bit flushes nothing."""
    pte.young = pte.young or None


def write(memory: Memory, mm: Mm, addr: int) -> Page:
    """A write access: afterwards the pte maps a page that is written through no other; returns it."""
    vma = vma_of(mm, addr)
    pte = memory.pte(mm, addr)
    if vma.flags.shared:
        return _shared_page(memory, pte, vma)
    if pte.page is None and pte.entry is None:
        pages = () if pte.zero or pte.poison else _huge_range(memory, mm, vma, addr)
        return _new_huge(memory, mm, vma, pages, addr) if pages else memory.new_page(pte, vma, 0)
    if pte.entry is not None:
        swap_in(memory, pte, vma, write=True)
    page = pte.page
    assert page is not None
    if page.exclusive:
        pte.dirty = True
        _use(pte)
        return page
    return wp_fault(memory, pte, vma)


def _huge_range(memory: Memory, mm: Mm, vma: Vma, addr: int) -> range:
    """The largest huge page that has room around a fault: alloc_anon_folio.  That there is memory for it is taken for granted."""
    for count in memory.setup.huge_pages:
        start = addr - addr % count
        if (
            vma.start <= start
            and start + count <= vma.end
            and not any(a in mm.ptes for a in range(start, start + count) if a != addr)
        ):
            return range(start, start + count)
    return range(0)


def _new_huge(memory: Memory, mm: Mm, vma: Vma, addresses: range, addr: int) -> Page:
    """All its pages are there at once, filled with zeros."""
    compound = Compound()
    for address in addresses:
        compound.add(memory.new_page(memory.pte(mm, address), vma, 0))
    page = mm.ptes[addr].page
    assert page is not None
    return page


def _shared_page(memory: Memory, pte: Pte, vma: Vma) -> Page:
    """The page of a shared mapping: no anonymous memory, so it has no anon_vma and is never copied."""
    if pte.page is None:
        page = Page(0, pte.mm.memcg, vma.flags.node)
        page.file = True
        memory.map(pte, page)
    assert pte.page is not None
    return pte.page


def wp_fault(memory: Memory, pte: Pte, vma: Vma) -> Page:
    """do_wp_page: write to a present, write-protected pte; most kernels never use a KSM page again."""
    page = pte.page
    assert page is not None
    if page.ksm and not _takes_ksm(memory, page, vma.index_of(pte.addr)):
        memory.cow_ksm += 1
        return _copy(memory, pte, vma)
    if page.exclusive or _sole_user(memory, page):
        page.anon_vma, page.exclusive = _own_anon_vma(memory, pte, vma), True  # page_move_anon_rmap
        # A reference from another CPU's pagevec makes it a copy instead: the frame is not to be relied upon.
        page.pfn = None
        pte.dirty = pte.young = True
        memory.stamp(pte)
        return page
    return _copy(memory, pte, vma)


def _takes_ksm(memory: Memory, page: Page, index: int) -> bool:
    """reuse_ksm_page: a KSM page with nobody else's reference becomes an ordinary one, and its stable node stale."""
    alone = page.mapcount == 1 and not page.extra_refs and page.entry is None
    if not memory.semantics.wp_reuses_ksm or not alone or page.node is None:
        return False
    page.ksm, page.node, page.index = False, None, index
    return True


def _own_anon_vma(memory: Memory, pte: Pte, vma: Vma) -> AnonVma:
    """The vma's own anon_vma."""
    return pte.mm.prepare_anon_vma(memory.anon_vmas, vma)


def _sole_user(memory: Memory, page: Page) -> bool:
    """Is our mapping the page's only reference, once its swap slot is given back?"""
    if page.mapcount != 1 or page.compound is not None:  # "not reuse subpages"
        return False
    if page.extra_refs and not memory.semantics.wp_counts_users:
        return False
    if page.entry is None:
        return True
    if page.entry.ptes or not (memory.semantics.swap_ptes_keep_exclusive or memory.semantics.wp_counts_users):
        return False
    memory.uncache(page)
    return True


def _copy(memory: Memory, pte: Pte, vma: Vma) -> Page:
    """wp_page_copy."""
    old = pte.page
    assert old is not None
    memory.unmap(pte, keep_cached=not memory.semantics.cow_frees_swap_cache)
    page = memory.new_page(pte, vma, old.content)
    page.copied = old.pfn if old.ksm and not old.moves else None
    return page


def swap_in(memory: Memory, pte: Pte, vma: Vma, *, write: bool) -> None:
    """do_swap_page up to the point where a write fault goes on in do_wp_page."""
    entry = pte.entry
    assert entry is not None
    if memory.setup.swap_is_synchronous and entry.cached is None and len(entry.ptes) == 1:
        _read_alone(memory, pte, entry, vma)
        return
    swapcache = entry.cached or _read_swap(entry, vma, readahead=memory.setup.swap_readahead)
    if entry.unsure:
        memory.doubt("a page came back from swap whose old KSM page may still have been in the swap cache")
    page = _might_need_to_copy(memory, swapcache, pte, vma)
    exclusive = pte.swp_exclusive and not page.ksm
    entry.ptes.discard(pte)
    pte.entry = None
    pte.swp_exclusive = False
    if page is not swapcache:
        page.exclusive = True
        memory.map(pte, page)
        _note_orphan(memory, swapcache)
        return
    if not entry.ptes and _try_to_free_swap(page, vma, write):
        memory.uncache(page)
        exclusive = exclusive or not (page.ksm or page.ptes or page.extra_refs)
    if page.anon_vma is None and not page.ksm:  # __page_set_anon_rmap: the oldest one possible if it is shared
        own = pte.mm.prepare_anon_vma(memory.anon_vmas, vma)
        page.anon_vma = own if exclusive else own.root
        page.index = vma.index_of(pte.addr)
    page.exclusive = page.exclusive or exclusive
    pte.dirty = write and exclusive
    memory.map(pte, page)


def _read_swap(entry: SwapEntry, vma: Vma, *, readahead: bool) -> Page:
    """read_swap_cache_async: the page is plain whatever it was before ("PageKSM() is lost on actual swapout").

    With readahead it may have come with another one, for whom there was a place on that one's node.
    """
    page = Page(entry.content, entry.memcg, None if readahead else vma.flags.node)
    page.entry = entry
    entry.cached = page
    page.unsure = entry.unsure
    return page


def _read_alone(memory: Memory, pte: Pte, entry: SwapEntry, vma: Vma) -> None:
    """Without the swap cache: "a fresh page that is not exposed to the swapcache -> certainly exclusive"."""
    page = Page(entry.content, entry.memcg, vma.flags.node)
    page.unsure = entry.unsure
    page.anon_vma, page.index = pte.mm.prepare_anon_vma(memory.anon_vmas, vma), vma.index_of(pte.addr)
    page.exclusive = True
    page.by, page.when = memory.op, memory.tick
    entry.ptes.discard(pte)
    pte.entry, pte.swp_exclusive = None, False
    memory.map(pte, page)


def _needs_copy(memory: Memory, page: Page, pte: Pte, vma: Vma) -> bool:
    """ksm_might_need_to_copy: may another anon_vma's page, or a KSM page that is none any more, not be mapped here?"""
    if page.ksm:
        return page.node is None or (memory.unmerging and memory.semantics.unmerging_empties_tree)
    own = pte.mm.prepare_anon_vma(memory.anon_vmas, vma)
    if page.anon_vma is None:
        return False
    mine = page.anon_vma.root is own.root if memory.semantics.swap_cache_by_root else page.anon_vma is own
    return not mine or page.index != vma.index_of(pte.addr)


def _might_need_to_copy(memory: Memory, page: Page, pte: Pte, vma: Vma) -> Page:
    """ksm_might_need_to_copy: the page itself, or a copy that belongs to the vma's anon_vma alone."""
    own = pte.mm.prepare_anon_vma(memory.anon_vmas, vma)
    if not _needs_copy(memory, page, pte, vma):
        if page.when == 0 and not page.ksm:
            page.by, page.when = memory.op, memory.tick
        return page
    memory.ksm_swpin_copy += 1
    copy = Page(page.content, pte.mm.memcg, vma.flags.node)
    copy.anon_vma, copy.index = own, vma.index_of(pte.addr)
    copy.by, copy.when = memory.op, memory.tick
    return copy


def needs_page(memory: Memory, mm: Mm, addr: int) -> bool:
    """A read access takes a page of its own: what is swapped is read, or copied from the swap cache."""
    pte = mm.ptes.get(addr)
    if pte is None or pte.entry is None:
        return False
    return pte.entry.cached is None or _needs_copy(memory, pte.entry.cached, pte, vma_of(mm, addr))


def _note_orphan(memory: Memory, page: Page) -> None:
    """The swap cache keeps a page though neither a pte nor a swap pte leads to it, until reclaim comes by."""
    if not page.ptes:
        memory.unmapped.add(page)


def _try_to_free_swap(page: Page, vma: Vma, write: bool) -> bool:
    """should_try_to_free_swap; that swap gets full is left out."""
    if vma.flags.locked:
        return True
    return write and not page.ksm and not page.ptes and not page.extra_refs


def zap_range(memory: Memory, mm: Mm, start: int, end: int) -> None:
    """unmap_vmas: all ptes of a range become none."""
    for pte in list(mm.ptes_in(start, end)) if end - start < len(mm.ptes) else _ptes_between(mm, start, end):
        memory.zap(pte)


def _ptes_between(mm: Mm, start: int, end: int) -> list[Pte]:
    return sorted((p for a, p in mm.ptes.items() if start <= a < end), key=lambda p: p.addr)

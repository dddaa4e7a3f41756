# SPDX-License-Identifier: GPL-2.0-or-later
"""The two walks over all ptes that may map a page: for references and for unmapping (mm/ksm.c: rmap_walk_ksm, mm/rmap.c)."""

from __future__ import annotations

from collections.abc import Iterator

from harness.oracle.address_space import Vma
from harness.oracle.memory import Memory, Page, Pte


def walk(page: Page) -> Iterator[tuple[Vma, Pte]]:
    """Every pte that a walk finds mapping the page, in its order, with the vma it lies in.

    This is reach(node) of invariant I5: what is mapped elsewhere stays mapped, on a correct kernel too.
    """
    return _walk_ksm(page) if page.ksm else _walk_anon(page)


def _walk_anon(page: Page) -> Iterator[tuple[Vma, Pte]]:
    """rmap_walk_anon: the vmas of the page's anon_vma that cover its index."""
    if page.anon_vma is None:
        return
    for vma in list(page.anon_vma.vmas):
        if vma.start <= page.index < vma.end:
            pte = vma.mm.ptes.get(page.index)
            if pte is not None and pte.page is page:
                yield vma, pte


def _walk_ksm(page: Page) -> Iterator[tuple[Vma, Pte]]:
    """rmap_walk_ksm: first the vmas of each item's own mm, then those of other mms (search_new_forks)."""
    if page.node is None:
        return
    for search_new_forks in (False, True):
        for item in page.node.walk_order():
            addr = item.addr
            assert item.anon_vma is not None
            for vma in list(item.anon_vma.vmas):
                if not vma.start <= addr < vma.end or (item.mm is vma.mm) == search_new_forks:
                    continue
                pte = vma.mm.ptes.get(addr)
                if pte is not None and pte.page is page:
                    yield vma, pte


def reachable(page: Page) -> set[Pte]:
    """The ptes of the page that a walk finds."""
    return {pte for _, pte in walk(page)}


def locked(page: Page) -> bool:
    """A VM_LOCKED vma maps the page."""
    for pte in page.ptes:
        if pte.mm.ever_locked:
            vma = pte.mm.vma_at(pte.addr)
            if vma is not None and vma.flags.locked:
                return True
    return False


def referenced_meets_lock(page: Page, memcg: str) -> bool:
    """The walk for references (folio_referenced_one) meets a VM_LOCKED vma; it leaves out the vmas of other memcgs."""
    return any(vma.flags.locked for vma, _ in walk(page) if vma.mm.memcg == memcg)


def undecided(memory: Memory, page: Page, memcg: str) -> bool:
    """PG_mlocked may have been lost ("might undercount"), and no walk for references would restore it."""
    return memory.semantics.mlock_marks_ksm and page.mlock_unsure and locked(page) and not referenced_meets_lock(page, memcg)


def to_unmap(memory: Memory, page: Page) -> list[Pte]:
    """The ptes which reclaim takes the page out of (mm/vmscan.c: shrink_folio_list), in the walk's order.

    A page that is mlocked is not on a list that reclaim looks at, and should PG_mlocked be missing, the walk for
    references restores it when it meets a VM_LOCKED vma.  Before 5.18 that walk let reclaim go on, and the one that
    unmaps stopped at the VM_LOCKED vma, with what came before it unmapped.
    """
    if memory.semantics.mlock_marks_ksm or not page.ksm:
        return [] if locked(page) else [pte for _, pte in walk(page)]
    ptes = []
    for vma, pte in walk(page):
        if vma.flags.locked:
            break
        ptes.append(pte)
    return ptes

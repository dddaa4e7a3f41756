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
    for vma, addr in visits(page):
        pte = vma.mm.ptes.get(addr)
        if pte is not None and pte.page is page:
            yield vma, pte


def visits(page: Page) -> Iterator[tuple[Vma, int]]:
    """Every vma and address at which a walk calls rmap_one, whether the page is mapped there or not."""
    return _visit_ksm(page) if page.ksm else _visit_anon(page)


def _visit_anon(page: Page) -> Iterator[tuple[Vma, int]]:
    """rmap_walk_anon: the vmas of the page's anon_vma that cover its index."""
    if page.anon_vma is None:
        return
    for vma in list(page.anon_vma.vmas):
        addr = vma.start + page.index - vma.pgoff  # vma_address
        if vma.start <= addr < vma.end:
            yield vma, addr


def _visit_ksm(page: Page) -> Iterator[tuple[Vma, int]]:
    """rmap_walk_ksm: first the vmas of each item's own mm, then those of other mms (search_new_forks)."""
    if page.node is None:
        return
    for search_new_forks in (False, True):
        for item in page.node.walk_order():
            addr = item.addr
            assert item.anon_vma is not None
            for vma in list(item.anon_vma.vmas):
                if vma.start <= addr < vma.end and (item.mm is vma.mm) != search_new_forks:
                    yield vma, addr


def reachable(page: Page) -> set[Pte]:
    """The ptes of the page that a walk finds."""
    return {pte for _, pte in walk(page)}


def locked(page: Page) -> bool:
    """A VM_LOCKED vma maps the page."""
    return any(pte.locked for pte in page.ptes)


def referenced_meets_lock(page: Page, memcg: str | None) -> bool:
    """The walk for references (folio_referenced_one) meets a VM_LOCKED vma; it leaves out the vmas of other memcgs."""
    return any(vma.flags.locked for vma, _ in walk(page) if memcg in (None, vma.mm.memcg))


def undecided(memory: Memory, page: Page, memcg: str) -> bool:
    """Whether PG_mlocked was lost ("might undercount") cannot be told, and no walk for references would restore it."""
    return memory.semantics.mlock_marks_ksm and page.mlock.unsure and locked(page) and not referenced_meets_lock(page, memcg)


def stopped_by_lock(memory: Memory, page: Page, memcg: str) -> bool:
    """A lock that PG_mlocked tells nothing of is met by the walk that unmaps first, as the one for references filters.

    Before 5.18 it may be so of a page whose mark is in doubt, as the walk for references does not restore it
    (mm/vmscan.c: page_check_references has a page reclaimed of which a VM_LOCKED vma was met).
    """
    if not memory.semantics.mlock_marks_ksm:
        return page.mlock.unsure and locked(page)
    return not page.mlock.marked and locked(page) and not referenced_meets_lock(page, memcg)


def to_unmap(memory: Memory, page: Page, memcg: str | None) -> list[Pte]:
    """The ptes which reclaim takes the page out of (mm/vmscan.c: shrink_folio_list), in the walk's order.

    A page that is mlocked is not on a list that reclaim looks at.  Should PG_mlocked be missing, the walk for
    references restores it when it meets a VM_LOCKED vma of the memcg that reclaim is for; else the walk that unmaps,
    which knows of no memcg, stops at the VM_LOCKED vma, with what came before it unmapped.  Before 5.18 it always did,
    of a KSM page that was locked before it had PG_mlocked: by a merge into it, or as a migration that failed had marked it.
    """
    if memory.semantics.mlock_marks_ksm or not page.ksm:
        marked = page.mlock.marked or not memory.semantics.mlock_marks_ksm
        if locked(page) and (marked or page.mlock.unsure or referenced_meets_lock(page, memcg)):
            return []
    elif page.mlock.marked and not page.mlock.unsure and locked(page):
        return []
    ptes = []
    for vma, pte in walk(page):
        if vma.flags.locked:
            break
        ptes.append(pte)
    return ptes

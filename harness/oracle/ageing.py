# SPDX-License-Identifier: GPL-2.0-or-later
"""Ageing: the walks that look for references, on behalf of reclaim and of idle page tracking."""

from __future__ import annotations

from dataclasses import dataclass

from harness.oracle import rmap
from harness.oracle.address_space import Mm
from harness.oracle.memory import Page, Pte
from harness.oracle.model import Model


@dataclass(frozen=True)
class Look:
    """What a walk for references finds: ``count`` as folio_referenced returns it, None if a TLB has a say in it."""

    count: int | None
    everywhere: int | None  # the same, if references of all memcgs counted
    seen: tuple[Pte, ...]  # the ptes that it makes old
    locked: bool  # it ends at a VM_LOCKED vma


def look(page: Page, memcg: str) -> Look:
    """folio_referenced on behalf of a memcg (mm/rmap.c: folio_referenced_one, invalid_folio_referenced_vma)."""
    count, seen, locked = _count(page, memcg)
    return Look(count, _count(page, None)[0], tuple(seen), locked)


def _count(page: Page, memcg: str | None) -> tuple[int | None, list[Pte], bool]:
    """The references, the ptes passed, and whether a VM_LOCKED vma ended it."""
    count, left, tracked = 0, page.mapcount, page.young
    sure = page.young is not None
    seen: list[Pte] = []
    for vma, addr in rmap.visits(page):
        if memcg not in (None, vma.mm.memcg):
            continue
        referenced = False
        pte = vma.mm.ptes.get(addr)
        if pte is not None and pte.page is page:
            if vma.flags.locked:
                return (count if sure else None), seen, True
            sure = sure and pte.young is not None
            referenced = bool(pte.young) and pte not in seen  # met again, by another item's anon_vma, it is old
            seen.append(pte)
            left -= 1
        if tracked:  # folio_test_clear_young: idle page tracking took a reference, which counts as the first vma's
            referenced, tracked = True, False
        count += referenced
        if not left:
            break
    return (count if sure else None), seen, False


def make_old(page: Page, walked: Look) -> None:
    """The walk has been made: a young pte ends idleness, what idle page tracking took before does not."""
    young = {pte.young for pte in walked.seen}
    if True in young:
        page.idle = False
    elif None in young:
        page.idle = page.idle and None
    for pte in walked.seen:
        pte.young = False
    if walked.seen or not walked.locked:
        page.young = False


# Operations.


def clear_refs(mm: Mm) -> None:
    """1 written to /proc/PID/clear_refs (fs/proc/task_mmu.c: clear_refs_pte_range)."""
    for pte in mm.ptes.values():
        pte.young = False
        if pte.page is not None:
            pte.page.young = pte.page.referenced = False


def touch(model: Model, mm: Mm, start: int, end: int) -> None:
    """A read that no TLB answers."""
    model.read(mm, start, end)
    for pte in mm.ptes_in(start, end):
        pte.young = True


def putback(mm: Mm, start: int, end: int) -> None:
    """Soft offlining failed on pages that are pinned: all that remains is a lock's lost count, and doubt about young bits."""
    for page in _pages(mm, start, end):
        page.referenced = None
        walked = list(rmap.walk(page))
        for _, pte in walked:
            pte.young = None
        page.mlock.put_back(locked=page.mlock.marked or any(vma.flags.locked for vma, _ in walked))


def idle_set(mm: Mm, start: int, end: int) -> None:
    """A bit written to page_idle/bitmap (mm/page_idle.c: page_idle_bitmap_write)."""
    for page in _pages(mm, start, end):
        take_references(page)
        page.idle = True


def _pages(mm: Mm, start: int, end: int) -> list[Page]:
    return list(dict.fromkeys(pte.page for pte in mm.ptes_in(start, end) if pte.page is not None))


def take_references(page: Page) -> None:
    """page_idle_clear_pte_refs: what was young is so no more, and the page remembers."""
    for _, pte in rmap.walk(page):
        if pte.young is not False:
            page.idle = False
            page.young = pte.young or page.young or None
            pte.young = False

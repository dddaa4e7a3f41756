# SPDX-License-Identifier: GPL-2.0-or-later
"""Mappings that move, grow, shrink and are replaced (mm/mremap.c, mm/mmap.c)."""

from __future__ import annotations

from dataclasses import replace

from harness.oracle import anon_vma
from harness.oracle.address_space import Area, Mm, Vma
from harness.oracle.model import MAX_PAGES, Model
from harness.oracle.records import Fields, JournalContradiction


def move(model: Model, mm: Mm, start: int, end: int, to: int, *, stays: bool = False) -> None:
    """mremap_to, move_vma: what is at the new place goes; KSM ptes are broken; items stay at the old addresses.

    ``stays``: with MREMAP_DONTUNMAP the old vma is as it was before its first page came (unlink_anon_vmas), and not locked.
    """
    length = end - start
    if to < end and start < to + length:
        raise JournalContradiction(f"{mm.name} moves pages {start:x}..{end:x} onto themselves, to {to:x}")
    model.munmap(mm, to, to + length)
    old = mm.vma_at(start)
    if old is None or end > old.end:
        raise JournalContradiction(f"{mm.name} moves pages {start:x}..{end:x}, which no vma holds")
    if old.flags.mergeable and old.anon_vma is not None:
        model.ksmd.break_ksm(old, start, end)
    # copy_vma: a vma that has pages keeps their index, which then is no longer linear in the address.
    new = Vma(mm, to, to + length, old.flags, old.index_of(start) if old.anon_vma is not None else to)
    new.anon_vma = old.anon_vma
    anon_vma.clone(new, old)
    mm.link(new)
    for pte in list(mm.ptes_in(start, end)):  # move_ptes
        del mm.ptes[pte.addr]
        pte.addr += to - start
        mm.ptes[pte.addr] = pte
        model.memory.stamp(pte)
    flags = old.flags
    for vma in mm.isolate(start, end):
        mm.remove(vma)
    if stays:
        mm.insert(start, length).flags = replace(flags, locked=False, onfault=False)
    mm.merge_around(to, to + length)


def resize(model: Model, mm: Mm, area: str, npages: int) -> None:
    """mremap without MREMAP_MAYMOVE: what is cut off is unmapped, what is added belongs to the last vma."""
    where = mm.areas[area]
    end = where.start + where.npages
    if not 1 <= npages <= MAX_PAGES:
        raise JournalContradiction(f"{mm.name}.{area} has {npages} pages")
    if npages < where.npages:
        model.munmap(mm, where.start + npages, end)
    elif npages > where.npages:
        last = mm.vma_at(where.start)
        if last is None or last.end != end or mm.vmas_in(end, where.start + npages):
            raise JournalContradiction(f"{mm.name}.{area} grows to {npages} pages, for which there is no room")
        last.end = where.start + npages
        mm.merge_around(where.start, last.end)
    mm.areas[area] = Area(where.start, npages)


def renew(model: Model, mm: Mm, start: int, end: int) -> None:
    """mmap with MAP_FIXED: fresh memory, whose vma may merge with its neighbours."""
    model.munmap(mm, start, end)
    mm.insert(start, end - start)
    mm.merge_around(start, end)


def apply_move(model: Model, op: Fields) -> None:
    """The journal's ``mremap``."""
    mm = model.actor(op.text("actor"))
    start, end = model.span(mm, op.text("area"), op.number("first", 0), op.number("count", 1))
    target, to = op.text("to"), page_number(op, "addr")
    known = mm.areas.get(target)
    if known is not None and (known.start != to or known.npages < end - start):
        raise op.fail(f"{mm.name}.{target} is not at {to:x}, or too small")
    stays = bool(op.data.get("stays"))
    old = mm.vma_at(start)
    if stays and (old is None or (old.start, old.end) != (start, end)):
        raise op.fail(f"{mm.name} moves a part of a vma, which stays")
    move(model, mm, start, end, to, stays=stays)
    if known is None:
        mm.areas[target] = Area(to, end - start)


def apply_resize(model: Model, op: Fields) -> None:
    """The journal's ``resize``."""
    mm = model.actor(op.text("actor"))
    model.span(mm, op.text("area"), 0, 0)
    resize(model, mm, op.text("area"), op.number("bytes", 1) // page_size(op))


def page_size(op: Fields) -> int:
    """Bytes, put among the operation's fields by the oracle."""
    size = op.data.get("page_size")
    assert isinstance(size, int)
    return size


def page_number(op: Fields, key: str) -> int:
    """An address of whole pages, in pages."""
    try:
        address = int(op.text(key), 16)
    except ValueError as e:
        raise op.fail(f"no address: {op.text(key)!r}") from e
    if address % page_size(op):
        raise op.fail(f"pages at {address:#x} are not whole pages of {page_size(op)}")
    return address // page_size(op)

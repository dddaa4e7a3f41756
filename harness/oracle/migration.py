# SPDX-License-Identifier: GPL-2.0-or-later
"""Migration: soft offline and move_pages move a page of which every pte can be found, and leave any other as it was.

A page that was moved is the same page for the model, in another frame: mm/migrate.c gives the new folio the old one's
mapping, folio_migrate_ksm (mm/ksm.c) the stable node the new frame's number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.findings import Tier
from harness.oracle import faults, rmap
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference, pages, who
from harness.oracle.memory import Memory, Page, Pte
from harness.oracle.model import Model
from harness.oracle.operations import pages_of
from harness.oracle.poison import UNTOLD
from harness.oracle.reclaimed import has_item, places_of
from harness.oracle.records import Fields


def movable(memory: Memory, page: Page) -> bool:
    """Migration must succeed: try_to_migrate finds every pte, and nobody else holds a reference (folio_migrate_mapping)."""
    if page.ksm and not memory.semantics.migrates_ksm:
        return False
    return not page.extra_refs and rmap.reachable(page) == page.ptes


def moved(memory: Memory, page: Page) -> None:
    """The page is in another frame now."""
    page.moves += 1
    for pte in page.ptes:
        pte.young = pte.young and None  # remove_migration_pte: old, unless the migration entry could remember better
    if rmap.locked(page) and not memory.semantics.mlock_marks_ksm:
        page.mlock.put_back(locked=True)  # remove_migration_pte, mlock_vma_page: of pages that were not marked, too
    elif rmap.locked(page):
        page.mlock.moved(sum(pte.locked for pte in page.ptes))
    page.by, page.when = memory.op, memory.tick
    memory.migrations += 1


@dataclass
class _Wrong:
    """Ptes of pages that did not do as they must, by how."""

    stayed: dict[Pte, Page] = field(default_factory=dict)
    moved: dict[Pte, Page] = field(default_factory=dict)
    in_use: dict[Pte, Page] = field(default_factory=dict)  # their old frame is not out of use
    spoilt: dict[Pte, Page] = field(default_factory=dict)  # their frame is, though it was not left
    error: str = ""

    def put(self, where: dict[Pte, Page], page: Page, error: str = "") -> None:
        """All mappers of the page."""
        where.update(dict.fromkeys(page.ptes, page))
        self.error = self.error or error


def judge_offline(ret: Fields) -> Iterator[Difference]:
    """A page of the block is pinned, and ksmd was poked while it was on its way offline."""
    if not ret.text("error"):
        yield Difference(
            kind="pinned-moved", op="offline", tier=Tier.SAFETY, prop="P19",
            summary="a memory block went offline though a page of it is pinned", expected="EINTR, when it is given up",
            seen="success", why="a page with a reference too many cannot be migrated (folio_migrate_mapping)",
        )  # fmt: skip
    if not ret.flag("waited"):
        yield Difference(
            kind="trees-in-use", op="offline", tier=Tier.SAFETY, prop="P19",
            summary="ksmd scanned while memory was on its way offline", expected="it waits until that is done or given up",
            seen="a full scan",
            why="the pages of the stable tree are moved meanwhile (mm/ksm.c: ksm_memory_callback, wait_while_offlining)",
        )  # fmt: skip


def soft_offline(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """mm/memory-failure.c: soft_offline_page, page by page in ascending order."""
    mm, start, end = pages_of(model, op)
    wrong = _Wrong()
    for addr, (error, poisoned) in zip(range(start, end), _outcomes(ret, end - start), strict=True):
        if op.text("via") == "madvise":  # get_user_pages_fast
            faults.read(model.memory, mm, addr)
        pte = mm.ptes.get(addr)
        page = pte.page if pte is not None else None
        if page is None or page.poisoned:
            continue
        page.referenced = None  # get_user_pages_fast
        expected = movable(model.memory, page)
        if op.text("via") == "madvise" and not (model.semantics.madvise_tells_offline or poisoned):
            error = error or UNTOLD
        if not page.unsure:
            if error and expected:
                wrong.put(wrong.stayed, page, error)
            elif not error and not expected:
                wrong.put(wrong.moved, page)
            elif not error and not poisoned:
                wrong.put(wrong.in_use, page)
            if error and poisoned:
                wrong.put(wrong.spoilt, page, error)
        if not error:
            moved(model.memory, page)
        elif rmap.locked(page):
            page.mlock.put_back(locked=True)
    return list(_differences("soft_offline", wrong))


def _outcomes(ret: Fields, npages: int) -> list[tuple[str, bool]]:
    """Decode ``outcomes``: error and whether the old frame is out of use, per page."""
    found: list[tuple[str, bool]] = []
    for raw in ret.items("outcomes"):
        if not isinstance(raw, list) or len(raw) != 3 or not isinstance(raw[1], str) or not isinstance(raw[2], bool):
            raise ret.fail(f"no run of outcomes: {raw!r}")
        found.extend([(raw[1], raw[2])] * min(ret.whole(raw[0], "outcomes", 1), npages + 1))
    if len(found) != npages:
        raise ret.fail(f"outcomes of {len(found)} pages, of which there are {npages}")
    return found


def move_pages(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """mm/migrate.c: do_pages_move.  Without MPOL_MF_MOVE_ALL a page that is mapped more than once stays."""
    mm, start, end = pages_of(model, op)
    target, everything = op.number("node", 0), op.flag("all")
    wrong = _Wrong(error=ret.text("error"))
    seen: set[Page] = set()
    before, after = (_nodes(ret, key, end - start) for key in ("before", "after"))
    for addr, was, is_ in zip(range(start, end), before, after, strict=True):
        pte = mm.ptes.get(addr)
        page = pte.page if pte is not None else None
        if page is None or page in seen or was < 0:
            continue
        seen.add(page)
        expected = was != target and movable(model.memory, page) and (everything or page.mapcount == 1)
        if not page.unsure:
            if expected and is_ != target:
                wrong.put(wrong.stayed, page)
            elif not expected and is_ != was:
                wrong.put(wrong.moved, page)
        if is_ != was:
            moved(model.memory, page)
            page.nid = is_
    return list(_differences("move_pages", wrong))


def _nodes(ret: Fields, key: str, npages: int) -> list[int]:
    """Decode the node of each page, -1 where there is none."""
    found: list[int] = []
    for raw in ret.items(key):
        if not isinstance(raw, list) or len(raw) != 2:
            raise ret.fail(f"no run of nodes: {raw!r}")
        found.extend([ret.whole(raw[1], key, -1)] * min(ret.whole(raw[0], key, 1), npages + 1))
    if len(found) != npages:
        raise ret.fail(f"{key!r} has {len(found)} pages, of which there are {npages}")
    return found


def _differences(op: str, wrong: _Wrong) -> Iterator[Difference]:
    if wrong.stayed:
        yield _stayed(op, wrong.stayed, wrong.error)
    if wrong.moved:
        yield _moved(op, wrong.moved)
    if wrong.in_use:
        yield _difference(
            op, "frame-in-use", wrong.in_use, "were moved, but their old frames are not out of use",
            "KPF_HWPOISON on the old frame", "no such flag",
            "soft_offline_page takes the frame out of the buddy allocator (page_handle_poison)",
        )  # fmt: skip
    if wrong.spoilt:
        yield _difference(
            op, "frame-spoilt", wrong.spoilt, "could not be moved, but their frames are marked as out of use",
            "no KPF_HWPOISON on a frame that is in use", f"KPF_HWPOISON, after {wrong.error}",
            "soft_offline_page marks a frame only when its page has been migrated",
        )  # fmt: skip


def _stayed(op: str, ptes: dict[Pte, Page], error: str) -> Difference:
    forks = [p for p, page in ptes.items() if page.ksm and not has_item(p, page)]
    summary = "could not be moved though all their ptes can be found"
    if forks:
        summary += f"; {who(_mms(forks))} has ptes which fork copied before ksmd met them"
    return _difference(
        op, "not-migrated", ptes, summary, "every page in another frame", f"{error or 'no error'}, and the page stayed",
        "try_to_migrate walks all ptes, those of new forks too (rmap_walk_ksm: search_new_forks), and none is pinned",
        tier=Tier.SAFETY,
    )  # fmt: skip


def _moved(op: str, ptes: dict[Pte, Page]) -> Difference:
    pinned = any(page.extra_refs for page in ptes.values())
    return _difference(
        op, "wrongly-migrated", ptes, "were moved though " + ("they are pinned" if pinned else "not all their ptes can be found"),
        "the page stays where it is", "it was moved",
        "folio_migrate_mapping refuses a page with a reference that nobody accounts for, and a page that is still mapped",
        tier=Tier.SAFETY if pinned else Tier.HEURISTIC,
    )  # fmt: skip


def _difference(
    op: str, kind: str, ptes: dict[Pte, Page], what: str, expected: str, seen: str, why: str, tier: Tier = Tier.ACCOUNTING
) -> Difference:
    places = places_of(ptes)
    return Difference(
        kind=kind, op=op, prop="P19", tier=tier, places=places, expected=expected, seen=seen, why=why,
        summary=f"{pages(len(set(ptes.values())))} of {who(_mms(list(ptes)))} {what}",
    )  # fmt: skip


def _mms(ptes: list[Pte]) -> list[Mm]:
    return list(dict.fromkeys(p.mm for p in sorted(ptes, key=lambda p: (p.mm.name, p.addr))))

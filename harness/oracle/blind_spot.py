# SPDX-License-Identifier: GPL-2.0-or-later
"""The blind spot of rmap_walk_ksm since 2.6.34, which is no error.

A child's vma is linked in its ancestors' anon_vmas, never the reverse (mm/rmap.c: anon_vma_fork).  When a page that a child
still shares with a parent that ksmd does not scan becomes a KSM page, its rmap_items hold the child's anon_vma, and no
walk leads to the parent's pte: reclaim leaves it mapped, with its bytes.

Another one is with merge_across_nodes=0.  A KSM page with one pte that was moved to a NUMA node whose tree has its content
already is to be merged there, and its rmap_item is removed for that; but write_protect_page refuses KSM pages, so that it is
neither merged nor found by any walk, until the other page is gone (mm/ksm.c: stable_tree_search, cmp_and_merge_page).
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.oracle import rmap
from harness.oracle.judge import pages, who
from harness.oracle.memory import Pte
from harness.oracle.model import Model


def unreachable(model: Model, memcg: str) -> set[Pte]:
    """The ptes of a memcg's KSM pages that no walk leads to, though nothing else keeps them."""
    found: set[Pte] = set()
    for page in model.pages():
        if page.ksm and page.node is not None and page.memcg == memcg and not page.unsure and not rmap.locked(page):
            found |= page.ptes - rmap.reachable(page)
    return found


def remarks(where: str, beyond: set[Pte]) -> Iterator[str]:
    """What to say of such ptes after a reclaim, which the model has taken over."""
    left = sorted((p for p in beyond if p.page is not None and not _waits(p)), key=_place)
    waiting = sorted((p for p in beyond if _waits(p)), key=_place)
    gone = sorted((p for p in beyond if p.entry is not None), key=_place)
    if left:
        yield (
            f"{where}: {_who(left)} kept {pages(len(left), 'KSM')}, as expected: merged through a child, whose anon_vma "
            "does not lead to its parent (anon_vma_fork, since 2.6.34); a known limit, not an error"
        )
    if waiting:
        yield (
            f"{where}: {_who(waiting)} kept {pages(len(waiting), 'KSM')}, as expected: moved to a NUMA node that has their "
            "content already, and not merged there, as write_protect_page refuses KSM pages; no rmap_item leads to them; a known "
            "limit, not an error"
        )
    if gone:
        yield (
            f"{where}: {_who(gone)} lost {pages(len(gone), 'KSM')} to swap that no rmap_item's anon_vma leads to since "
            "2.6.34: this kernel finds parents too; other semantics, not an error"
        )


def _waits(pte: Pte) -> bool:
    """Its page's node is on migrate_nodes."""
    return pte.page is not None and pte.page.node is not None and pte.page.node.set_aside


def _who(ptes: list[Pte]) -> str:
    return who(list(dict.fromkeys(p.mm for p in ptes)))


def _place(pte: Pte) -> tuple[str, int]:
    return pte.mm.name, pte.addr

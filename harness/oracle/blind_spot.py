# SPDX-License-Identifier: GPL-2.0-or-later
"""The blind spot of rmap_walk_ksm since 2.6.34, which is no error.

A child's vma is linked in its ancestors' anon_vmas, never the reverse (mm/rmap.c: anon_vma_fork).  When a page that a child
still shares with a parent that ksmd does not scan becomes a KSM page, its rmap_items hold the child's anon_vma, and no
walk leads to the parent's pte: reclaim leaves it mapped, with its bytes.
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
    left = sorted((p for p in beyond if p.page is not None), key=_place)
    gone = sorted((p for p in beyond if p.entry is not None), key=_place)
    if left:
        yield (
            f"{where}: {_who(left)} kept {pages(len(left), 'KSM')}, as expected: merged through a child, whose anon_vma "
            "does not lead to its parent (anon_vma_fork, since 2.6.34); a known limit, not an error"
        )
    if gone:
        yield (
            f"{where}: {_who(gone)} lost {pages(len(gone), 'KSM')} to swap that no rmap_item's anon_vma leads to since "
            "2.6.34: this kernel finds parents too; other semantics, not an error"
        )


def _who(ptes: list[Pte]) -> str:
    return who(list(dict.fromkeys(p.mm for p in ptes)))


def _place(pte: Pte) -> tuple[str, int]:
    return pte.mm.name, pte.addr

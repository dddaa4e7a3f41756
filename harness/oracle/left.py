# SPDX-License-Identifier: GPL-2.0-or-later
"""Page frames that processes had, that nobody maps any more, and that were not freed: somebody keeps a reference.

The guest counts them at each observation (workloads/lib/left.c).  CPUs hold pages back in their pagevecs, until ksmd
begins a full scan (mm/ksm.c: scan_get_next_rmap_item, lru_add_drain_all).
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.findings import Tier
from harness.oracle.judge import Difference, pages
from harness.oracle.model import Model
from harness.oracle.records import Fields, decimal

_HARMLESS = frozenset({"smaps", "strange", "vvar", "set"})  # neither frees pages nor takes references


class Left:
    """Follows the operations, and judges the count where it is exact."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._drained = False
        self._told = 0

    def did(self, op: str) -> None:
        """An operation that may have left pages in pagevecs, unless it is a scan: ``scanned`` follows then."""
        self._drained = self._drained and op in _HARMLESS

    def scanned(self, *, begun: int, failed: int) -> None:
        """ksmd has begun so many full scans; of merges that failed the KSM page may be in a pagevec (mark_page_accessed)."""
        self._drained = begun > 0 and not failed

    def judge(self, obs: Fields) -> Iterator[Difference]:
        """More frames are left than the pages that a pipe holds."""
        count = decimal(obs.data.get("left"))
        if count is None or not self._drained:
            return
        pinned = sum(1 for page in self._model.memory.unmapped if page.extra_refs)
        if count > max(self._told, pinned):
            self._told = count
            yield Difference(
                kind="page-leak", op="scan", tier=Tier.SAFETY, prop="P6",
                summary=f"not freed, though nobody maps them any more: {pages(count - pinned)}",
                expected=f"{pages(pinned)} that a pipe holds" if pinned else "free, or another page's",
                seen="anonymous pages outside the swap cache, without a mapping",
                why="whoever took a reference to a page gives it back (put_page), and the last one frees the page",
            )  # fmt: skip

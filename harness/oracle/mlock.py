# SPDX-License-Identifier: GPL-2.0-or-later
"""PG_mlocked, and the count that says how long it stays (mm/mlock.c since 5.18)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Mlock:
    """One page's.  ``low`` and ``high`` bound page->mlock_count, where the state of pagevecs decides whether a lock counts."""

    marked: bool = False  # PG_mlocked, and the page is on no list that reclaim looks at
    low: int = 0
    high: int = 0
    unsure: bool = False  # whether it is marked cannot be told
    missed: bool = False  # the mark went while a VM_LOCKED vma mapped the page ("might undercount")
    waiting: bool = False  # it was put back, and a pagevec may have it yet

    def lock(self, *, on_lru: bool = True) -> None:
        """mlock_folio, __mlock_page: a page that is off the LRU just then is marked, but not counted."""
        self.low += on_lru
        self.high += 1
        self.marked, self.unsure = True, False

    def unlock(self, *, others: bool, counted: bool = True) -> None:
        """__munlock_page: the mark goes with the last lock that is counted.  ``others``: VM_LOCKED vmas map the page yet.

        Before 5.18 nothing is counted: the mark goes, and a walk over all mappers (mm/mlock.c: __munlock_isolated_page,
        mm/rmap.c: try_to_munlock) sets it again if it meets a VM_LOCKED vma.  For that the page must be isolated, which one
        that waits in a pagevec cannot be (__munlock_isolation_failed): its mark is lost.
        """
        if not counted:
            self.marked = self.marked and others
            self.unsure = self.marked and (self.unsure or self.waiting)
            return
        stays, goes = self.low > 1, self.high <= 1
        self.low, self.high = max(0, self.low - 1), max(0, self.high - 1)
        if stays:
            return
        if goes:
            self.marked = self.unsure = False
            self.low = self.high = 0
        else:
            self.unsure = True
        self.missed = others

    def put_back(self, *, locked: bool) -> None:
        """Isolated and put back after a failed migration.

        try_to_migrate takes the ptes away and remove_migration_ptes gives them back, which sets the mark anew while the
        page is off the LRU; lru_add_fn then starts to count at zero.
        """
        self.marked, self.unsure, self.waiting = locked, False, True
        self.low = self.high = 0

    def moved(self, locks: int) -> None:
        """In another frame now, which so many VM_LOCKED vmas map, and each is counted anew (mm/migrate.c: __unmap_and_move).

        Since 6.3 the new frame is on the LRU by then only if the old one was marked (migrate_folio_move: PAGE_WAS_MLOCKED).
        """
        counted = self.marked and not self.unsure
        self.marked, self.unsure, self.missed = True, False, False
        self.low, self.high = locks if counted else 0, locks

    def restore(self) -> None:
        """folio_referenced_one, try_to_unmap_one: "Restore the mlock which got missed"."""
        self.marked, self.unsure = True, False
        self.low, self.high = 0, 1

    def settle(self, marked: bool) -> None:
        """Whether it is marked could not be told, and is seen now (before 5.18)."""
        self.marked, self.unsure = marked, False

    def observe(self) -> None:
        """PG_mlocked is seen where it was believed to be lost: this kernel counts better."""
        self.marked, self.unsure = True, False
        self.low, self.high = 0, 1 << 20

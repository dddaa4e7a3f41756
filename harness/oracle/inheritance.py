# SPDX-License-Identifier: GPL-2.0-or-later
"""What a child has of its parent's KSM counters after fork, learnt from the first child that shows it.

dup_mm copies the whole mm_struct, and for years ksm_fork (include/linux/ksm.h) left ksm_merging_pages and ksm_rmap_items
as they were.  6.18 sets them to zero, a fix that may come to any stable kernel.  Either is right, but not by turns.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.oracle.address_space import Tally


@dataclass
class Inheritance:
    """Whether fork copies one counter; None: no child has shown it yet."""

    copied: bool | None = None

    def fork(self, child: Tally, parent: Tally) -> None:
        """The child's counter, as it is if fork copies it."""
        if self.copied is not False:
            child.inherited = self.expected(parent)

    def expected(self, tally: Tally) -> int:
        """The counter's value, by what is known so far."""
        return tally.own if self.copied is False else tally.value

    def expect(self, tally: Tally, seen: int) -> int:
        """The value that a process must have; the first one that tells decides for all."""
        if self.copied is None and tally.inherited and seen in (tally.own, tally.value):
            self.copied = seen == tally.value
        return self.expected(tally)

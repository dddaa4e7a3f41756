# SPDX-License-Identifier: GPL-2.0-or-later
"""KSM pages without a stable node, which a correct kernel makes while all act at once: how much they may explain.

ksmd makes a fork's page a KSM page, cannot merge the page that it found equal, and breaks one pte only
(try_to_merge_two_pages, break_cow): the relatives keep a KSM page whose node is NULL.  All its ptes were made by fork, so
they lie at one address of different processes.  page_address_in_vma knows no anon_vma of it, so that its ptes never get into
the stable tree; their items are in the unstable tree (one at most for each content) or in neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from harness.oracle.census import Census, CensusPte
from harness.oracle.population import Process

Bounds = tuple[int, int]


@dataclass(frozen=True)
class Nodeless:
    """``count`` KSM frames have no node, and are among ``candidates`` (frames, and how many ptes of each ksmd comes to)."""

    census: Census
    count: int
    candidates: Mapping[int, int]

    @property
    def contents(self) -> frozenset[int]:
        """Contents of pages that may be without a node."""
        return frozenset(self.census.frames[pfn][0].tag for pfn in self.candidates)

    def frames(self) -> Bounds:
        """How many there are at least and at most, by their count and by where they can be."""
        few = min(self.count, len(self.candidates))
        return few, few

    def items(self) -> Bounds:
        """How many items they may have in all."""
        sizes = sorted(self.candidates.values())
        few = self.frames()[1]
        return sum(sizes[:few]), sum(sizes[len(sizes) - few :])

    def items_of(self, process: Process) -> int:
        """How many of a process's items may be theirs: each has one pte in a process at most."""
        has = sum(any(p.process is process and self.census.scanned(p) for p in self.census.frames[f]) for f in self.candidates)
        return min(has, self.frames()[1])

    def unshared(self, plain: Mapping[int, CensusPte]) -> Bounds:
        """Items in the unstable tree: for a content with such a page one, or none if a node with room is found first."""
        alike = Counter(pte.tag for pte in plain.values())
        touched = sorted(alike[tag] for tag in self.contents)[::-1]
        few = self.frames()[1]
        return len(plain) - sum(touched[:few]), len(plain) + few


def find(census: Census, pages_shared: int | None) -> Nodeless:
    """What the difference between KSM frames and stable nodes amounts to."""
    merged = census.merged_frames()
    count = 0 if pages_shared is None else max(0, len(merged) - pages_shared)
    candidates = {pfn: n for pfn, n in merged.items() if _relatives(census.frames[pfn])} if count else {}
    return Nodeless(census, count, candidates)


def _relatives(ptes: list[CensusPte]) -> bool:
    """Could fork have made them all from one?"""
    return len({pte.address for pte in ptes}) == 1 and len({pte.process.name for pte in ptes}) == len(ptes)

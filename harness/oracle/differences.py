# SPDX-License-Identifier: GPL-2.0-or-later
"""Collects what is wrong with single pages, and words it: pages with one cause become one difference."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.findings import Tier
from harness.oracle import rmap
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference, Places, Since, pages, who
from harness.oracle.memory import Page, Pte
from harness.oracle.model import Model


class Kind(enum.Enum):
    """How a page can be wrong: the finding's kind, and what tells cases of one kind apart."""

    STILL_MAPPED = "still-mapped"
    MAPPED = "wrongly-mapped"
    UNMAPPED = "wrongly-unmapped"
    LOCKED_SWAPPED = "locked-swapped"
    LOST = "lost"
    STILL_KSM = "still-ksm"
    NOT_KSM = "not-ksm"
    SHARED = "leak"  # contents differ
    TOGETHER = "identity/together"
    APART = "identity/apart"
    OTHER_FRAME = "identity/moved"
    SAME_FRAME = "identity/stayed"
    SPECIAL = "entry-left"
    POISONED = "poisoned"
    NOT_POISONED = "not-poisoned"
    MAPCOUNT = "mapcount"
    NOT_LOCKED = "not-locked"
    NOT_RESTORED = "not-locked/missed"
    OFFSET = "swap-offset"
    ZEROS = "zeros"
    NOT_ZEROS = "not-zeros"
    STILL_HUGE = "still-huge"
    NOT_REFERENCED = "not-referenced"
    IN_PLACE = "in-place"

    @property
    def word(self) -> str:
        """The finding's kind."""
        return self.value.partition("/")[0]


# Of each kind: tier, what the processes do, what was expected, what was seen, why.  The order is that of the findings.
_WORDS: dict[Kind, tuple[Tier, str, str, str, str]] = {
    Kind.SPECIAL: (
        Tier.SAFETY, "have neither a page nor a swap entry for", "present or swapped", "a migration or hwpoison entry",
        "remove_migration_ptes walks all ptes that try_to_migrate has replaced, and nothing poisoned these pages",
    ),
    Kind.LOST: (
        Tier.SAFETY, "lost", "present or swapped", "none",
        "nothing but munmap, exec and exit takes a page away",
    ),
    Kind.SHARED: (
        Tier.SAFETY, "share the frame of a page with other contents for", "frames of their own", "the same frame",
        "whoever writes to a merged page gets a copy (do_wp_page), and only identical pages are merged",
    ),
    Kind.STILL_MAPPED: (
        Tier.SAFETY, "have present again", "swapped, as reclaim left them", "present",
        "nobody has touched them since reclaim unmapped them",
    ),
    Kind.LOCKED_SWAPPED: (
        Tier.SAFETY, "have swapped", "present, as a VM_LOCKED vma maps them", "swapped",
        "a mlocked page is unevictable, and try_to_unmap_one stops at VM_LOCKED",
    ),
    Kind.UNMAPPED: (
        Tier.SAFETY, "have swapped", "present", "swapped",
        "nothing was reclaimed that includes them",
    ),
    Kind.MAPPED: (
        Tier.SAFETY, "have mapped or swapped", "none or swapped", "something else",
        "nobody has touched these pages",
    ),
    Kind.STILL_KSM: (
        Tier.ACCOUNTING, "still have as KSM pages", "plain anonymous pages", "KSM pages",
        "a write, an unmerge and a failed merge give every pte a plain page of its own; what was swapped comes back plain",
    ),
    Kind.NOT_KSM: (
        Tier.ACCOUNTING, "have as plain pages", "KSM pages", "plain pages",
        "ksmd has met identical pages that nothing kept from being merged, or nothing has broken this merge",
    ),
    Kind.APART: (
        Tier.ACCOUNTING, "do not share the frame that they must share for", "one frame", "several frames",
        "ptes of one page: merged, duplicated by fork, or brought back from one swap entry by relatives",
    ),
    Kind.TOGETHER: (
        Tier.ACCOUNTING, "share a frame that they must not share for", "frames of their own", "the same frame",
        "what came back from swap is shared by relatives only (ksm_might_need_to_copy), and merged by ksmd only",
    ),
    Kind.OTHER_FRAME: (
        Tier.ACCOUNTING, "have another frame than before for", "the same frame", "another one",
        "nobody wrote to these pages, nothing moved them, and a KSM page stays when items or forks are added",
    ),
    Kind.SAME_FRAME: (
        Tier.ACCOUNTING, "have the same frame as before for", "another frame", "the same one",
        "the page was migrated, and its old frame is out of use or on another node",
    ),
    Kind.IN_PLACE: (
        Tier.ACCOUNTING, "have not copied but changed in place", "a frame of their own", "the frame that was shared",
        "a KSM page is never written: its node is where its bytes sort it to (do_wp_page)",
    ),
    Kind.POISONED: (
        Tier.SAFETY, "map a poisoned frame for", "a frame that is in order", "KPF_HWPOISON set",
        "a page is moved to a new frame before soft offline marks the old one",
    ),
    Kind.NOT_POISONED: (
        Tier.SAFETY, "map, without its mark, the poisoned frame of", "KPF_HWPOISON set", "not set",
        "a page with a memory error that was not handled stays marked",
    ),
    Kind.NOT_LOCKED: (
        Tier.ACCOUNTING, "have locked but not marked mlocked", "PG_mlocked set", "not set",
        "mlock_pte_range marks every present page, and rmap marks those mapped into a VM_LOCKED vma later",
    ),
    Kind.NOT_RESTORED: (
        Tier.ACCOUNTING, "have locked but not marked mlocked again", "PG_mlocked set again", "not set",
        "the walk for references, or the one that unmaps, met the VM_LOCKED vma and must restore the mlock which got missed",
    ),
    Kind.MAPCOUNT: (
        Tier.ACCOUNTING, "see a wrong mapcount of", "as many as there are ptes", "another number",
        "each pte that maps the page counts, with or without an rmap_item",
    ),
    Kind.ZEROS: (
        Tier.SAFETY, "have the page of zeros for", "a page of their own, or a KSM page", "the page of zeros",
        "a page is given up for the page of zeros only if all its bytes are zero (try_to_merge_one_page, use_zero_pages)",
    ),
    Kind.NOT_ZEROS: (
        Tier.ACCOUNTING, "do not have the page of zeros for", "the page of zeros", "another page",
        "with use_zero_pages a page of zeros whose checksum has settled is given up for the page of zeros",
    ),
    Kind.STILL_HUGE: (
        Tier.ACCOUNTING, "still have as parts of a huge page", "ordinary pages", "a huge page",
        "ksmd splits a huge page before it merges one of its parts (try_to_merge_one_page)",
    ),
    Kind.NOT_REFERENCED: (
        Tier.HEURISTIC, "have as KSM pages that are not marked as used", "PG_referenced set", "not set",
        "a new KSM page is marked (mark_page_accessed in try_to_merge_one_page), so that reclaim does not take it for an old one",
    ),
    Kind.OFFSET: (
        Tier.ACCOUNTING, "have at a wrong swap offset", "the offset of the page's swap entry", "another one",
        "all ptes of a page are given the same swap entry (try_to_unmap_one), which stays until they fault",
    ),
}  # fmt: skip


# Those that belong to a property whatever operation shows them.
_OF = {Kind.NOT_RESTORED: "P10", Kind.NOT_REFERENCED: "P12"}


@dataclass
class _Case:
    places: Places = field(default_factory=Places)
    mms: dict[Mm, None] = field(default_factory=dict)
    seen: str = ""
    expected: str = ""


class Mismatches:
    """The mismatches of one observation."""

    def __init__(self, model: Model, since: Since) -> None:
        self.model = model
        self.since = since
        self._cases: dict[tuple[Kind, str], _Case] = {}
        self._wrong: set[Page] = set()  # pages of which something worse is known than their mapcount
        self._mapcounts: list[tuple[Pte, Page, str, int, str, str]] = []

    def add(self, kind: Kind, pte: Pte, page: Page | None, area: str, index: int, seen: str = "", expected: str = "") -> None:
        """Something about a pte that is in the predicted state."""
        if kind is Kind.MAPCOUNT and page is not None:
            self._mapcounts.append((pte, page, area, index, seen, expected))
            return
        if page is not None and kind is not Kind.NOT_REFERENCED:
            self._wrong.add(page)
        marks = {Kind.NOT_LOCKED: "mlock", Kind.NOT_RESTORED: "reclaim", Kind.NOT_REFERENCED: "scan"}
        op = self.since.last(marks[kind]) if kind in marks else self._op(pte, page)
        self._put(kind, op, pte.mm, area, index, seen, expected)

    def state(self, mm: Mm, area: str, index: int, pte: Pte | None, seen: str) -> None:
        """A pte that is not in the predicted state: ``seen`` is P, S or N."""
        words = {"P": "present", "S": "swapped", "X": "a special entry", "N": "none"}
        expected = "none"
        kind = Kind.MAPPED
        op = self.since.last()
        if pte is not None:
            expected = "swapped" if pte.entry is not None else "poisoned" if pte.poison else "present"
            op = self._op(pte, pte.page)
            if pte.page is not None:
                self._wrong.add(pte.page)
            if seen == "X":
                kind = Kind.SPECIAL
            elif seen == "N":
                kind = Kind.LOST
            elif seen == "S":
                kind = Kind.LOCKED_SWAPPED if pte.page is not None and rmap.locked(pte.page) else Kind.UNMAPPED
            elif pte.poison or pte.by in ("reclaim", "pageout"):
                kind = Kind.STILL_MAPPED
        self._put(kind, op, mm, area, index, words[seen], expected)

    def _op(self, pte: Pte, page: Page | None) -> str:
        """The operation that should have made it so, if it came after the last observation; else the last one."""
        after = self.since.tick
        if page is not None and page.when > after and page.when >= pte.when:
            return page.by
        return pte.by if pte.when > after else self.since.last()

    def _put(self, kind: Kind, op: str, mm: Mm, area: str, index: int, seen: str, expected: str) -> None:
        case = self._cases.setdefault((kind, op), _Case())
        case.places.add(mm.name, area, index)
        case.mms[mm] = None
        case.seen = case.seen or seen
        case.expected = case.expected or expected

    def differences(self) -> list[Difference]:
        """All that was found, the worst first; the model must not rely on these pages any more."""
        if self._wrong:
            self.model.memory.doubt("pages were not as the model has them")
        for page in self._wrong:
            page.unsure = True
        for pte, page, area, index, seen, expected in self._mapcounts:
            if page not in self._wrong and not self.model.memory.unsure:
                self._put(Kind.MAPCOUNT, self._op(pte, page), pte.mm, area, index, seen, expected)
        order = list(_WORDS)
        return [_difference(k, op, c) for (k, op), c in sorted(self._cases.items(), key=lambda x: order.index(x[0][0]))]


def _difference(kind: Kind, op: str, case: _Case) -> Difference:
    tier, verb, expected, seen, why = _WORDS[kind]
    summary = f"{who(list(case.mms))} {verb} {pages(case.places.count())}, after {op}"
    if case.seen:
        summary += f" ({case.seen}" + (f" where {case.expected} is expected)" if case.expected else ")")
    return Difference(
        kind=kind.word, op=op, tier=tier, summary=summary, places=case.places,
        expected=f"{expected}" + (f" ({case.expected})" if case.expected else ""),
        seen=f"{seen}" + (f" ({case.seen})" if case.seen else ""), why=why,
        prop=_OF.get(kind, ""),
    )  # fmt: skip

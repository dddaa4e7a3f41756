# SPDX-License-Identifier: GPL-2.0-or-later
"""What reclaim's walks for references and idle page tracking said, against what they had to find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.findings import Tier
from harness.oracle import rmap
from harness.oracle.address_space import Mm
from harness.oracle.ageing import Look, look, make_old, take_references
from harness.oracle.judge import Difference, Places, pages
from harness.oracle.memory import Page, Pte
from harness.oracle.model import Model
from harness.oracle.records import Fields
from harness.oracle.setup import Setup


def judge_idle(model: Model, mm: Mm, area: str, start: int, ret: Fields, count: int) -> list[Difference]:
    """The bits of page_idle/bitmap after a while: idle is a page that no pte has been used of."""
    wrong: dict[bool, Places] = {}
    for i, idle in enumerate(_numbers(ret, "idle", 1, count)):
        pte = mm.ptes.get(start + i)
        page = pte.page if pte is not None else None
        if page is None or page.unsure or page.idle is None:
            continue
        young = [p.young for _, p in rmap.walk(page)]
        if page.idle and None in young:
            continue
        expected = page.idle and not any(young)
        if page.idle:
            take_references(page)
        if bool(idle[0]) != expected and not model.memory.setup.damon:  # who sets the bit as well (damon_ptep_mkold)
            wrong.setdefault(expected, Places()).add(mm.name, area, start + i - mm.areas[area].start)
            page.unsure = True
    return [_idle(expected, places) for expected, places in wrong.items()]


def _idle(expected: bool, places: Places) -> Difference:
    words = {True: "idle", False: "not idle"}
    return Difference(
        kind="idle", op="idle_read", tier=Tier.HEURISTIC, places=places, prop="P12",
        summary=f"{pages(places.count())} {'are' if places.count() > 1 else 'is'} called {words[not expected]}, "
        + ("though nobody has used them" if expected else "though a process has used them since the idle bit was set"),
        expected=words[expected], seen=words[not expected],
        why="page_idle_clear_pte_refs walks the ptes of forks too (rmap_walk_ksm: search_new_forks)",
    )  # fmt: skip


@dataclass
class _Miscounts:
    """Pages with a wrong number of references, by property: their places, and the first one's numbers."""

    places: dict[str, Places] = field(default_factory=dict)
    example: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, prop: str, where: tuple[str, str, int], expected: int, seen: int) -> None:
        self.places.setdefault(prop, Places()).add(*where)
        self.example.setdefault(prop, (expected, seen))


def read_walks(model: Model, op: Fields, ret: Fields) -> Iterator[tuple[Mm, str, int, int, int, int, int]]:
    """The watched pages: mm, area, index, address, first and later references, walks (2: or more)."""
    raw = op.data.get("watch")
    if raw is None or ret.data.get("references") in (None, []):
        return
    if not isinstance(raw, list) or len(raw) != 4 or not all(isinstance(v, str) for v in raw[:2]):
        raise op.fail(f"no range to watch: {raw!r}")
    mm, first, count = model.actor(raw[0]), op.whole(raw[2], "watch", 0), op.whole(raw[3], "watch", 0)
    start, _ = model.span(mm, raw[1], first, count)
    for i, (found, later, walks) in enumerate(_numbers(ret, "references", 3, count)):
        yield mm, raw[1], first + i, start + i, found, later, walks


def _numbers(ret: Fields, key: str, width: int, count: int) -> list[tuple[int, ...]]:
    """Runs ``[count, number, …]``, written out."""
    result: list[tuple[int, ...]] = []
    for raw in ret.items(key):
        if not isinstance(raw, list) or len(raw) != width + 1:
            raise ret.fail(f"no run of {key}: {raw!r}")
        times, *numbers = (ret.whole(v, key, 0) for v in raw)
        if times > count - len(result):
            raise ret.fail(f"{key} cover more than {count} pages")
        result += [tuple(numbers)] * times
    if len(result) != count:
        raise ret.fail(f"{key} cover {len(result)} of {count} pages")
    return result


class Ageing:
    """The walks for references of one reclaim: predicted before the model unmaps anything, judged and applied after."""

    def __init__(self, model: Model, memcg: str) -> None:
        self.looks = {page: look(page, memcg) for page in model.pages() if page.memcg == memcg}
        self.lost = {page for page in self.looks if rmap.locked(page) and not page.mlock.marked}
        self._found: dict[int, list[Page]] = {}
        for page in self.looks:
            if page.ksm and not page.unsure:
                self._found.setdefault(page.index, []).append(page)

    def judge(self, model: Model, op: Fields, ret: Fields, final: Mapping[Pte, str]) -> list[Difference]:
        """What folio_referenced returned, against the number of young ptes that it had to count."""
        counts, again, unheeded = _Miscounts(), _Miscounts(), _Miscounts()
        walked = set()
        for mm, area, index, addr, first, later, walks in read_walks(model, op, ret):
            if len(found := self._found.get(addr, [])) != 1:
                continue
            page, looked = found[0], self.looks[found[0]]
            if walks:
                walked.add(page)
            if looked.locked or looked.count is None:
                continue
            place, prop = (mm.name, area, index), "P12" if looked.count == looked.everywhere else "P13"
            if (bounds := _bounds(looked, model.memory.setup)) is not None:
                if walks and not bounds[0] <= first + later <= bounds[1]:
                    counts.add(prop, place, looked.count, first + later)
                continue
            gone = all(final.get(pte) == "S" for pte in page.ptes)
            if not walks and looked.count and gone:
                unheeded.add("P12", place, 1, 0)
            elif not walks:
                continue
            elif first != looked.count:
                counts.add(prop, place, looked.count, first)
            elif later:
                again.add("P12", place, 0, later)
            elif first and walks == 1 and gone:
                unheeded.add("P12", place, 2, 1)
        idle = [page for page in self.looks if page.idle is not False]
        self._apply(walked)
        if model.memory.setup.lru_gen or model.memory.setup.damon:
            _age(self.looks)
            for page in idle:  # its young bits may have been taken by those who leave PG_idle alone
                page.idle = None
        return [*_miscounted(counts), *_still_referenced(again), *_unheeded(unheeded)]

    def _apply(self, walked: set[Page]) -> None:
        for page, looked in self.looks.items():
            make_old(page, looked)
            if page not in self.lost:
                continue
            if page in walked:
                page.mlock.restore()
            else:
                page.mlock.unsure = True


def _bounds(looked: Look, setup: Setup) -> tuple[int, int] | None:
    """Least and most of what all walks count together, where others take young bits away before; None: they do not."""
    assert looked.count is not None
    if not setup.lru_gen and not setup.damon:
        return None
    least, most = min(looked.count, 1), looked.count
    if setup.damon:  # what it took is one reference of the page, for whoever asks first; other memcgs' ptes are in it
        most = max(most, min(most + 1, looked.everywhere if looked.everywhere is not None else most + 1))
    if setup.lru_gen:  # what ageing has found in page tables no walk finds again
        least = 0
    return least, most


def _age(pages: Iterable[Page]) -> None:
    """Ageing by others: whether it came to what is still there is not known."""
    for page in pages:
        page.young = page.young and None
        for pte in page.ptes:
            pte.young = pte.young and None


def _miscounted(wrong: _Miscounts) -> Iterator[Difference]:
    for prop, places in wrong.places.items():
        expected, seen = wrong.example[prop]
        rule = "each young pte that rmap_walk_ksm finds counts once, those of forks in its second pass"
        if prop == "P13":
            rule = "on behalf of a memcg, ptes of mms in other memcgs do not count (invalid_folio_referenced_vma)"
        yield Difference(
            kind="references", op="reclaim", tier=Tier.HEURISTIC, places=places, prop=prop,
            summary=f"reclaim counted {seen} references where {expected} ptes had been used, of {pages(places.count())}",
            expected=f"folio_referenced returns {expected}", seen=f"{seen}", why=rule,
        )  # fmt: skip


def _still_referenced(wrong: _Miscounts) -> Iterator[Difference]:
    for prop, places in wrong.places.items():
        yield Difference(
            kind="references-stay", op="reclaim", tier=Tier.HEURISTIC, places=places, prop=prop,
            summary=f"reclaim found references to {pages(places.count())} again, which nobody had used since it last looked",
            expected="none at a second look", seen=f"{wrong.example[prop][1]}",
            why="the walk for references takes the young bits away (ptep_clear_flush_young_notify)",
        )  # fmt: skip


def _unheeded(wrong: _Miscounts) -> Iterator[Difference]:
    for prop, places in wrong.places.items():
        yield Difference(
            kind="references-unheeded", op="reclaim", tier=Tier.HEURISTIC, places=places, prop=prop,
            summary=f"{pages(places.count())} that had been used went to swap without a second look",
            expected="another look after the one that finds references", seen="none",
            why="a page with references is kept or activated (folio_check_references)",
        )  # fmt: skip

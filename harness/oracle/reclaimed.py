# SPDX-License-Identifier: GPL-2.0-or-later
"""What reclaim did, attempt by attempt, against what it must do; the model then takes over what it did."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from harness.findings import Tier
from harness.oracle import rmap
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference, Places, pages, who
from harness.oracle.memory import Page, Pte
from harness.oracle.model import Model
from harness.oracle.records import Fields
from harness.oracle.runs import decode_states

States = dict[Pte, str]


@dataclass
class Attempts:
    """The page tables after each attempt whose outcome differed from the one before."""

    maps: list[States] = field(default_factory=list)
    broken_off: bool = False  # one of them could not finish what it had begun

    @property
    def final(self) -> States:
        """After the last one; empty if the record has none."""
        return self.maps[-1] if self.maps else {}


def read_attempts(model: Model, ret: Fields) -> Attempts:
    """Decode ``attempts``; raises JournalContradiction for states of what does not exist."""
    result = Attempts()
    for raw in ret.items("attempts"):
        attempt = Fields(ret.mapping(raw, "attempts"), ret.where)
        states: States = {}
        for name, areas in attempt.record("states").items():
            mm = model.actor(name)
            for area, runs in ret.mapping(areas, name).items():
                _read_area(model, mm, area, runs, states, ret.where)
        result.maps.append(states)
    return result


def _read_area(model: Model, mm: Mm, area: str, runs: object, states: States, where: str) -> None:
    start, end = model.span(mm, area, 0, 0)[0], 0
    end = start + mm.areas[area].npages
    letters = decode_states(runs, end - start, f"{where}: {mm.name}.{area}")
    ptes = mm.ptes
    for addr, letter in enumerate(letters, start):
        pte = ptes.get(addr)
        if pte is not None:
            states[pte] = letter


def read_keep(model: Model, op: Fields) -> set[Pte]:
    """The ptes which the workload does not wait for."""
    kept: set[Pte] = set()
    for raw in op.items("keep"):
        if not isinstance(raw, list) or len(raw) != 4 or not all(isinstance(v, str) for v in raw[:2]):
            raise op.fail(f"no range to keep: {raw!r}")
        mm = model.actor(raw[0])
        start, end = model.span(mm, raw[1], op.whole(raw[2], "keep", 0), op.whole(raw[3], "keep", 0))
        kept.update(mm.ptes_in(start, end))
    return kept


@dataclass
class _Wrong:
    """Ptes that are not as they must be, by kind."""

    still_mapped: dict[Pte, Page] = field(default_factory=dict)
    locked_swapped: dict[Pte, Page] = field(default_factory=dict)
    unreached: dict[Pte, Page] = field(default_factory=dict)
    half: dict[Pte, Page] = field(default_factory=dict)
    lost: dict[Pte, Page] = field(default_factory=dict)
    walked_on: dict[Pte, Page] = field(default_factory=dict)


def judge_reclaim(
    model: Model, memcg: str, kept: set[Pte], attempts: Attempts, *, judged: bool, beyond: Set[Pte] = frozenset()
) -> list[Difference]:
    """Compare and take over.  ``judged`` is False when the positive control failed: then nothing is held against it.

    Of the ptes ``beyond`` the reach of any walk it is not held against a kernel that it finds them.
    """
    final = attempts.final
    _give_zeros_way(model, memcg, kept, final)
    plan = model.plan_reclaim(memcg)
    wrong = _Wrong()
    model.look_at(memcg)
    for page in model.pages():
        expected = set(plan.get(page, ()))
        if judged and not page.unsure and not rmap.undecided(model.memory, page, memcg):
            at_will = page in plan and rmap.stopped_by_lock(model.memory, page, memcg)
            _compare(page, expected, final, kept, beyond, wrong, at_will=at_will)
            if at_will:
                wrong.walked_on.update(dict.fromkeys(_walked_on(page, final), page))
            if expected == page.ptes and not page.extra_refs and not attempts.broken_off:
                stops = model.semantics.unmap_stops_at_young
                _half_unmapped(page, memcg if stops else None, attempts, wrong)
        swapped = [p for p in sorted(page.ptes, key=_place) if final.get(p, "S" if p in expected else "P") == "S"]
        if swapped:
            model.memory.swap_out(page, swapped)
    for pte in wrong.lost:
        model.memory.zap(pte)
    model.drop_unmapped(memcg)
    return list(_differences(wrong))


def _give_zeros_way(model: Model, memcg: str, kept: set[Pte], final: Mapping[Pte, str]) -> None:
    """Reclaim splits a huge page for which swap has no place in one piece, and parts of zeros are not swapped then.

    Whether it does is not predicted.  That the page of zeros is there instead is judged at the next observation.
    """
    if not model.semantics.split_maps_zeros:
        return
    for page in model.pages():
        if page.compound is not None and page.content == 0 and page.memcg == memcg and not rmap.locked(page):
            for pte in [pte for pte in page.ptes if final.get(pte) == "P" and pte not in kept]:
                model.memory.unmap(pte)
                pte.zero = True
                model.memory.stamp(pte)


def _compare(
    page: Page, expected: set[Pte], final: Mapping[Pte, str], kept: set[Pte], beyond: Set[Pte], wrong: _Wrong, *, at_will: bool
) -> None:
    """``at_will``: the walk was stopped by a lock; which ptes it passed before is a matter of its order, owed to nobody."""
    for pte in page.ptes:
        state = final.get(pte)
        if at_will and state != "N" and not pte.locked:
            continue
        if state == "P" and pte in expected and pte not in kept:
            wrong.still_mapped[pte] = page
        elif state == "S" and pte not in expected and (pte not in beyond or rmap.locked(page)):
            (wrong.locked_swapped if rmap.locked(page) else wrong.unreached)[pte] = page
        elif state == "N":
            wrong.lost[pte] = page


def _walked_on(page: Page, final: Mapping[Pte, str]) -> list[Pte]:
    """Ptes that went with items on both sides of a locked one, which no walk from one end to the other gets past."""
    if page.node is None:
        return []
    ptes = [item.mm.ptes.get(item.addr) for item in page.node.walk_order()]
    listed = [pte for pte in ptes if pte is not None and pte.page is page]
    gone = [i for i, pte in enumerate(listed) if final.get(pte) == "S"]
    if any(pte.locked and gone and gone[0] < i < gone[-1] for i, pte in enumerate(listed)):
        return [listed[i] for i in gone]
    return []


def _half_unmapped(page: Page, memcg: str | None, attempts: Attempts, wrong: _Wrong) -> None:
    """An attempt left it partly mapped, and only a later one finished it.

    ``memcg`` is the one that reclaim was for, where its walk stops at young ptes of others; else None.
    """
    final = attempts.final
    if len(page.ptes) < 2 or any(final.get(p) != "S" for p in page.ptes):
        return
    for states in attempts.maps[:-1]:
        seen = {states.get(p) for p in page.ptes}
        if {"P", "S"} <= seen and (memcg is None or not _stopped_at_young(page, memcg, states)):
            wrong.half.update({p: page for p in page.ptes if states.get(p) == "P"})
            return


def _stopped_at_young(page: Page, memcg: str, states: Mapping[Pte, str]) -> bool:
    """The attempt's last walk has ended at a pte of another memcg that was young: from there on all are present, as it left them.

    Each walk makes one such pte old, so that the next one gets further.
    """
    order = dict.fromkeys(pte for _, pte in rmap.walk(page))
    left = list(itertools.dropwhile(lambda pte: states.get(pte) == "S", order))
    at = left[0] if left else None
    return at is not None and at.mm.memcg != memcg and at.young is not False and all(states.get(p) == "P" for p in left)


def _differences(wrong: _Wrong) -> Iterator[Difference]:
    if wrong.lost:
        yield _lost(wrong.lost)
    if wrong.still_mapped:
        yield _still_mapped(wrong.still_mapped)
    if wrong.half:
        yield _half(wrong.half)
    if wrong.locked_swapped:
        yield _locked_swapped(wrong.locked_swapped)
    if wrong.walked_on:
        yield _walked_past_lock(wrong.walked_on)
    if wrong.unreached:
        yield _unreached(wrong.unreached)


def places_of(ptes: Mapping[Pte, Page] | list[Pte]) -> Places:
    """The pages of ptes, by actor and area."""
    places = Places()
    for pte in sorted(ptes, key=_place):
        area, index = where(pte)
        places.add(pte.mm.name, area, index)
    return places


def where(pte: Pte) -> tuple[str, int]:
    """The area that a pte lies in, and its index there."""
    for name, area in pte.mm.areas.items():
        if area.start <= pte.addr < area.start + area.npages:
            return name, pte.addr - area.start
    return "?", pte.addr


def _place(pte: Pte) -> tuple[str, int]:
    return pte.mm.name, pte.addr


def _mms(ptes: Mapping[Pte, Page]) -> list[Mm]:
    return list(dict.fromkeys(p.mm for p in sorted(ptes, key=_place)))


def has_item(pte: Pte, page: Page) -> bool:
    """The pte has an rmap_item of its own in the page's stable node."""
    item = pte.mm.items.get(pte.addr)
    return item is not None and page.node is not None and item.node is page.node


def _still_mapped(ptes: Mapping[Pte, Page]) -> Difference:
    forks = {p: page for p, page in ptes.items() if page.ksm and not has_item(p, page)}
    owners = {p: page for p, page in ptes.items() if page.ksm and has_item(p, page)}
    if forks:
        # A process that never was a child has lost its items otherwise; the words fit the usual case.
        summary = f"child {_maps(forks, 'KSM')} after reclaim: ptes that fork copied before ksmd met them were not unmapped"
        why = "rmap_walk_ksm visits, for each rmap_item, the vmas of its anon_vma in other mms (search_new_forks)"
        if owners:
            summary += f"; {_maps(owners, 'KSM')} too"
    elif owners:
        summary = f"{_maps(owners, 'KSM')} after reclaim though each has its rmap_item"
        why = "rmap_walk_ksm visits, for each rmap_item of the stable node, the vma of its own mm"
    else:
        summary = f"{_maps(ptes, '')} after reclaim: ordinary anonymous memory was not unmapped"
        why = "rmap_walk_anon visits every vma of the page's anon_vma"
    places = places_of(ptes)
    return Difference(
        kind="still-mapped", op="reclaim", tier=Tier.SAFETY, summary=summary, places=places,
        expected=f"{pages(places.count())} swapped, as every pte can be reached and none is locked or waited for",
        seen=f"{pages(places.count())} present", why=why,
    )  # fmt: skip


def _maps(ptes: Mapping[Pte, Page], what: str) -> str:
    mms = _mms(ptes)
    verb = "still maps" if len(mms) == 1 else "still map"
    return f"{who(mms)} {verb} {pages(len(ptes), what)}"


def _half(ptes: Mapping[Pte, Page]) -> Difference:
    places = places_of(ptes)
    count = len(set(ptes.values()))
    return Difference(
        kind="half-unmapped", op="reclaim", tier=Tier.SAFETY, places=places,
        summary=f"an attempt to reclaim left {pages(count)} half unmapped: {who(_mms(ptes))} still mapped what others had lost",
        expected="all ptes of a page unmapped by one attempt, or none",
        seen="some swapped and some present after an attempt; a later one finished them",
        why="try_to_unmap walks all ptes of an isolated page; here all could be reached, none locked, none pinned",
    )  # fmt: skip


def _locked_swapped(ptes: Mapping[Pte, Page]) -> Difference:
    places = places_of(ptes)
    return Difference(
        kind="locked-swapped", op="reclaim", tier=Tier.SAFETY, places=places,
        summary=f"{pages(places.count())} of {who(_mms(ptes))} were swapped out though a VM_LOCKED vma maps them",
        expected="present in all mappers, as one of them is locked",
        seen=f"{pages(places.count())} swapped",
        why="a mlocked page is unevictable, and try_to_unmap_one stops at VM_LOCKED",
        prop="P10" if any(page.mlock.missed for page in ptes.values()) else "",
    )  # fmt: skip


def _walked_past_lock(ptes: Mapping[Pte, Page]) -> Difference:
    places = places_of(ptes)
    return Difference(
        kind="walked-past-lock", op="reclaim", tier=Tier.ACCOUNTING, places=places, prop="P10",
        summary=f"{pages(places.count())} of {who(_mms(ptes))} went though a locked mapper's rmap_item stands between theirs",
        expected="the walk ends at the VM_LOCKED vma: mappers on one side of it stay",
        seen="mappers on both sides swapped",
        why="rmap_walk_ksm returns when rmap_one does not want to go on; try_to_unmap_one does not where a vma is VM_LOCKED",
    )  # fmt: skip


def _unreached(ptes: Mapping[Pte, Page]) -> Difference:
    """They belong to another memcg, or no walk leads to them: nobody is hurt by it."""
    places = places_of(ptes)
    return Difference(
        kind="wrongly-unmapped", op="reclaim", tier=Tier.HEURISTIC, places=places,
        summary=f"{pages(places.count())} of {who(_mms(ptes))} were swapped out though no rmap_item's anon_vma leads to them",
        expected="present, as the walk cannot reach them (or they belong to another memcg)",
        seen=f"{pages(places.count())} swapped",
        why="reclaim of a memcg takes what is charged to it, as far as a walk over the page's anon_vmas leads",
    )  # fmt: skip


def _lost(ptes: Mapping[Pte, Page]) -> Difference:
    places = places_of(ptes)
    return Difference(
        kind="lost", op="reclaim", tier=Tier.SAFETY, places=places,
        summary=f"{pages(places.count())} of {who(_mms(ptes))} are gone: neither present nor swapped after reclaim",
        expected="present or swapped", seen="none",
        why="reclaim of anonymous memory leaves a swap entry in each pte",
    )  # fmt: skip

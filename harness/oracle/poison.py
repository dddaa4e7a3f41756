# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory errors (mm/memory-failure.c): which mappers lose a poisoned page, and who is told by SIGBUS."""

from __future__ import annotations

from collections.abc import Iterator

from harness.findings import Tier
from harness.oracle import faults, rmap
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference, Places, who
from harness.oracle.memory import Page
from harness.oracle.model import Model
from harness.oracle.operations import pages_of
from harness.oracle.reclaimed import has_item, places_of, where
from harness.oracle.records import Fields

_REFUSED = "memory_failure() cannot handle KSM pages before 6.4 (hwpoison_user_mappings), and leaves all mappers alone"
UNTOLD = "an error that madvise() does not tell"
_TAKEN = "hwpoison_user_mappings takes the page from every mapper"


def hwpoison(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """MADV_HWPOISON of one page."""
    mm, start, _ = pages_of(model, op)
    faults.read(model.memory, mm, start)
    pte = mm.ptes.get(start)
    page = pte.page if pte is not None else None
    error, signals = ret.text("error"), _signals(model, ret)
    if page is None or page.poisoned or page.entry is not None:
        raise op.fail("poisons a page that is not there, poisoned already or in the swap cache: the model cannot follow")
    taken = model.semantics.hwpoison_takes_ksm or not page.ksm
    if not taken and not model.semantics.madvise_tells_poison:
        error = error or UNTOLD
    early = taken and op.flag("early")
    found = [] if page.unsure else list(_compare(page, taken, error, ret.flag("poisoned")))
    if not page.ksm:
        model.memory.poisoner_told = any(who_ is mm and required for who_, _, required in signals)
    told = {mm} if taken and model.memory.poisoner_told else set()
    may_be_told = {mm} if taken and model.memory.poisoner_told is not False else set()
    if early:
        told, may_be_told = {pte.mm for _, pte in rmap.walk(page)}, _may_be_told(page)
    if not page.unsure and not found:
        found = list(_compare_signals(page, signals, told, may_be_told))
    found += _compare_addresses(model, ret)
    _follow(model, page, taken=not error)
    return found


def _may_be_told(page: Page) -> set[Mm]:
    """collect_procs_ksm asks for each rmap_item whose vmas its anon_vma has, not whether they still map the page."""
    if page.node is None:
        return {pte.mm for _, pte in rmap.walk(page)}
    anon_vmas = (item.anon_vma for item in page.node.items)
    return {vma.mm for anon_vma in anon_vmas if anon_vma is not None for vma in anon_vma.vmas}


def _signals(model: Model, ret: Fields) -> set[tuple[Mm, int, bool]]:
    """Decode ``signals``: who got SIGBUS, the page that it named, and whether with "action required"."""
    found = set()
    for name, places in ret.record("signals").items():
        mm = model.actor(name)
        if not isinstance(places, list):
            raise ret.fail(f"no list of places: {places!r}")
        for place in places:
            if not isinstance(place, list) or len(place) not in (3, 4) or not isinstance(place[0], str):
                raise ret.fail(f"no place: {place!r}")
            if place[2] not in ("AO", "AR"):
                raise ret.fail(f"no place: {place!r}")
            area = mm.areas.get(place[0])
            found.add((mm, (area.start if area else -1) + ret.whole(place[1], "signals", 0), place[2] == "AR"))
    return found


def _follow(model: Model, page: Page, *, taken: bool) -> None:
    """The frame is never used again: memory_failure() keeps its reference, and when it refuses does not drop it either."""
    page.poisoned = True
    page.referenced = None  # get_user_pages_fast
    page.extra_refs += 1
    page.by, page.when = model.memory.op, model.memory.tick
    for pte in [pte for _, pte in rmap.walk(page)] if taken else []:
        model.memory.unmap(pte)
        pte.poison = True
        model.memory.stamp(pte)


def _compare(page: Page, taken: bool, error: str, poisoned: bool) -> Iterator[Difference]:
    if taken and error:
        yield _difference(
            "hwpoison-refused", page, "a memory error was not handled", "0, and no mapper has the page any more", error, _TAKEN
        )
    if not taken and not error:
        yield _difference(
            "hwpoison-taken", page, "a memory error in a KSM page was handled", "EBUSY, and nothing changes", "0", _REFUSED
        )
    if not poisoned:
        yield _difference(
            "hwpoison-flag", page, "a memory error left no mark on its frame", "KPF_HWPOISON", "no such flag",
            "memory_failure() begins with TestSetPageHWPoison",
        )  # fmt: skip


def _compare_signals(page: Page, signals: set[tuple[Mm, int, bool]], told: set[Mm], may_be_told: set[Mm]) -> Iterator[Difference]:
    """A process is told once, of one address (task_in_to_kill_list)."""
    got = {mm for mm, _, _ in signals}
    missed = [pte for _, pte in rmap.walk(page) if pte.mm in told - got]
    if missed:
        mms = list(dict.fromkeys(p.mm for p in missed))
        forks = [p.mm for p in missed if page.ksm and not has_item(p, page)]
        yield Difference(
            kind="not-told", op="hwpoison", prop="P21", tier=Tier.SAFETY, places=places_of(missed),
            summary=f"{who(mms)} maps a page with a memory error and was not told"
            + (f"; fork copied the pte of {who(list(dict.fromkeys(forks)))} before ksmd met it" if forks else ""),
            expected="SIGBUS with the page's address, with early kill for each mapper", seen="none",
            why="collect_procs_ksm looks, for each rmap_item, for the vmas of its anon_vma in every process",
        )  # fmt: skip
    addresses = {pte.addr for pte in page.ptes}
    wrong = [(mm, addr) for mm, addr, _ in signals if mm not in may_be_told or addr not in addresses]
    if wrong:
        places = Places()
        for mm, addr in wrong:
            area = next((n for n, a in mm.areas.items() if a.start <= addr < a.start + a.npages), "?")
            places.add(mm.name, area, addr - mm.areas[area].start if area in mm.areas else 0)
        yield Difference(
            kind="wrongly-told", op="hwpoison", prop="P21", tier=Tier.SAFETY, places=places,
            summary=f"{who(list(dict.fromkeys(mm for mm, _ in wrong)))} got SIGBUS for a page that nobody may name",
            expected="SIGBUS for mappers of the page, if early kill is on", seen=f"{len(signals)} signals",
            why="without early kill nobody but the caller is told before the next touch, and with it the page's mappers only",
        )  # fmt: skip


def _compare_addresses(model: Model, ret: Fields) -> Iterator[Difference]:
    """The address is that of the page, as the size that goes with it says (si_addr_lsb): nothing in its low bits."""
    skewed = [model.actor(name) for name, places in ret.record("signals").items() if any(place[3:] for place in places)]
    if skewed:
        yield Difference(
            kind="wrongly-told", op="hwpoison", prop="P21", tier=Tier.ACCOUNTING, actors=tuple(mm.name for mm in skewed),
            summary=f"{who(skewed)} got SIGBUS with an address that is not where the page begins",
            expected="the page's address", seen="an address with something in its low bits",
            why="add_to_kill is given a page's address; an rmap_item's has flags in its low bits (mm/ksm.c: collect_procs_ksm)",
        )  # fmt: skip


def _difference(kind: str, page: Page, what: str, expected: str, seen: str, why: str) -> Difference:
    mms = list(dict.fromkeys(p.mm for p in sorted(page.ptes, key=lambda p: (p.mm.name, *where(p)))))
    return Difference(
        kind=kind, op="hwpoison", prop="P21", tier=Tier.SAFETY, places=places_of(list(page.ptes)),
        summary=f"{what}, which {who(mms)} map", expected=expected, seen=seen, why=why,
    )  # fmt: skip

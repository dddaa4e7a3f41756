# SPDX-License-Identifier: GPL-2.0-or-later
"""A census: every pte of every process, counted by frame, and what must hold of it whatever happened before.

Nothing here knows how the guest came to where it is.  docs/oracle.md ("The census") has the rules and their source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.findings import Tier
from harness.oracle.judge import Difference, Places, pages
from harness.oracle.population import UNKNOWN, Population, Process
from harness.oracle.records import Fields, decimal
from harness.oracle.runs import KPF_KSM, KPF_SWAPCACHE, KPF_ZERO_PAGE, decode


@dataclass(frozen=True, slots=True)
class CensusPte:
    """A page of an area as it was seen."""

    process: Process
    area: str
    index: int
    state: str  # P, S, N
    value: int  # page frame or swap offset
    flags: int
    mapcount: int
    tag: int  # what it must hold
    mergeable: bool
    address: int  # in bytes

    @property
    def place(self) -> tuple[str, str, int]:
        """Whose, and which page."""
        return self.process.name, self.area, self.index


@dataclass
class Census:
    """All ptes, and those of one frame or one swap slot together."""

    ptes: list[CensusPte] = field(default_factory=list)
    frames: dict[int, list[CensusPte]] = field(default_factory=dict)
    slots: dict[int, list[CensusPte]] = field(default_factory=dict)

    def scanned(self, pte: CensusPte) -> bool:
        """ksmd comes to it: present anonymous memory in a mergeable vma."""
        return pte.state == "P" and pte.mergeable and not pte.flags & KPF_ZERO_PAGE

    def items(self, process: Process | None = None) -> int:
        """The rmap_items after a full scan: one for each page that ksmd comes to."""
        return sum(self.scanned(p) for p in self.ptes if process in (None, p.process))

    def stable_items(self, process: Process | None = None) -> int:
        """Those of KSM pages: a page whose node is known joins it in one scan (cmp_and_merge_page)."""
        return sum(self.scanned(p) and bool(p.flags & KPF_KSM) for p in self.ptes if process in (None, p.process))

    def merged_frames(self) -> dict[int, int]:
        """KSM frames with an item, and how many they have."""
        counts = {pfn: sum(map(self.scanned, ptes)) for pfn, ptes in self.frames.items() if ptes[0].flags & KPF_KSM}
        return {pfn: n for pfn, n in counts.items() if n}

    def plain_frames(self) -> dict[int, CensusPte]:
        """Frames that ksmd comes to and that are no KSM pages."""
        found = {}
        for pfn, ptes in self.frames.items():
            if not ptes[0].flags & KPF_KSM and (pte := next(filter(self.scanned, ptes), None)):
                found[pfn] = pte
        return found


def take(population: Population, obs: Fields, page_size: int) -> Census:
    """The census of an observation; JournalContradiction if it does not list just these processes and areas."""
    census = Census()
    procs = obs.record("procs")
    if set(procs) != set(population.processes):
        raise obs.fail(f"lists the actors {sorted(procs)} where {sorted(population.processes)} are alive")
    for name, process in population.processes.items():
        proc = Fields(obs.mapping(procs[name], name), obs.where)
        if proc.number("pid") != process.pid:
            raise obs.fail(f"{name} has pid {proc.number('pid')} where {process.pid} was told")
        areas = proc.record("areas")
        if set(areas) != set(process.areas):
            raise obs.fail(f"lists the areas {sorted(areas)} of {name}, which has {sorted(process.areas)}")
        for area, runs in areas.items():
            _take_area(census, process, area, runs, page_size, obs.where)
    return census


def _take_area(census: Census, process: Process, area: str, runs: object, page_size: int, where: str) -> None:
    told = process.areas[area]
    index = 0
    for run in decode(runs, told.npages, f"{where}: {process.name}.{area}"):
        for i in range(run.count):
            value = run.value + i * run.stride
            pte = CensusPte(
                process, area, index, run.kind, value, run.flags, run.mapcount, told.tags[index], told.mergeable[index],
                told.addr + index * page_size,
            )  # fmt: skip
            index += 1
            census.ptes.append(pte)
            if run.kind == "P" and not run.flags & KPF_ZERO_PAGE:
                census.frames.setdefault(value, []).append(pte)
            elif run.kind == "S":
                census.slots.setdefault(value, []).append(pte)


def places_of(ptes: Iterable[CensusPte]) -> Places:
    """Where they are."""
    places = Places()
    for pte in ptes:
        places.add(*pte.place)
    return places


def judge_pages(census: Census) -> Iterator[Difference]:
    """What holds at any moment at which all stand still."""
    lost = [p for p in census.ptes if p.state == "N" and p.tag != UNKNOWN]
    if lost:
        yield Difference(
            kind="lost", op="roam", tier=Tier.SAFETY, prop="P16", places=places_of(lost),
            summary=f"{pages(len(lost))} with contents are neither present nor swapped",
            expected="present or swapped", seen="neither", why="nothing but munmap, exec and exit takes a page away",
        )  # fmt: skip
    shared = [p for ptes in (*census.frames.values(), *census.slots.values()) if len({p.tag for p in ptes}) > 1 for p in ptes]
    if shared:
        tags = sorted({p.tag for p in shared if p.value == shared[0].value})
        yield Difference(
            kind="leak", op="roam", tier=Tier.SAFETY, prop="P17", places=places_of(shared),
            summary=f"{pages(len(shared))} share a frame or a swap slot with pages that must hold other bytes",
            expected="equal contents wherever one frame is mapped", seen=f"contents {', '.join(map(str, tags))} in one frame",
            why="only identical pages are merged (pages_identical), and a write to a shared page goes to a copy (do_wp_page)",
        )  # fmt: skip
    miscounted = [ptes for ptes in census.frames.values() if any(p.mapcount != len(ptes) for p in ptes)]
    if miscounted:
        one = miscounted[0][0]
        yield Difference(
            kind="mapcount", op="roam", tier=Tier.SAFETY, prop="P14", places=places_of(p for ptes in miscounted for p in ptes),
            summary=f"{pages(len(miscounted))} have a mapcount that is not the number of ptes that map them",
            expected=f"mapcount {len(miscounted[0])}", seen=f"mapcount {one.mapcount} of frame {one.value:#x}",
            why="each pte that maps a page counts (page_add_anon_rmap, page_dup_anon_rmap, page_remove_rmap)",
        )  # fmt: skip


def judge_unmerged(census: Census, obs: Fields, *, ksm_tells: bool) -> Iterator[Difference]:
    """After run=2 while all stand still: no KSM page in a mergeable vma, no item, and all counters are 0."""
    left = [p for p in census.ptes if ksm_tells and census.scanned(p) and p.flags & KPF_KSM]
    if left:
        yield Difference(
            kind="still-ksm", op="run", tier=Tier.ACCOUNTING, prop="P18", places=places_of(left),
            summary=f"{pages(len(left))} are still KSM pages after run=2", expected="plain pages", seen="KSM pages",
            why="unmerge_and_remove_all_rmap_items breaks every KSM pte of every mergeable vma (break_ksm)",
        )  # fmt: skip
    files = obs.record("ksm")
    seen = {name: decimal(files.get(name)) for name in ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")}
    slab = obs.data.get("slab")
    seen["ksm_rmap_item"] = decimal(slab.get("ksm_rmap_item")) if isinstance(slab, Mapping) else None
    for name, number in seen.items():
        if number:
            yield Difference(
                kind="item-leak" if name == "ksm_rmap_item" else f"counter-{name}", op="run", tier=Tier.ACCOUNTING, prop="P18",
                summary=f"{name} is {number} after run=2", expected=f"{name} 0", seen=f"{name} {number}",
                why="run=2 drops every rmap_item of every mm (unmerge_and_remove_all_rmap_items)",
            )  # fmt: skip


def judge_frames(census: Census, obs: Fields, unmapped_at_start: int | None, slack: int) -> Iterator[Difference]:
    """The whole of memory: a page that nobody maps and that is not freed has a reference that nobody will drop."""
    told = obs.data.get("frames")
    if not isinstance(told, Mapping):
        return
    frames = Fields(told, obs.where)
    mapped = sum(1 for ptes in census.frames.values() if ptes[0].flags & KPF_KSM and not ptes[0].flags & KPF_SWAPCACHE)
    seen = frames.number("ksm", 0)
    if seen != mapped:
        yield Difference(
            kind="page-leak", op="settle", tier=Tier.SAFETY, prop="P6",
            summary=f"there are {seen} KSM pages in memory where processes map {mapped}", expected=f"{mapped} KSM pages",
            seen=f"{seen} KSM pages", why="a KSM page is freed with its last pte, as its node holds no reference (get_ksm_page)",
        )  # fmt: skip
    unmapped = decimal(frames.data.get("unmapped"))
    if unmapped is not None and unmapped_at_start is not None and unmapped > unmapped_at_start + slack:
        yield Difference(
            kind="page-leak", op="exit", tier=Tier.SAFETY, prop="P6",
            summary=f"{pages(unmapped - unmapped_at_start)} stay in memory though the processes that had them have exited",
            expected=f"at most {unmapped_at_start + slack} anonymous pages that nobody maps (pagevecs, swap cache)",
            seen=f"{unmapped}",
            why="each reference that ksmd takes on a page is dropped again (get_mergeable_page, get_ksm_page, ksm_do_scan)",
        )  # fmt: skip

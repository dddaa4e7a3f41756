# SPDX-License-Identifier: GPL-2.0-or-later
"""An observation's pages against the model's: states, frames, KSM bits, mapcounts, locks and swap offsets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.oracle import rmap
from harness.oracle.address_space import Area, Mm
from harness.oracle.differences import Kind, Mismatches
from harness.oracle.huge import Compound
from harness.oracle.judge import Difference, Since
from harness.oracle.memory import Page, Pte, SwapEntry
from harness.oracle.model import Model
from harness.oracle.records import Fields
from harness.oracle.runs import KPF_HWPOISON, KPF_KSM, KPF_MLOCKED, KPF_REFERENCED, KPF_THP, KPF_ZERO_PAGE, Run, decode


class PageObserver:
    """Compares observations one after another, and has the model take over what it sees."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._number = 0

    def compare(self, obs: Fields, since: Since, *, moved: bool) -> list[Difference]:
        """All differences.  ``moved``: the kernel migrated pages meanwhile, so frames may be others."""
        self._number += 1
        return _Comparison(self.model, self._number, since, moved).run(obs)

    def skip(self, obs: Fields) -> None:
        """An observation that is not to be judged: only its form is checked."""
        for mm, area_name, area in _areas(self.model, obs):
            decode(_runs(obs, mm, area_name), area.npages, f"{obs.where}: {mm.name}.{area_name}")


def _areas(model: Model, obs: Fields) -> Iterator[tuple[Mm, str, Area]]:
    """Every area of every living actor; the observation must list just these."""
    procs = obs.record("procs")
    if set(procs) != set(model.actors):
        raise obs.fail(f"lists the actors {sorted(procs)} where {sorted(model.actors)} are alive")
    for name, mm in model.actors.items():
        proc = Fields(obs.mapping(procs[name], name), obs.where)
        if mm.pid and proc.number("pid") != mm.pid:
            raise obs.fail(f"{name} has pid {proc.number('pid')} where {mm.pid} was told")
        areas = proc.record("areas")
        if set(areas) != set(mm.areas):
            raise obs.fail(f"lists the areas {sorted(areas)} of {name}, which has {sorted(mm.areas)}")
        for area_name, area in mm.areas.items():
            yield mm, area_name, area


def _runs(obs: Fields, mm: Mm, area: str) -> object:
    return obs.record("procs")[mm.name]["areas"][area]


@dataclass(slots=True)
class _Resync:
    """A pte whose state the model has to take over."""

    mm: Mm
    addr: int
    kind: str
    value: int
    ksm: bool


class _Comparison:
    """One observation."""

    def __init__(self, model: Model, number: int, since: Since, moved: bool) -> None:
        self.model = model
        self.number = number
        self.moved = moved
        # With generations the bit is one of several that say how often a page was used (folio_mark_accessed).
        self.marks = model.semantics.kpf_referenced_told and not model.memory.setup.lru_gen
        self.frames: dict[int, Page] = {}
        self.offsets: dict[int, SwapEntry] = {}
        self.compounds: dict[tuple[Mm, int], Compound] = {}
        self.found = Mismatches(model, since)
        self.resync: list[_Resync] = []

    def run(self, obs: Fields) -> list[Difference]:
        """Compare all, then let the model follow."""
        for mm, area_name, area in _areas(self.model, obs):
            index = 0
            for run in decode(_runs(obs, mm, area_name), area.npages, f"{obs.where}: {mm.name}.{area_name}"):
                if run.kind == "P":
                    self._present(mm, area_name, area.start, index, run)
                elif run.kind == "S":
                    self._swapped(mm, area_name, area.start, index, run)
                elif run.kind == "X":
                    self._special(mm, area_name, area.start, index, run)
                else:
                    self._none(mm, area_name, area.start, index, run)
                index += run.count
        differences = self.found.differences()
        for r in self.resync:
            self._follow(r)
        return differences

    def _present(self, mm: Mm, area: str, start: int, index: int, run: Run) -> None:
        ptes, number = mm.ptes, self.number
        ksm, mlocked = bool(run.flags & KPF_KSM), bool(run.flags & KPF_MLOCKED)
        poisoned = bool(run.flags & KPF_HWPOISON)
        unmarked = self.marks and not run.flags & KPF_REFERENCED
        zeros, huge = bool(run.flags & KPF_ZERO_PAGE), bool(run.flags & KPF_THP)
        pfn = run.value - run.stride
        for i in range(index, index + run.count):
            pfn += run.stride
            pte = ptes.get(start + i)
            page = pte.page if pte is not None else None
            if not self.model.semantics.kpf_ksm_tells:
                ksm = page is not None and page.ksm
            if pte is None or page is None:
                if pte is None or not pte.zero:
                    self._state(mm, area, start, i, "P", pfn, ksm)
                elif not zeros:
                    self.found.add(Kind.NOT_ZEROS, pte, None, area, i)
                continue
            if zeros:
                self.found.add(Kind.ZEROS, pte, page, area, i)
                continue
            if page.unsure:
                page.ksm, page.pfn, page.seen, page.moves = ksm, pfn, number, 0
                continue
            if huge or page.compound is not None:
                self._huge(pte, page, area, i, huge=huge)
            if page.seen != number:  # the first pte of this page in this observation
                self._frame(pte, page, area, i, pfn)
            elif page.pfn != pfn:
                self.found.add(Kind.APART, pte, page, area, i, f"frame {pfn:#x}, elsewhere {page.pfn or 0:#x}")
            if page.ksm != ksm:
                self.found.add(Kind.STILL_KSM if ksm else Kind.NOT_KSM, pte, page, area, i)
            elif ksm and page.referenced and unmarked:
                self.found.add(Kind.NOT_REFERENCED, pte, page, area, i)
            if run.mapcount != len(page.ptes):
                self.found.add(Kind.MAPCOUNT, pte, page, area, i, f"mapcount {run.mapcount}", f"mapcount {len(page.ptes)}")
            if mm.ever_locked:
                self._mark(pte, page, area, i, mlocked)
            if poisoned != page.poisoned:
                self.found.add(Kind.POISONED if poisoned else Kind.NOT_POISONED, pte, page, area, i)

    def _huge(self, pte: Pte, page: Page, area: str, i: int, *, huge: bool) -> None:
        """Whether huge pages can be had, and whether they stay, is not predicted; that ksmd splits them is."""
        if page.compound is not None:
            if not huge:
                page.compound.split()
        elif page.pfn is None and not page.ksm:  # seen for the first time
            self.compounds.setdefault((pte.mm, pte.addr // self.model.huge_pages), Compound()).add(page)
        else:
            self.found.add(Kind.STILL_HUGE, pte, page, area, i)

    def _frame(self, pte: Pte, page: Page, area: str, i: int, pfn: int) -> None:
        """The page's frame: that of the last observation, and no other page's."""
        if page.pfn is not None and not self.moved:
            if page.pfn != pfn and not page.moves:
                self.found.add(Kind.OTHER_FRAME, pte, page, area, i, f"frame {pfn:#x}", f"frame {page.pfn:#x}")
            elif page.pfn == pfn and page.moves == 1:
                self.found.add(Kind.SAME_FRAME, pte, page, area, i, f"frame {pfn:#x}")
        in_place = page.pfn is None and page.copied == pfn and not page.moves and not self.moved
        page.pfn, page.seen, page.moves = pfn, self.number, 0
        other = self.frames.setdefault(pfn, page)
        if other is not page and not other.unsure:
            kind = Kind.SHARED if other.content != page.content else Kind.TOGETHER
            self.found.add(kind, pte, page, area, i, f"frame {pfn:#x}, which another page has")
        elif in_place:
            self.found.add(Kind.IN_PLACE, pte, page, area, i, f"frame {pfn:#x}")

    def _mark(self, pte: Pte, page: Page, area: str, i: int, mlocked: bool) -> None:
        """PG_mlocked must stand where a lock is counted; a kernel that does not lose it where others do is no worse."""
        mlock = page.mlock
        if mlock.unsure and not self.model.semantics.mlock_marks_ksm:
            mlock.settle(mlocked)
        elif mlocked and not mlock.marked:
            if rmap.locked(page):
                mlock.observe()
        elif mlock.marked and not mlocked and not mlock.unsure and self._marks(page) and rmap.locked(page):
            self.found.add(Kind.NOT_RESTORED if mlock.missed else Kind.NOT_LOCKED, pte, page, area, i)

    def _marks(self, page: Page) -> bool:
        return self.model.semantics.mlock_marks_ksm or not page.ksm

    def _swapped(self, mm: Mm, area: str, start: int, index: int, run: Run) -> None:
        ptes = mm.ptes
        offset = run.value - run.stride
        for i in range(index, index + run.count):
            offset += run.stride
            pte = ptes.get(start + i)
            entry = pte.entry if pte is not None else None
            if pte is None or entry is None:
                self._state(mm, area, start, i, "S", offset, False)
                continue
            if entry.offset is not None and entry.offset != offset:
                self.found.add(Kind.OFFSET, pte, None, area, i, f"offset {offset:#x}", f"offset {entry.offset:#x}")
            entry.offset = offset
            if self.offsets.setdefault(offset, entry) is not entry:
                self.found.add(Kind.OFFSET, pte, None, area, i, f"offset {offset:#x}, which another page has", "one of its own")

    def _special(self, mm: Mm, area: str, start: int, index: int, run: Run) -> None:
        """An entry that is no swap entry: of a migration that never ended, or of a page with a memory error."""
        ptes = mm.ptes
        for i in range(index, index + run.count):
            pte = ptes.get(start + i)
            if pte is None or not pte.poison:
                self._state(mm, area, start, i, "X", 0, False)

    def _none(self, mm: Mm, area: str, start: int, index: int, run: Run) -> None:
        ptes = mm.ptes
        for i in range(index, index + run.count):
            if start + i in ptes:
                self._state(mm, area, start, i, "N", 0, False)

    def _state(self, mm: Mm, area: str, start: int, i: int, kind: str, value: int, ksm: bool) -> None:
        """Present, swapped, a special entry or none: not as predicted."""
        pte = mm.ptes.get(start + i)
        self.resync.append(_Resync(mm, start + i, kind, value, ksm))
        if pte is not None and _told_by_pageout(pte, kind):
            return
        self.found.state(mm, area, i, pte, kind)

    def _follow(self, r: _Resync) -> None:
        """Let the model have what was observed."""
        memory = self.model.memory
        pte = r.mm.ptes.get(r.addr)
        content = pte.content if pte is not None else 0
        if r.kind == "S" and pte is not None and pte.page is not None:
            page = pte.page
            memory.swap_out(page, [pte])
            if pte.entry is not None:
                pte.entry.offset = r.value
            return
        if pte is not None:
            memory.zap(pte)
        vma = r.mm.vma_at(r.addr)
        if r.kind == "N" or vma is None:
            return
        if r.kind == "X":
            memory.pte(r.mm, r.addr).poison = True
            return
        page = memory.new_page(memory.pte(r.mm, r.addr), vma, max(0, content))
        page.unsure, page.pfn, page.ksm, page.exclusive = True, r.value, r.ksm, not r.ksm
        memory.doubt("a page was not where the model has it")
        if r.kind == "S":
            memory.swap_out(page, list(page.ptes))


def _told_by_pageout(pte: Pte, kind: str) -> bool:
    """MADV_PAGEOUT leaves alone a page that is on no LRU list just now, which nothing shows."""
    return kind == "P" and pte.by == "pageout" and pte.entry is not None and not pte.entry.unsure

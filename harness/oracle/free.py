# SPDX-License-Identifier: GPL-2.0-or-later
"""After a roam the model cannot follow any more: what is judged then are books and censuses."""

from __future__ import annotations

from collections.abc import Iterator

from harness.findings import Tier
from harness.oracle import census
from harness.oracle.census import Census
from harness.oracle.contents import NO_TAG, read_contents
from harness.oracle.judge import Difference, Places, pages
from harness.oracle.model import Model
from harness.oracle.nodeless import Nodeless, find
from harness.oracle.population import UNKNOWN, Pages, Population
from harness.oracle.records import Fields, Record, decimal
from harness.oracle.runs import KPF_KSM, KPF_SWAPCACHE, decode_states
from harness.oracle.settled import judge_settled

_IGNORED = frozenset({"set", "churn", "fill", "leash"})
_QUIET = frozenset({"settle", "leash", "set", "run", "mergeable"})  # makes no page and takes no reference to one
PAGEVEC = 16  # pages that a CPU may hold back (mm/swap.c: pagevecs of 15)
SLOT_CACHE = 2 * 64  # swap slots that a CPU may hold back (mm/swap_slots.c: SWAP_SLOTS_CACHE_SIZE, slots and slots_ret)
OTHERS = 64  # pages of the actors' programs, stacks and data; those of the harness's own in the swap cache
ANON_VMAS = 2


class FreeRun:
    """Takes over a workload's records from its first ``roam`` on."""

    def __init__(self, model: Model, page_size: int, cpus: int) -> None:
        self.population = Population(model, page_size)
        self.page_size = page_size
        self.cpus = cpus
        self.control_failed = ""
        self._ksm_tells = model.semantics.kpf_ksm_tells
        self._settled = False  # ksmd has scanned all, and nothing has changed since
        self._unmerged = False  # run=2, and nothing has changed since
        self._before: Census | None = None  # just before the reclaim
        self._after_reclaim: Census | None = None
        self._base: tuple[int | None, int | None] | None = None  # anon_vmas and unmapped frames when no crowd was there
        self._fresh = False  # run=2, and only ksmd has acted since: each KSM page was made while all stood still
        self._nodeless: Nodeless | None = None  # of the census just before the reclaim
        self._inherited: dict[tuple[int, str], int] = {}

    def done(self, name: str, op: Fields, ret: Fields) -> list[Difference]:
        """An operation has ended; what it shows that it should not."""
        before, self._before = self._before, None
        settled, self._settled = self._settled, False
        self._unmerged = name == "run" and op.text("value") == "2"
        self._fresh = self._unmerged or (self._fresh and name in _QUIET)
        if name == "reclaim":
            return list(self._reclaim(before if settled else None, ret))
        if name == "verify":
            return list(self._verify(op, ret))
        if name == "settle":
            return list(self._settle(ret))
        if name == "roam":
            return list(self._roam(ret))
        if name == "spawn":
            self.population.spawn(op, ret)
        elif name == "map":
            self.population.map(op, self.page_size)
        elif name == "exit":
            self.population.exit(op)
        elif name == "mergeable":
            self.population.mergeable(op)
        elif name not in ("read", "run") and name not in _IGNORED:
            raise op.fail(f"{name} cannot be followed after a roam")
        return []

    # Operations.

    def _roam(self, ret: Fields) -> Iterator[Difference]:
        self.population.take_over(ret)
        wrong, strangers = Places(), Places()
        example: tuple[int, int] | None = None
        written = {tag for _, _, area in self.population.all_pages() for tag in area.tags}
        for raw in ret.items("wrong"):
            if not isinstance(raw, list) or len(raw) != 5:
                raise ret.fail(f"no wrong page: {raw!r}")
            expected, found = ret.whole(raw[3], "wrong"), ret.whole(raw[4], "wrong")
            (strangers if found in written else wrong).add(str(raw[0]), str(raw[1]), ret.whole(raw[2], "wrong", 0))
            example = example or (expected, found)
        for kind, places in (("content", wrong), ("leak", strangers)):
            if places.pages and example:
                yield _bytes(kind, "roam", places, *example)
        died = [raw for raw in ret.items("died") if isinstance(raw, list) and len(raw) == 3]
        if died:
            name, signal, status = died[0]
            yield Difference(
                kind="killed", op="roam", tier=Tier.SAFETY, prop="P16", actors=tuple(str(d[0]) for d in died),
                summary=f"{name} or a child of its died, of {f'signal {signal}' if signal else f'exit status {status}'}",
                expected="every access to its own private memory succeeds", seen=f"{len(died)} processes died",
                why="each pte leads to a page or a swap slot with the process's own bytes (do_swap_page, do_wp_page)",
            )  # fmt: skip

    def _settle(self, ret: Fields) -> Iterator[Difference]:
        self._settled = ret.flag("settled")
        if not self._settled:
            rows = ret.items("counters")[-3:]
            yield Difference(
                kind="unsettled", op="settle", tier=Tier.ACCOUNTING, prop="P14",
                summary=f"KSM's counters still change after {ret.number('scans')} full scans of memory that nobody touches",
                expected="the same counters after each scan", seen=f"shared, sharing, unshared, volatile {rows}",
                why="a scan of unchanged pages merges what it can once, and builds the same unstable tree (cmp_and_merge_page)",
            )  # fmt: skip

    def _verify(self, op: Fields, ret: Fields) -> Iterator[Difference]:
        process, area, where = self.population.pages(op)
        seen = read_contents(ret, len(where))
        wrong, leaked = Places(), Places()
        example: dict[str, tuple[int, int]] = {}
        for i, found in zip(where, seen, strict=True):
            if area.tags[i] in (found, UNKNOWN):
                continue
            kind = "leak" if self._is_anothers(area, found) else "content"
            (leaked if kind == "leak" else wrong).add(process.name, op.text("area"), i)
            example.setdefault(kind, (area.tags[i], found))
        for kind, places in (("content", wrong), ("leak", leaked)):
            if places.pages:
                yield _bytes(kind, "verify", places, *example[kind])

    def _is_anothers(self, mine: Pages, tag: int) -> bool:
        return tag != NO_TAG and any(tag in area.tags for _, _, area in self.population.all_pages() if area is not mine)

    def _reclaim(self, before: Census | None, ret: Fields) -> Iterator[Difference]:
        """Every page goes whose ptes ksmd has all visited since they were made: each has an item that leads to it."""
        self._after_reclaim = before
        if ret.text("control") != "gone":
            self.control_failed = self.control_failed or f"ordinary memory (Z.z) was still present ({ret.where})"
            return
        attempts = ret.items("attempts")
        if not attempts or before is None:
            return
        left, extra = Places(), 0
        excused = dict(self._nodeless.candidates) if self._nodeless else {}
        allowed = self._nodeless.frames()[1] if self._nodeless else 0
        states = Fields(ret.mapping(attempts[-1], "attempts"), ret.where).record("states")
        stuck = _present(self.population, states, ret)
        for pfn, ptes in before.frames.items():
            plain = self._ksm_tells and not ptes[0].flags & KPF_KSM  # has an anon_vma of its own
            here = [pte for pte in ptes if pte.place in stuck]
            if here and pfn in excused and allowed:
                allowed -= 1
            elif plain or all(map(before.scanned, ptes)):
                for pte in here:
                    left.add(*pte.place)
                    extra += len(ptes) > 1
        if left.pages:
            yield Difference(
                kind="still-mapped", op="reclaim", tier=Tier.SAFETY, prop="P1", places=left,
                summary=f"{pages(left.count())} stay mapped after reclaim, until nothing changed ({extra} of shared frames)",
                expected="swapped", seen="present",
                why="after full scans each pte of a KSM page in a mergeable vma has an rmap_item of its own (rmap_walk_ksm)",
            )  # fmt: skip

    # Observations.

    def observe(self, obs: Fields) -> list[Difference]:
        """What an observation shows that it should not."""
        if not obs.flag("stable"):
            return []
        now = census.take(self.population, obs, self.page_size)
        differences = list(census.judge_pages(now))
        crowd = len(self.population.roamers)
        if self._after_reclaim is not None:
            differences += _swapped_together(self._after_reclaim, now)
            self._after_reclaim = None
        elif self._settled:
            self._before = now
            differences += self._counters(now, obs)
        elif self._unmerged:
            differences += census.judge_unmerged(now, obs, ksm_tells=self._ksm_tells)
        if not crowd:
            differences += self._nothing_left(obs)
        if self._settled and self._ksm_tells and self._before is now:
            base = self._base[1] if self._base and not crowd else None
            differences += census.judge_frames(now, obs, base, PAGEVEC * self.cpus + OTHERS)
        differences += self._swap(now, obs)
        return differences

    def _counters(self, now: Census, obs: Fields) -> Iterator[Difference]:
        nodeless = find(now, None if self._fresh else decimal(obs.record("ksm").get("pages_shared")))
        self._nodeless = nodeless
        if self._ksm_tells:
            yield from judge_settled(now, nodeless, obs)
        wrong: dict[str, list[str]] = {}
        alive = {process.pid for process in self.population.processes.values()}
        self._inherited = {key: n for key, n in self._inherited.items() if key[0] in alive}  # pids come round again
        for name, process in self.population.processes.items():
            proc = Fields(obs.mapping(obs.record("procs")[name], name), obs.where)
            stat = proc.data.get("stat")
            told = {"ksm_rmap_items": decimal(stat.get("ksm_rmap_items")) if isinstance(stat, dict) else None}
            if self._ksm_tells:
                told["ksm_merging_pages"] = decimal(proc.data.get("merging"))
            less = {"ksm_rmap_items": 0, "ksm_merging_pages": nodeless.items_of(process)}
            own = {"ksm_rmap_items": now.items(process), "ksm_merging_pages": now.stable_items(process)}
            for what, number in told.items():
                if number is None:
                    continue
                more, key = number - own[what], (process.pid, what)
                if key not in self._inherited and (not less[what] or process.pid in self.population.spawned):
                    self._inherited[key] = 0 if process.pid in self.population.spawned else max(0, more)
                rest = self._inherited.get(key, max(0, more))
                if not rest - less[what] <= more <= rest:
                    wrong.setdefault(what, []).append(f"{process}: {number}, of which {own[what]} its own and {rest} inherited")
                    self._inherited[key] = more
        for what, cases in wrong.items():
            yield Difference(
                kind=f"counter-{what}", op="settle", tier=Tier.ACCOUNTING, prop="P15", seen="; ".join(cases[:3]),
                summary=f"{what} of {len(cases)} processes is not what a census of their ptes gives",
                expected="the mm's own items, and what it inherited at fork and keeps for good",
                why="dup_mm copies the parent's number on some kernels; then each item of the mm counts (alloc_rmap_item, "
                "stable_tree_append, remove_rmap_item_from_tree, remove_node_from_stable_tree)",
            )  # fmt: skip

    def _nothing_left(self, obs: Fields) -> Iterator[Difference]:
        """The first time that no crowd is there gives the measure for all later ones."""
        slab, frames = obs.data.get("slab"), obs.data.get("frames")
        anon_vmas = decimal(slab.get("anon_vma")) if isinstance(slab, dict) else None
        if self._base is None:
            self._base = anon_vmas, decimal(frames.get("unmapped")) if isinstance(frames, dict) else None
            return
        base = self._base[0]
        if anon_vmas is not None and base is not None and abs(anon_vmas - base) > ANON_VMAS:
            yield Difference(
                kind="reference-leak", op="exit", tier=Tier.SAFETY, prop="P6",
                summary=f"the anon_vma slab cache has {anon_vmas - base:+d} objects that nothing accounts for",
                expected=f"{base} objects, as with no crowd before", seen=f"{anon_vmas} objects",
                why="each item gives its anon_vma back when it leaves the stable tree (put_anon_vma on every path)",
            )  # fmt: skip

    def _swap(self, now: Census, obs: Fields) -> Iterator[Difference]:
        meminfo: Record = obs.record("meminfo")
        total, free = decimal(meminfo.get("SwapTotal")), decimal(meminfo.get("SwapFree"))
        if total is None or free is None:
            return
        used = (total - free) * 1024 // self.page_size
        cached = sum(1 for ptes in now.frames.values() if ptes[0].flags & KPF_SWAPCACHE)
        high = len(now.slots) + cached + OTHERS + SLOT_CACHE * self.cpus
        if used > high:
            yield Difference(
                kind="swap-leak", op="roam", tier=Tier.SAFETY, prop="P6",
                summary=f"{used} swap slots are in use where ptes and the swap cache account for {len(now.slots) + cached}",
                expected=f"at most {high}: each CPU holds some back", seen=f"{used}",
                why="the last pte that refers to a swap slot frees it (swap_free, free_swap_and_cache)",
            )  # fmt: skip


def _bytes(kind: str, op: str, places: Places, want: int, got: int) -> Difference:
    theirs = " that another process has written" if kind == "leak" else ""
    return Difference(
        kind=kind, op=op, tier=Tier.SAFETY, prop="P16", places=places,
        summary=f"{', '.join(places.actors)} do not get their bytes back in {pages(places.count())}, but others{theirs}",
        expected=f"content {want}, its own last write",
        seen="bytes that nobody wrote" if got == NO_TAG else f"content {got}",
        why="neither merging, swap, migration nor what others do may change what a process reads",
    )  # fmt: skip


def _present(population: Population, states: Record, ret: Fields) -> set[tuple[str, str, int]]:
    found = set()
    for name, areas in states.items():
        process = population.process(name, ret)
        for area, runs in ret.mapping(areas, name).items():
            if area not in process.areas:
                raise ret.fail(f"{name} has no area {area!r}")
            letters = decode_states(runs, process.areas[area].npages, f"{ret.where}: {name}.{area}")
            found |= {(name, area, i) for i, letter in enumerate(letters) if letter == "P"}
    return found


def _swapped_together(before: Census, now: Census) -> Iterator[Difference]:
    """All ptes of a page get the same swap entry, and no other page has it."""
    here = {pte.place: pte for pte in now.ptes}
    apart: list[census.CensusPte] = []
    owner: dict[int, int] = {}
    for pfn, ptes in before.frames.items():
        slots = {here[p.place].value for p in ptes if here[p.place].state == "S"}
        if len(slots) > 1 or any(owner.setdefault(slot, pfn) != pfn for slot in slots):
            apart.extend(ptes)
    if apart:
        yield Difference(
            kind="swap-offset", op="reclaim", tier=Tier.SAFETY, prop="P1", places=census.places_of(apart),
            summary=f"{pages(len(apart))} of one frame were given several swap slots, or share one with another frame",
            expected="one slot for each frame", seen="others", why="all ptes of a page get its one swap entry (try_to_unmap_one)",
        )  # fmt: skip

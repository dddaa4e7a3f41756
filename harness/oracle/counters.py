# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters: those of ksmd and of vmstat, of each process, and of the anon_vma slab cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.findings import Tier
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference, Since, who
from harness.oracle.model import Model
from harness.oracle.objects import OBJECTS, Objects, Seen
from harness.oracle.records import Fields, decimal
from harness.oracle.trees import Chain

_SCANS = ("scan", "batch", "run", "unmergeable", "set")
_FAULTS = ("write", "fill", "grab", "scan", "batch", "run", "unmergeable", "mlock", "mremap", "merge_any")
_READS = ("read", "touch", "verify", "write", "fill", "mlock")
RMAP_ITEM_BYTES = 64  # sizeof(struct ksm_rmap_item) on 64-bit machines, if the guest does not tell it

_WHY = {
    "pages_shared": "stable nodes with an item (stable_tree_append, remove_rmap_item_from_tree, remove_node_from_stable_tree)",
    "pages_sharing": "stable items beyond the first of each node (stable_tree_append, remove_rmap_item_from_tree)",
    "pages_unshared": "items in the unstable tree (unstable_tree_search_insert, remove_rmap_item_from_tree)",
    "pages_volatile": "rmap_items in neither tree (pages_volatile_show)",
    "full_scans": "ksmd adds one at the list's end, run=2 resets it",
    "stable_node_chains": "one for each content with more pages than max_page_sharing allows one node",
    "stable_node_dups": "stable nodes in chains",
    "cow_ksm": "one for each write fault on a KSM pte, unmerging included (do_wp_page)",
    "ksm_swpin_copy": "one for each page that came from swap and could not be shared (ksm_might_need_to_copy)",
    "ksm_merging_pages": "the mm's items in the stable tree, and on some kernels what it inherited at fork",
    "ksm_zero_pages": "ptes that map the page of zeros because ksmd put it there (ksm_map_zero_page, ksm_might_unmap_zero_page)",
    "general_profit": "(pages_sharing + ksm_zero_pages) pages less the size of each rmap_item (general_profit_show)",
    "ksm_process_profit": "(ksm_merging_pages + ksm_zero_pages) pages less the size of each of the mm's rmap_items",
    "pages_scanned": "pages that ksmd looked at (ksm_do_scan)",
    "pages_skipped": "pages that smart_scan left out (should_skip_rmap_item)",
    "SwapFree": "each swap entry in a pte takes a slot of the swap device",
    "ksm_rmap_items": "the mm's rmap_items, and on some kernels what it inherited at fork",
    **dict.fromkeys(
        (
            "run",
            "merge_across_nodes",
            "stable_node_chains_prune_millisecs",
            "use_zero_pages",
            "max_page_sharing",
            "smart_scan",
        ),
        "what was written is read again, unless it was refused (run_store and its like)",
    ),
}


# Slab caches, and by whom their objects are given back.
_REFERENCES = {
    "anon_vma": "each item gives its anon_vma back when it leaves the stable tree (put_anon_vma on every path)",
    "mm_struct": "the mm of a process that is gone is given back when ksmd comes by (scan_get_next_rmap_item: mmdrop)",
    **OBJECTS,
}


@dataclass
class Baseline:
    """What was seen first, and by how much a counter that was found wrong has been off since."""

    vmstat: dict[str, tuple[int, int]] = field(default_factory=dict)  # observed, and the model's at that time
    slab: tuple[int, int, int] | None = None  # observed, and the model's anon_vmas of areas and of all else
    mms: tuple[int, int] | None = None  # observed, and the model's
    resident: dict[Mm, tuple[int, int]] = field(default_factory=dict)  # RssAnon + VmSwap in pages, and the model's
    off: dict[str, int] = field(default_factory=dict)


class Counters:
    """Compares the counters of observations with the model's."""

    def __init__(self, model: Model, page_size: int, cpus: int, item_bytes: int = RMAP_ITEM_BYTES) -> None:
        self.model = model
        self.item_bytes = item_bytes
        self.page_size = page_size
        self.cpus = max(1, cpus)
        self.base = Baseline()
        self._objects = Objects(model)

    def judge(self, obs: Fields, since: Since) -> list[Difference]:
        """All differences; none where the model cannot tell."""
        seen = [*self._processes_size(obs, since), *self._slab(obs, since), *self._mms(obs, since), *self._swap(obs, since)]
        if not self.model.memory.unsure:
            objects = self._objects.judge(obs, since.last(*_SCANS, "exit"))
            seen = [*objects, *self._ksm(obs, since), *self._vmstat(obs, since), *self._processes(obs, since), *seen]
        return list(self._compare(seen))

    def _compare(self, seen: list[Seen]) -> Iterator[Difference]:
        wrong: dict[str, list[Seen]] = {}
        for s in seen:
            key = f"{s.name} of {s.mm.name}" if s.mm else s.name
            off = self.base.off.get(key, 0)
            if not s.low + off <= s.seen <= s.high + off:
                wrong.setdefault(s.name, []).append(s)
                self.base.off[key] = s.seen - (s.low if s.seen < s.low else s.high)
        for name, cases in wrong.items():
            yield _difference(name, cases)

    def _ksm(self, obs: Fields, since: Since) -> Iterator[Seen]:
        """Exact whenever ksmd stands still, but for chains, whose pruning goes by the clock."""
        ksmd, tree = self.model.ksmd, self.model.ksmd.tree
        files = obs.record("ksm")
        op = since.last(*_SCANS)
        exact = {
            "pages_shared": tree.pages_shared,
            "pages_sharing": tree.pages_sharing,
            "pages_unshared": ksmd.pages_unshared,
            "pages_volatile": ksmd.pages_volatile,
            "full_scans": ksmd.full_scans,
            "run": 0 if self.model.memory.setup.stepped_by_run and self.model.run == 1 else self.model.run,
            "merge_across_nodes": int(tree.merge_across_nodes),
            "stable_node_chains_prune_millisecs": tree.prune_millisecs,
            "use_zero_pages": int(ksmd.use_zero_pages),
        }
        if tree.max_page_sharing is not None:
            exact["max_page_sharing"] = tree.max_page_sharing
        zeros = self.model.memory.ksm_zero_pages
        exact["ksm_zero_pages"] = zeros
        # As 6.4 and 6.5 have it where pages of zeros are not counted (general_profit_show).
        told = zeros if self.model.memory.semantics.has_zero_pages_counter else 0
        exact["general_profit"] = self._profit(tree.pages_sharing + told, ksmd.rmap_items)
        exact["smart_scan"] = int(ksmd.smart_scan)
        yield from self._since_first(files, "pages_scanned", ksmd.pages_scanned, op)
        yield from self._since_first(files, "pages_skipped", ksmd.pages_skipped, op)
        for name, value in exact.items():
            if (number := decimal(files.get(name))) is not None:
                yield Seen(name, value, value, number, op)
        yield from self._chains(files, op)

    def _profit(self, saved: int, items: int) -> int:
        return saved * self.page_size - items * self.item_bytes

    def _chains(self, files: Mapping[str, Any], op: str) -> Iterator[Seen]:
        tree = self.model.ksmd.tree
        doubtful = [r for r in tree.roots.values() if isinstance(r, Chain) and r.doubtful]
        few, dups = len(doubtful), sum(len(c.dups) for c in doubtful)
        reason = "a chain is pruned or collapsed when a search passes it, with time for stable_node_chains_prune_millisecs"
        for name, value, slack in (("stable_node_chains", tree.chains, few), ("stable_node_dups", tree.dups, dups)):
            if (number := decimal(files.get(name))) is not None:
                yield Seen(name, max(0, value - slack), value, number, op, reason if slack else "")

    def _vmstat(self, obs: Fields, since: Since) -> Iterator[Seen]:
        """Exact as differences from the workload's first observation, as all tasks stand still."""
        events = obs.record("vmstat")
        memory, semantics = self.model.memory, self.model.semantics
        values = (
            (semantics.has_cow_ksm, "cow_ksm", memory.cow_ksm, _FAULTS),
            (semantics.has_swpin_copy, "ksm_swpin_copy", memory.ksm_swpin_copy, _READS),
        )
        for counted, name, value, among in values:
            if not counted:
                continue
            yield from self._since_first(events, name, value, since.last(*among))

    def _since_first(self, counters: Mapping[str, Any], name: str, value: int, op: str) -> Iterator[Seen]:
        """A counter that only grows, from the workload's first observation on."""
        if (number := decimal(counters.get(name))) is not None:
            first, then = self.base.vmstat.setdefault(name, (number, value))
            yield Seen(name, value - then, value - then, number - first, op)

    def _processes(self, obs: Fields, since: Since) -> Iterator[Seen]:
        op = since.last(*_SCANS, "fork")
        semantics = self.model.semantics
        for name, mm in self.model.actors.items():
            proc = _proc(obs, name)
            stat = proc.data.get("stat") if semantics.has_ksm_stat else None
            merging = decimal(proc.data.get("merging")) if semantics.has_merging_pages else None
            items = decimal(stat.get("ksm_rmap_items")) if isinstance(stat, Mapping) else None
            seen = (
                ("ksm_merging_pages", merging, self.model.merging_inheritance, mm.merging),
                ("ksm_rmap_items", items, self.model.items_inheritance, mm.rmap_items),
            )
            for what, number, inheritance, tally in seen:
                if number is not None:
                    value = inheritance.expect(tally, number)
                    yield Seen(what, value, value, number, op, mm=mm)
            if isinstance(stat, Mapping):
                yield from self._zeros_and_profit(stat, mm, op)

    def _zeros_and_profit(self, stat: Mapping[str, Any], mm: Mm, op: str) -> Iterator[Seen]:
        """The profit is judged against the other numbers of the same file, which are judged themselves."""
        names = ("ksm_zero_pages", "ksm_merging_pages", "ksm_rmap_items", "ksm_process_profit")
        zeros, merging, items, profit = (decimal(stat.get(name)) for name in names)
        if zeros is not None:
            yield Seen("ksm_zero_pages", mm.zero_pages, mm.zero_pages, zeros, op, mm=mm)
        if merging is not None and items is not None and profit is not None:
            value = self._profit(merging + (zeros or 0), items)
            yield Seen("ksm_process_profit", value, value, profit, op, mm=mm)

    def _processes_size(self, obs: Fields, since: Since) -> Iterator[Seen]:
        """RssAnon and VmSwap, which each task keeps apart up to 64 events (mm/memory.c: SPLIT_RSS_COUNTING)."""
        slack = 64 * self.cpus
        reason = "the rest of the process comes on top, and a task adds its own events up in batches of 64"
        for name, mm in self.model.actors.items():
            status = _proc(obs, name).data.get("status")
            if not isinstance(status, Mapping):
                continue
            sizes = [decimal(status.get(key)) for key in ("RssAnon", "VmSwap")]
            if sizes[0] is None or sizes[1] is None:
                continue
            rss, swap = (kb * 1024 // self.page_size for kb in sizes if kb is not None)
            present = sum(1 for p in mm.ptes.values() if p.page is not None and not p.page.file)
            swapped = sum(1 for p in mm.ptes.values() if p.entry is not None)
            first, then = self.base.resident.setdefault(mm, (rss + swap, present + swapped))
            other = max(0, first - then) + 3 * slack
            op = since.last()
            yield Seen("RssAnon", max(0, present - slack), present + other, rss, op, reason, mm)
            yield Seen("VmSwap", max(0, swapped - slack), swapped + other, swap, op, reason, mm)

    def _slab(self, obs: Fields, since: Since) -> Iterator[Seen]:
        """Judged when the processes' other memory holds as many anon_vmas as at the first reading."""
        slab = obs.data.get("slab")
        number = decimal(slab.get("anon_vma")) if isinstance(slab, Mapping) else None
        if number is None or number < 0 or any(mm.executed for mm in self.model.actors.values()):
            return
        memory = self.model.memory
        areas, other = len(memory.anon_vmas.live), len(memory.other_anon_vmas.live)
        first, then, other_then = self.base.slab = self.base.slab or (number, areas, other)
        if other != other_then:
            return
        delta = areas - then
        yield Seen("anon_vma", delta - 2, delta + 2, number - first, since.last("exit"), "the rest of the guest has some too")

    def _mms(self, obs: Fields, since: Since) -> Iterator[Seen]:
        """mm_structs: of processes that live, and of those that ksmd has not yet seen to be dead (ksm_exit)."""
        slab = obs.data.get("slab")
        number = decimal(slab.get("mm_struct")) if isinstance(slab, Mapping) else None
        if number is None or number < 0:
            return
        dead = sum(1 for mm in self.model.ksmd.mms if mm.dead)
        mms = len(self.model.actors) + dead
        first, then = self.base.mms = self.base.mms or (number, mms)
        slack = self.cpus + 1  # kernel threads keep the mm that they were switched to from (sched/core.c: context_switch)
        reason = "each CPU may keep one that is gone, and the rest of the guest has some too"
        yield Seen("mm_struct", mms - then - slack, mms - then + slack, number - first, since.last("exit"), reason)

    def _swap(self, obs: Fields, since: Since) -> Iterator[Seen]:
        """Of the swap device no less is used than ptes refer to; per-CPU caches of slots and other processes use more."""
        meminfo = obs.record("meminfo")
        total, free = decimal(meminfo.get("SwapTotal")), decimal(meminfo.get("SwapFree"))
        if total is None or free is None:
            return
        entries = {p.entry for mm in self.model.actors.values() for p in mm.ptes.values() if p.entry is not None}
        high = (total * 1024) // self.page_size - len(entries)
        yield Seen("SwapFree", 0, high, free * 1024 // self.page_size, since.last(), "others swap too")


def _proc(obs: Fields, name: str) -> Fields:
    return Fields(obs.mapping(obs.record("procs").get(name), name), obs.where)


def _difference(name: str, cases: list[Seen]) -> Difference:
    one = cases[0]
    mms = [c.mm for c in cases if c.mm is not None]
    what = f"{name} of {who(mms)}" if mms else name
    expected = str(one.low) if one.low == one.high else f"{one.low} to {one.high} ({one.reason})"
    if name in _REFERENCES:
        summary = f"the {name} slab cache has {one.seen - (one.low + one.high) // 2:+d} objects that nothing accounts for"
        why = _REFERENCES[name]
    else:
        delta = "rose by" if name in ("cow_ksm", "ksm_swpin_copy", "pages_scanned", "pages_skipped") else "is"
        summary = f"{what} {delta} {one.seen} where the model has {expected.split(' (')[0]}, after {one.op}"
        why = _WHY.get(name, "ptes that go to swap are taken from RssAnon and added to VmSwap of the mm they belong to")
    kind, tier = ("reference-leak", Tier.SAFETY) if name in _REFERENCES else (f"counter-{name}", Tier.ACCOUNTING)
    return Difference(
        kind=kind, op=one.op, tier=tier, summary=summary,
        expected=f"{name} {expected}", seen=f"{name} {one.seen}", why=why, actors=tuple(mm.name for mm in mms),
    )  # fmt: skip

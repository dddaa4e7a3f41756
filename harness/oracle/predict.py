# SPDX-License-Identifier: GPL-2.0-or-later
"""The model's prediction as the record that a correct kernel's guest would write."""

from __future__ import annotations

from itertools import count
from typing import Any

from harness.oracle.address_space import Area, Mm
from harness.oracle.memory import Page, SwapEntry
from harness.oracle.model import Model
from harness.oracle.runs import (
    KPF_HWPOISON,
    KPF_KSM,
    KPF_MLOCKED,
    KPF_REFERENCED,
    KPF_SWAPCACHE,
    KPF_THP,
    KPF_UNEVICTABLE,
    KPF_ZERO_PAGE,
    encode,
)  # fmt: skip
from harness.oracle.stable_tree import StableTree

_MMAP_ANON = 1 << 11 | 1 << 12
_ZERO_FRAME = 7
_POISON = 27


class Predictor:
    """Renders observations of one model; frames and swap offsets that were never observed get numbers of its own."""

    def __init__(self, model: Model, page_size: int = 4096) -> None:
        self.model = model
        self.page_size = page_size
        self._numbers = count(1 << 20)
        self._frames: dict[tuple[Page, int], int] = {}  # of a page, since it was moved
        self._offsets: dict[SwapEntry, int] = {}

    def obs(self, label: str = "", *, slab: bool = False) -> dict[str, Any]:
        """The fields of an ``obs`` record, without ``seq``, ``t``, ``p`` and ``crc``."""
        model = self.model
        memory = model.memory
        record: dict[str, Any] = {
            "kind": "obs", "label": label, "stable": True, "reads": 2,
            "ksm": ksm_files(model),
            "vmstat": {"cow_ksm": str(memory.cow_ksm), "ksm_swpin_copy": str(memory.ksm_swpin_copy)},
            "meminfo": {},
            "left": sum(1 for page in memory.unmapped if page.extra_refs and page.entry is None),
            "procs": {name: self._actor(mm) for name, mm in model.actors.items()},
        }  # fmt: skip
        if slab:
            mms = len(model.actors) + sum(1 for mm in model.ksmd.mms if mm.dead)
            record["slab"] = {
                "anon_vma": 100 + len(memory.anon_vmas.live),
                "mm_struct": 10 + mms,
                "ksm_rmap_item": sum(len(mm.items) for mm in model.ksmd.mms),
                "ksm_stable_node": len(model.ksmd.tree.nodes()) + model.ksmd.tree.chains,
                "ksm_mm_slot": 1 + len(model.ksmd.mms),
            }
        return record

    def states(self) -> dict[str, dict[str, list[list[Any]]]]:
        """The states that follow an attempt to reclaim."""
        return {
            name: {a: _states(mm, area) for a, area in mm.areas.items()} for name, mm in self.model.actors.items() if mm.areas
        }

    def _actor(self, mm: Mm) -> dict[str, Any]:
        present = sum(1 for p in mm.ptes.values() if p.page is not None)
        swapped = sum(1 for p in mm.ptes.values() if p.entry is not None)
        kb = self.page_size // 1024
        return {
            "pid": mm.pid,
            "areas": {name: self._area(mm, area) for name, area in mm.areas.items()},
            "merging": mm.merging.value,
            "stat": {"ksm_rmap_items": mm.rmap_items.value},
            "status": {"RssAnon": (present + 20) * kb, "VmSwap": swapped * kb, "VmLck": 0},
        }

    def _area(self, mm: Mm, area: Area) -> list[list[Any]]:
        pages: list[tuple[Any, ...]] = []
        for addr in range(area.start, area.start + area.npages):
            pte = mm.ptes.get(addr)
            if pte is None:
                pages.append(("N",))
            elif pte.page is not None:
                pages.append(("P", self._frame(pte.page), _flags(pte.page), pte.page.mapcount))
            elif pte.entry is not None:
                pages.append(("S", self._offset(pte.entry)))
            elif pte.poison:
                pages.append(("X", _POISON))
            else:
                pages.append(("P", _ZERO_FRAME, KPF_ZERO_PAGE, 0))
        return encode(pages)

    def _frame(self, page: Page) -> int:
        if page.pfn is not None and not page.moves:
            return page.pfn
        return self._frames.setdefault((page, page.when if page.moves else 0), next(self._numbers))

    def _offset(self, entry: SwapEntry) -> int:
        if entry.offset is not None:
            return entry.offset
        return self._offsets.setdefault(entry, next(self._numbers))


def ksm_files(model: Model) -> dict[str, str]:
    """The counters of /sys/kernel/mm/ksm."""
    ksmd, tree = model.ksmd, model.ksmd.tree
    files = {
        "run": model.run,
        "full_scans": ksmd.full_scans,
        "pages_shared": tree.pages_shared,
        "pages_sharing": tree.pages_sharing,
        "pages_unshared": ksmd.pages_unshared,
        "pages_volatile": ksmd.pages_volatile,
    }
    if tree.max_page_sharing is not None:
        files |= {"max_page_sharing": tree.max_page_sharing} | _chains(tree)
    return {name: str(value) for name, value in files.items()}


def _chains(tree: StableTree) -> dict[str, int]:
    return {"stable_node_chains": tree.chains, "stable_node_dups": tree.dups}


def _flags(page: Page) -> int:
    flags = _MMAP_ANON | (KPF_KSM if page.ksm else 0) | (KPF_SWAPCACHE if page.entry is not None else 0)
    flags |= KPF_HWPOISON if page.poisoned else 0
    flags |= KPF_REFERENCED if page.referenced else 0
    flags |= KPF_THP if page.compound is not None else 0
    return flags | (KPF_MLOCKED | KPF_UNEVICTABLE if page.mlock.marked else 0)


def _states(mm: Mm, area: Area) -> list[list[Any]]:
    runs: list[list[Any]] = []
    for addr in range(area.start, area.start + area.npages):
        pte = mm.ptes.get(addr)
        state = "N" if pte is None else "S" if pte.entry is not None else "X" if pte.poison else "P"
        if runs and runs[-1][1] == state:
            runs[-1][0] += 1
        else:
            runs.append([1, state])
    return runs

# SPDX-License-Identifier: GPL-2.0-or-later
"""How a guest was set up, where that changes what its kernel does: as init read it back and told it (``hello``: ``settings``).

Which configuration asked for it is not known here, and does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.oracle.records import decimal


@dataclass(frozen=True)
class Setup:
    """The defaults are those of the usual guest."""

    # Reads from swap are over when they return, and a page that one pte holds skips the swap cache (SWP_SYNCHRONOUS_IO of
    # zram; mm/memory.c: do_swap_page).
    swap_is_synchronous: bool = False
    # Generations instead of active and inactive lists: ageing looks into page tables and takes young bits away before any
    # walk over an anon_vma comes there (mm/vmscan.c: walk_pte_range, lru_gen_look_around).
    lru_gen: bool = False
    # Reading a page from swap brings its neighbours in the device, to the node of whoever reads (vm.page-cluster;
    # mm/swap_state.c: swap_cluster_readahead).
    swap_readahead: bool = False
    # Pages of each huge page that memory gets which did not ask for one, from large to small (mm/memory.c: alloc_anon_folio).
    huge_pages: tuple[int, ...] = ()
    # ksmd leaves pages out that have not merged for long (mm/ksm.c: should_skip_rmap_item).
    smart_scan: bool = False
    # Samples of all memory are made old every few ms: a walk takes the page's young bits away, of all mms, and the page
    # remembers that as one reference, which the next walk counts whatever memcg it is for (DAMON_STAT, 6.17 on:
    # mm/damon/ops-common.c: damon_ptep_mkold; mm/rmap.c: folio_referenced_one).
    damon: bool = False
    # ksmd is stepped by run=1 for as long as one scan takes, so that run is 0 whenever somebody looks (begin: stepping).
    stepped_by_run: bool = False


USUAL = Setup()


def setup_from(hello: Mapping[str, Any], begin: Mapping[str, Any]) -> Setup:
    """What a ``hello`` record and a workload's ``begin`` tell; the usual guest if they tell nothing."""
    settings = hello.get("settings")
    told = settings if isinstance(settings, Mapping) else {}
    return Setup(
        swap_is_synchronous=str(told.get("swap", "")).startswith("/dev/zram"),
        lru_gen=bool(int(str(told["lru_gen"]), 16) & 1) if _is_hex(told.get("lru_gen")) else False,
        huge_pages=_huge_pages(told.get("huge_kb"), decimal(hello.get("page_size")) or 4096),
        swap_readahead=bool(decimal(told.get("page_cluster"))),
        smart_scan=bool(decimal(told.get("smart_scan"))),
        damon=told.get("damon_stat") == "Y",
        stepped_by_run=begin.get("stepping") == "run",
    )


def _huge_pages(sizes: object, page_size: int) -> tuple[int, ...]:
    told = [decimal(kb) or 0 for kb in sizes] if isinstance(sizes, list) else []
    return tuple(sorted((kb * 1024 // page_size for kb in told if kb), reverse=True))


def _is_hex(value: object) -> bool:
    try:
        int(str(value), 16)
    except ValueError:
        return False
    return value is not None

# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between kernels, as data.  The model asks these fields; nothing in it compares version numbers."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.oracle.runs import KPF_REFERENCED


@dataclass(frozen=True)
class Semantics:
    """How one kernel behaves where kernels differ.  The defaults are those of 6.1."""

    # "2.6.33": a child joins its parent's anon_vma.  "avc" (2.6.34 on): it has one of its own and is linked in its
    # ancestors', never the reverse (mm/rmap.c: anon_vma_fork).
    era: str = "avc"
    # mm/ksm.c: cmp_and_merge_page compares the checksum before it searches the stable tree (6.7 on).
    cksum_first: bool = False
    # The checksum is xxh64 (mm/ksm.c: calc_checksum, 5.0 on; before, jhash2), so that it is the same for some pages that
    # workloads write as for the page of zeros.
    xxh64_checksum: bool = True
    # Of two equal pages the one that ksmd meets last becomes the KSM page (mm/ksm.c: cmp_and_merge_page,
    # try_to_merge_two_pages), in all kernels so far.
    met_last_stays: bool = True
    # An item that was in the stable tree, or nearly, has neither checksum nor age any more: its linear_page_index lies over
    # them, and is 0 then (mm/ksm.c: remove_rmap_item_from_tree, remove_node_from_stable_tree, break_cow; 7.3 on).
    merge_forgets_checksum: bool = False
    # /proc/PID/ksm_merging_pages and ksm_stat of a child start with its parent's numbers, as dup_mm copies them and
    # ksm_fork (include/linux/ksm.h) resets nothing, before 6.18.  None: learnt from the first fork (``inheritance``).
    merging_inherited_at_fork: bool | None = None
    # What is counted, and judged if so: in vmstat cow_ksm (mm/memory.c: do_wp_page) and ksm_swpin_copy (mm/ksm.c:
    # ksm_might_need_to_copy).
    has_cow_ksm: bool = True
    has_swpin_copy: bool = True
    has_merging_pages: bool = True  # /proc/PID/ksm_merging_pages
    has_ksm_stat: bool = True  # /proc/PID/ksm_stat
    # max_page_sharing limits the items of a stable node, more make a chain (mm/ksm.c: is_page_sharing_candidate).
    has_chains: bool = True
    # A chain is made a plain node again as soon as a search finds one dup in it, full or not; before, only if that one has
    # room, and by the clock (mm/ksm.c: stable_node_dup; 6.11 on, for which the file advisor_mode of 6.8 stands).
    single_dup_leaves_chain: bool = False
    # A search of the stable tree that meets a node without a page ends there, with nothing found (mm/ksm.c: stable_tree_search
    # before 4.4; then "goto again"): whether an equal page is found depends on the tree's shape.
    stale_node_ends_search: bool = False
    has_zero_pages_counter: bool = False  # ksm_zero_pages (6.6 on)
    has_merge_any: bool = False  # prctl(PR_SET_MEMORY_MERGE) (6.4 on, with the file general_profit)
    # A swap pte remembers that its page was PageAnonExclusive (5.19 on: __HAVE_ARCH_PTE_SWP_EXCLUSIVE); before, a
    # page whose swap cache cannot be dropped is copied.
    swap_ptes_keep_exclusive: bool = True
    # A page that one pte maps and no swap pte means is written to where it is, whoever else has a reference (mm/memory.c:
    # do_wp_page asks reuse_swap_page, before 5.9).  Since, a reference more makes it a copy.
    wp_counts_users: bool = False
    # The same of a KSM page, which is an ordinary one then, where nobody has another reference (mm/ksm.c: reuse_ksm_page, 5.1
    # to 5.8).
    wp_reuses_ksm: bool = False
    # A page that its last mapper has copied leaves the swap cache (mm/memory.c: wp_page_copy, 5.13 on).  Before, it waits there
    # for reclaim.
    cow_frees_swap_cache: bool = True
    # A page in the swap cache serves all that have its anon_vma's root (mm/ksm.c: ksm_might_need_to_copy).  Before 2.6.36 it
    # does those only whose own anon_vma it is.
    swap_cache_by_root: bool = True
    # 2 in run takes the stable nodes of pages that nobody maps away, and what comes back from the swap cache while it is there
    # is a copy (mm/ksm.c: remove_all_stable_nodes, ksm_might_need_to_copy, 3.9 on).  Before, a node goes when its page does.
    unmerging_empties_tree: bool = True
    # A KSM page can be moved (3.9 on).  Before, only off memory that goes (mm/migrate.c: unmap_and_move, "offlining").
    migrates_ksm: bool = True
    # madvise() says that a page could not be taken out of use (mm/madvise.c: madvise_hwpoison; before 3.13 a "ret" inside of
    # another loses it), and that a memory error could not be handled ("Ignore return value for now", before 4.5).
    madvise_tells_offline: bool = True
    madvise_tells_poison: bool = True
    # A child's vma may take over an anon_vma of its ancestors that has no vma of its own any more (mm/rmap.c: anon_vma_clone,
    # 4.0 on).
    reuses_anon_vmas: bool = True
    # mlock sets PG_mlocked on every page that is present, KSM pages too (mm/mlock.c since 5.18: mlock_pte_range).
    # Before, a KSM pte of a writable area stayed unmarked (mm/gup.c refuses a read-only pte under FOLL_WRITE), and munlock
    # counted nothing but asked all other mappers (mm/rmap.c: try_to_munlock).
    mlock_marks_ksm: bool = True
    # Reclaim's walk that unmaps makes a young pte old and ends there, with what came before it unmapped (mm/rmap.c:
    # try_to_unmap_one without TTU_IGNORE_ACCESS, before 5.11): so at one of another memcg, which the walk for references
    # leaves out.
    unmap_stops_at_young: bool = False
    # KPF_KSM in /proc/kpageflags tells a KSM page.  In 6.12 it stands on every anonymous page (fs/proc/page.c:
    # stable_page_flags tests for any bit of PAGE_MAPPING_KSM), and is not judged then.
    kpf_ksm_tells: bool = True
    # Observations tell KPF_REFERENCED: those of our guests do since the bit is judged.
    kpf_referenced_told: bool = False
    # Parts of a huge page that hold zeros only give way to the page of zeros when it is split (mm/migrate.c:
    # try_to_map_unused_to_zeropage, 6.12 on; shrink_underused came in the same series).
    split_maps_zeros: bool = False
    # KSM's items, slots or nodes go back to their slab caches after a grace period (no kernel from 2.6.32 to 7.3): how many
    # there are tells nothing of one moment then.
    frees_after_grace: bool = False
    # memory_failure() takes a poisoned KSM page from its mappers (mm/memory-failure.c: collect_procs_ksm, 6.4 on).
    # Before, it refuses: hwpoison_user_mappings "can't handle KSM pages".
    hwpoison_takes_ksm: bool = False


def _names(hello: Mapping[str, Any], key: str) -> frozenset[str]:
    value = hello.get(key)
    return frozenset(v for v in value if isinstance(v, str)) if isinstance(value, list) else frozenset()


def _told_flags(hello: Mapping[str, Any]) -> int:
    """The bits of /proc/kpageflags that observations have, as far as ``hello`` says."""
    try:
        return int(str(hello.get("page_flags", "0")), 16)
    except ValueError:
        return 0


# Files of /sys/kernel/mm/ksm that came after 2.6.33, each in some configurations only.
_LATER_FILES = frozenset({"merge_across_nodes", "max_page_sharing", "use_zero_pages", "stable_node_chains"})


def _era(hello: Mapping[str, Any]) -> str:
    """By the slab cache of the links between vmas and anon_vmas, which came with a child's own anon_vma (2.6.34).

    Where no cache is told of by KSM's files: those that came later are in some configurations only.
    """
    slabs, files = _names(hello, "slabs"), _names(hello, "ksm_files")
    if "anon_vma" in slabs and files:
        return "avc" if "anon_vma_chain" in slabs else "2.6.33"
    return "avc" if not files or files & _LATER_FILES else "2.6.33"


UNSHOWN = (
    "cksum_first", "single_dup_leaves_chain", "stale_node_ends_search", "has_merge_any", "swap_ptes_keep_exclusive",
    "mlock_marks_ksm", "split_maps_zeros", "hwpoison_takes_ksm", "wp_counts_users", "wp_reuses_ksm", "swap_cache_by_root",
    "migrates_ksm", "reuses_anon_vmas", "madvise_tells_offline", "madvise_tells_poison", "xxh64_checksum",
    "cow_frees_swap_cache", "merge_forgets_checksum", "unmerging_empties_tree", "unmap_stops_at_young",
    "met_last_stays", "frees_after_grace",
)  # fmt: skip
"""Fields that no file and no counter of a running kernel shows: its source tells them, or a measurement (``calibration``)."""

LEARNT = ("merging_inherited_at_fork",)
"""Fields that the oracle learns from what it judges, unless the source tells them."""


DECLARABLE: Mapping[str, tuple[bool | str, ...]] = {
    f.name: ("avc", "2.6.33") if f.name == "era" else (True, False)
    for f in dataclasses.fields(Semantics)
    if f.name != "kpf_referenced_told"  # which is our guest's
}
"""Fields that a kernel may change on purpose, and what they may be."""


def semantics_of(hello: Mapping[str, Any], *known: Mapping[str, bool | str]) -> Semantics:
    """What a guest shows of itself, and over it what is known better, each over those before: measured, from source, declared."""
    semantics = semantics_from_hello(hello)
    for fields in known:
        semantics = dataclasses.replace(semantics, **typing.cast("dict[str, Any]", fields))
    return semantics


def semantics_from_hello(hello: Mapping[str, Any]) -> Semantics:
    """Tell the kernel's behaviour from the files and counters that its guest found (the journal's ``hello`` record).

    Where a behaviour leaves no trace there (``UNSHOWN``), one that came at about the same time stands for it, for want of
    anything better: smart_scan (6.7) for the checksum's place, cow_ksm (5.18) for mlock (5.18), PageAnonExclusive (5.19),
    wp_page_copy (5.13) and unmapping (5.11), general_profit (6.4) for hwpoison, max_page_sharing (4.13) for a search that goes
    on behind a stale node (4.4), anon_vmas that are used again (4.0), madvise (4.5) and do_wp_page (5.9), merge_across_nodes or
    any later file (3.9) for migration, unmerging and madvise (3.13).
    """
    files, events, proc = (_names(hello, k) for k in ("ksm_files", "vmstat_keys", "proc_files"))
    smart = "smart_scan" in files
    cow = "cow_ksm" in events
    chains = "max_page_sharing" in files
    return Semantics(
        era=_era(hello),
        cksum_first=smart,
        has_cow_ksm=cow,
        has_swpin_copy="ksm_swpin_copy" in events,
        has_merging_pages="ksm_merging_pages" in proc,
        has_ksm_stat="ksm_stat" in proc,
        has_chains=chains,
        stale_node_ends_search=not chains,
        wp_counts_users=not chains,
        reuses_anon_vmas=chains,
        migrates_ksm=bool(files & _LATER_FILES),
        unmerging_empties_tree=bool(files & _LATER_FILES),
        madvise_tells_offline=bool(files & _LATER_FILES),
        madvise_tells_poison=chains,
        has_zero_pages_counter="ksm_zero_pages" in files,
        has_merge_any="general_profit" in files,
        single_dup_leaves_chain="advisor_mode" in files,
        swap_ptes_keep_exclusive=cow,
        cow_frees_swap_cache=cow,
        mlock_marks_ksm=cow,
        unmap_stops_at_young=not cow,
        hwpoison_takes_ksm="general_profit" in files,
        split_maps_zeros="shrink_underused" in _names(hello, "thp_files"),
        kpf_ksm_tells=hello.get("kpf_ksm_on_anon") is not True,
        kpf_referenced_told=bool(_told_flags(hello) & KPF_REFERENCED),
    )

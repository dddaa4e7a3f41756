# SPDX-License-Identifier: GPL-2.0-or-later
"""What a second witness saw of the kernel's own structures at one moment: KSM's trees and lists, and anon_vmas.

Plain data, by kernel addresses; it says what lies in memory, not what should.  0 stands for NULL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Item:
    """``struct ksm_rmap_item`` (mm/ksm.c; ``rmap_item`` before 6.1)."""

    address: int
    mm: int
    addr: int  # user address in bytes, without the flags in its low bits
    flags: int  # those bits: SEQNR_MASK, UNSTABLE_FLAG 0x100, STABLE_FLAG 0x200
    anon_vma: int  # of a stable item; the union's other member, the nid of an unstable one, is not told
    head: int  # of a stable item: the stable node


@dataclass(frozen=True, slots=True)
class Node:
    """``struct ksm_stable_node`` that has a page: in the tree itself, a dup of a chain, or on migrate_nodes."""

    address: int
    tree: int  # index into root_stable_tree; -1: on migrate_nodes
    chain: int  # the chain it is a dup of
    kpfn: int
    length: int  # rmap_hlist_len; -1 where there is no such field
    items: tuple[int, ...]  # its hlist, in order


@dataclass(frozen=True, slots=True)
class Chain:
    """``struct ksm_stable_node`` that is the head of a chain (rmap_hlist_len == STABLE_NODE_CHAIN)."""

    address: int
    tree: int
    dups: tuple[int, ...]  # in order


@dataclass(frozen=True, slots=True)
class AnonVma:
    """``struct anon_vma`` (include/linux/rmap.h)."""

    address: int
    root: int
    parent: int
    refcount: int
    children: int  # num_children (``degree`` before 6.0); -1 where there is none
    active: int  # num_active_vmas; -1 where there is none
    vmas: tuple[int, ...]  # of the interval tree, in its order


@dataclass(frozen=True, slots=True)
class Vma:
    """``struct vm_area_struct``, addresses in bytes."""

    address: int
    mm: int
    start: int
    end: int
    pgoff: int
    flags: int
    anon_vma: int
    chain: tuple[int, ...]  # the anon_vmas of anon_vma_chain, in the list's order


@dataclass(frozen=True, slots=True)
class Mm:
    """``struct mm_struct``."""

    address: int
    pid: int  # of the process (thread group) that has it; 0: none, it is dead
    comm: str
    users: int  # mm_users
    count: int  # mm_count
    vmas: tuple[int, ...]  # ascending; only those of private anonymous memory


@dataclass(frozen=True, slots=True)
class Slot:
    """``struct ksm_mm_slot``, in ksm_mm_head's order, without the head itself."""

    address: int
    mm: int
    items: tuple[int, ...]  # rmap_list, in order


@dataclass(frozen=True, slots=True)
class Page:
    """``struct page`` (or the folio) at a stable node's kpfn."""

    pfn: int
    flags: int  # page->flags, raw
    mapping: int  # raw, with PAGE_MAPPING_ANON and PAGE_MAPPING_KSM in its low bits
    index: int
    refcount: int
    mapcount: int  # number of ptes that map it, as page_mapcount() has it


@dataclass(frozen=True, slots=True)
class Graph:
    """One look.  Everything that is referred to and could be followed is there, under its address."""

    items: Mapping[int, Item] = field(default_factory=dict)  # all that a slot or a node has
    nodes: Mapping[int, Node] = field(default_factory=dict)
    chains: Mapping[int, Chain] = field(default_factory=dict)
    unstable: tuple[int, ...] = ()  # items in the unstable trees, in order
    anon_vmas: Mapping[int, AnonVma] = field(default_factory=dict)  # of all items and of all listed vmas, with their roots
    # Those of the look before to which nothing leads any more, as their memory is now: what holds one for good is seen here.
    former: Mapping[int, AnonVma] = field(default_factory=dict)
    # Of all listed mms, and of all listed interval trees; and those of files that have an anon_vma.
    vmas: Mapping[int, Vma] = field(default_factory=dict)
    mms: Mapping[int, Mm] = field(default_factory=dict)  # of all processes but init, and of all slots
    slots: tuple[Slot, ...] = ()
    pages: Mapping[int, Page] = field(default_factory=dict)  # by pfn
    counters: Mapping[str, int] = field(default_factory=dict)  # ksm_pages_shared and the like, as mm/ksm.c has them; seqnr
    faults: tuple[str, ...] = ()  # what could not be followed, in words: a poisoned pointer, a list without an end

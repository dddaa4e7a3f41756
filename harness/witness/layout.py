# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things lie: offsets of structures' members and addresses of variables.

They are looked up by type, not by version: each thing has the names that it has had, newest first.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_CODES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h",
          (4, False): "I", (4, True): "i", (8, False): "Q", (8, True): "q"}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A member that is a number or a pointer: ``offset`` and ``size`` in bytes."""

    offset: int
    size: int
    signed: bool = False


@dataclass(frozen=True)
class Layout:
    """All that is known from a kernel's debug information.  Names are those of STRUCTURES, VARIABLES and SYMBOLS."""

    byteorder: str  # "little", "big"
    structures: Mapping[str, Mapping[str, Field]]
    sizes: Mapping[str, int]  # of structures, in bytes
    variables: Mapping[str, tuple[int, Field]]  # address; the field's offset is within the variable
    symbols: Mapping[str, int]  # addresses

    @property
    def order(self) -> str:
        """The byte order as struct has it."""
        return "<" if self.byteorder == "little" else ">"

    def shape(self, name: str, *members: str) -> Shape:
        """A reader of some members of a structure at once.  KeyError if it has not all of them."""
        return Shape(self.order, [self.structures[name][member] for member in members])

    def has(self, name: str, member: str) -> bool:
        """The structure is known and has the member."""
        return member in self.structures.get(name, {})


class Shape:
    """Some members of a structure, which may overlap, unpacked at once in the order in which they were named."""

    def __init__(self, order: str, fields: Sequence[Field]) -> None:
        places = sorted({(f.offset, f.size, f.signed) for f in fields})
        self.start = places[0][0]
        words, at = [order], self.start
        for offset, size, signed in places:
            if offset < at:
                raise ValueError("members overlap in part")
            words.append(f"{offset - at}x{_CODES[size, signed]}")
            at = offset + size
        self._struct = struct.Struct("".join(words))
        self.size = self._struct.size
        indices = [places.index((f.offset, f.size, f.signed)) for f in fields]
        plain = indices == list(range(len(places)))
        self._pick: Callable[[tuple[int, ...]], tuple[int, ...]] | None
        self._pick = None if plain else _picker(indices)

    def unpack(self, buffer: bytes | memoryview, offset: int) -> tuple[int, ...]:
        """The members' values; the buffer begins with the first byte of the first member."""
        values = self._struct.unpack_from(buffer, offset)
        return values if self._pick is None else self._pick(values)


def _picker(indices: Sequence[int]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    if len(indices) == 1:
        only = indices[0]
        return lambda values: (values[only],)
    return operator.itemgetter(*indices)


# Name here: (types that it may be, {member here: members that it may be}, members that may be missing).
Names = tuple[str, ...]
STRUCTURES: Mapping[str, tuple[Names, Mapping[str, Names], frozenset[str]]] = {
    "item": (("struct ksm_rmap_item", "struct rmap_item"), {
        "rmap_list": ("rmap_list",), "anon_vma": ("anon_vma",), "mm": ("mm",), "address": ("address",), "head": ("head",),
        "next": ("hlist.next",), "pprev": ("hlist.pprev",),
        "parent": ("node.__rb_parent_color",), "right": ("node.rb_right",), "left": ("node.rb_left",),
    }, frozenset()),
    "node": (("struct ksm_stable_node", "struct stable_node"), {
        "parent": ("node.__rb_parent_color",), "right": ("node.rb_right",), "left": ("node.rb_left",),
        "head": ("head",), "dup_next": ("hlist_dup.next",), "dup_pprev": ("hlist_dup.pprev",),
        "list_next": ("list.next",), "list_prev": ("list.prev",),
        "hlist": ("hlist.first",), "kpfn": ("kpfn",), "length": ("rmap_hlist_len",), "nid": ("nid",),
    }, frozenset({"head", "dup_next", "dup_pprev", "list_next", "list_prev", "length", "nid"})),
    "slot": (("struct ksm_mm_slot", "struct mm_slot"), {
        "next": ("slot.mm_node.next", "mm_list.next"), "prev": ("slot.mm_node.prev", "mm_list.prev"),
        "mm": ("slot.mm", "mm"), "rmap_list": ("rmap_list",),
    }, frozenset()),
    "anon_vma": (("struct anon_vma",), {
        "root": ("root",), "parent": ("parent",), "refcount": ("refcount.counter",), "children": ("num_children", "degree"),
        "active": ("num_active_vmas",), "tree": ("rb_root.rb_root.rb_node", "rb_root.rb_node"),
    }, frozenset({"children", "active"})),
    "chain": (("struct anon_vma_chain",), {
        "vma": ("vma",), "anon_vma": ("anon_vma",), "next": ("same_vma.next",), "prev": ("same_vma.prev",),
        "parent": ("rb.__rb_parent_color",), "right": ("rb.rb_right",), "left": ("rb.rb_left",),
    }, frozenset()),
    "vma": (("struct vm_area_struct",), {
        "start": ("vm_start",), "end": ("vm_end",), "mm": ("vm_mm",), "flags": ("vm_flags", "__vm_flags"), "ops": ("vm_ops",),
        "pgoff": ("vm_pgoff",), "anon_vma": ("anon_vma",), "next": ("anon_vma_chain.next",), "prev": ("anon_vma_chain.prev",),
        "older": ("vm_next",),
    }, frozenset({"older"})),
    "mm": (("struct mm_struct",), {
        "users": ("mm_users.counter",), "count": ("mm_count.counter",), "maple": ("mm_mt.ma_root",), "mmap": ("mmap",),
    }, frozenset({"maple", "mmap"})),
    "task": (("struct task_struct",), {
        "next": ("tasks.next",), "mm": ("mm",), "pid": ("pid",), "tgid": ("tgid",), "flags": ("flags",), "comm": ("comm",),
    }, frozenset()),
    "range": (("struct maple_range_64",), {"pivot": ("pivot[0]",), "slot": ("slot[0]",)}, frozenset()),
    "arange": (("struct maple_arange_64",), {"pivot": ("pivot[0]",), "slot": ("slot[0]",)}, frozenset()),
    "page": (("struct page",), {
        "flags": ("flags",), "mapping": ("mapping",), "index": ("index", "__folio_index"), "refcount": ("_refcount.counter",),
        "mapcount": ("_mapcount.counter",),
    }, frozenset()),
    "section": (("struct mem_section",), {"map": ("section_mem_map",)}, frozenset()),
}  # fmt: skip
OPTIONAL_STRUCTURES = frozenset({"range", "arange", "page", "section"})

# Variables that are read as numbers; all of mm/ksm.c's counters and knobs by their own names.
COUNTERS = (
    "ksm_pages_shared", "ksm_pages_sharing", "ksm_pages_unshared", "ksm_rmap_items", "ksm_stable_node_chains",
    "ksm_stable_node_dups", "ksm_max_page_sharing", "ksm_merge_across_nodes", "ksm_nr_node_ids", "ksm_run",
    "ksm_zero_pages", "ksm_pages_skipped", "ksm_pages_scanned",
)  # fmt: skip
VARIABLES: Mapping[str, tuple[str, str]] = {  # name here: variable, its member ("" for itself)
    **{name: (name, "") for name in COUNTERS},
    "seqnr": ("ksm_scan", "seqnr"),
    "cursor": ("ksm_scan", "mm_slot"),
    "root_stable_tree": ("root_stable_tree", ""),
    "root_unstable_tree": ("root_unstable_tree", ""),
    "mem_section": ("mem_section", ""),
    "pgdir_shift": ("pgdir_shift", ""),
}
SYMBOLS = ("ksm_mm_head", "migrate_nodes", "init_task", "linux_banner", "init_top_pgt", "swapper_pg_dir")


def lacking(layout: Layout) -> list[str]:
    """What a look cannot do without, by the names that it has had: without it structures would be passed over in silence.

    Chains came with ksm_max_page_sharing (4.13), trees by NUMA node and migrate_nodes with merge_across_nodes (3.9, where
    CONFIG_NUMA is).
    """
    needed = {name: VARIABLES[name] for name in ("root_stable_tree", "root_unstable_tree", "cursor", "seqnr")}
    wanted = [f"variable {'.'.join(filter(None, place))}" for name, place in needed.items() if name not in layout.variables]
    wanted += [f"variable {name}" for name in ("ksm_mm_head", "init_task") if name not in layout.symbols]
    chains = "ksm_max_page_sharing" in layout.variables or any(layout.has("node", m) for m in ("dup_next", "length"))
    by_node = "ksm_merge_across_nodes" in layout.variables or layout.has("node", "nid")
    members = {"dup_next": "hlist_dup", "length": "rmap_hlist_len"} if chains else {}
    if chains or by_node or layout.has("node", "list_next"):
        members |= {"list_next": "list"}
        wanted += ["variable migrate_nodes"] if "migrate_nodes" not in layout.symbols else []
    wanted += [f"member {name} of a stable node" for member, name in members.items() if not layout.has("node", member)]
    if by_node and "ksm_nr_node_ids" not in layout.variables:
        wanted.append("variable ksm_nr_node_ids")
    return wanted

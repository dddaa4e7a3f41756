# SPDX-License-Identifier: GPL-2.0-or-later
"""KSM's own structures (mm/ksm.c): slots, items, the stable and the unstable trees."""

from __future__ import annotations

from harness.graph import Chain, Item, Node, Page, Slot
from harness.witness.follow import Follower, Values
from harness.witness.layout import COUNTERS

CHAIN = -1024  # STABLE_NODE_CHAIN
STABLE_FLAG = 0x200
_FLAGS = 0x3FF  # below the page's address: seqnr, UNSTABLE_FLAG, STABLE_FLAG
_MOST_TREES = 1 << 10  # nr_node_ids
_SECTION_FLAGS = 0x3F  # SECTION_MAP_MASK (include/linux/mmzone.h)
_MOST_SECTIONS = 1 << 12


class Ksm:
    """One look's reading of it.  The graph's parts, under their names there."""

    def __init__(self, follower: Follower) -> None:
        self._f = f = follower
        layout = f.layout
        self.items: dict[int, Item] = {}
        self.nodes: dict[int, Node] = {}
        self.chains: dict[int, Chain] = {}
        self.slots: list[Slot] = []
        self.unstable: list[int] = []
        self.pages: dict[int, Page] = {}
        self.counters: dict[str, int] = {}
        payload = ("rmap_list", "anon_vma", "mm", "address", "head")
        self._item = layout.shape("item", *payload)
        self._hlist_item = layout.shape("item", "next", "pprev", *payload)
        self._tree_item = layout.shape("item", "parent", "right", "left", "address")
        self._item_hlist = layout.structures["item"]["next"].offset
        self._item_rb = layout.structures["item"]["parent"].offset
        self._node_fields = layout.structures["node"]
        has_length = layout.has("node", "length")
        self._has_length = has_length
        self._page_fields = ("kpfn", "length") if has_length else ("kpfn",)
        self._node = layout.shape("node", "parent", "right", "left", *self._page_fields)

    def read(self) -> None:
        """All of it but the pages."""
        self._variables()
        self._read_slots()
        for tree, root in enumerate(self._roots("root_stable_tree")):
            self._stable(tree, root)
        self._migrating()
        # At the end of a scan the unstable trees are dead: items leave them without being erased, and the next scan
        # begins with empty ones.
        if self._number("cursor") not in (0, self._f.layout.symbols["ksm_mm_head"]):
            for root in self._roots("root_unstable_tree"):
                self._unstable(root)

    # Variables.

    def _number(self, name: str) -> int | None:
        """A variable's value, None if this kernel has none of the name."""
        place = self._f.layout.variables.get(name)
        if place is None:
            return None
        address, field = place
        raw = self._f.memory.read(address + field.offset, field.size)
        if raw is None:
            return None
        return int.from_bytes(raw, "little" if self._f.layout.order == "<" else "big", signed=field.signed)

    def _variables(self) -> None:
        for name in (*COUNTERS, "seqnr"):
            value = self._number(name)
            if value is not None:
                self.counters[name] = value

    def _roots(self, variable: str) -> list[int]:
        """Addresses of the topmost nodes of an array of trees, one for each NUMA node if they are kept apart."""
        array = self._number(variable) or 0
        number = self.counters.get("ksm_nr_node_ids", 1)
        if not 1 <= number <= _MOST_TREES:
            self._f.fault(f"ksm_nr_node_ids is {number}")
            number = 1
        return [self._f.pointer(array + 8 * i) for i in range(number)]

    # Items.

    def _read_slots(self) -> None:
        layout = self._f.layout
        shape = layout.shape("slot", "next", "prev", "mm", "rmap_list")
        member = layout.structures["slot"]["next"].offset
        for address, (_, _, mm, first) in self._f.around(layout.symbols["ksm_mm_head"] + member, shape, member, "ksm_mm_head"):
            self.slots.append(Slot(address, mm, tuple(self._rmap_list(address, first))))

    def _rmap_list(self, slot: int, first: int) -> list[int]:
        items: list[int] = []
        at, where = first, f"rmap_list of slot {slot:#x}"
        here: set[int] = set()
        while at:
            if at in here:
                self._f.fault(f"the rmap_list of slot {slot:#x} comes round to item {at:#x} and never to its end")
                break
            here.add(at)
            values = self._f.get(self._item, at, where)
            if values is None:
                break
            items.append(at)
            self._take_item(at, values)
            at, where = values[0], f"rmap_list of item {at:#x}"
        return items

    def _take_item(self, address: int, values: Values) -> None:
        _, anon_vma, mm, place, head = values
        stable = bool(place & STABLE_FLAG)
        self.items[address] = Item(
            address, mm, place & ~_FLAGS, place & _FLAGS, anon_vma if stable else 0, head if stable else 0
        )  # fmt: skip

    # Trees.

    def _stable(self, tree: int, root: int) -> None:
        member = self._node_fields["parent"].offset
        for address, values in self._f.inorder(root, self._node, member, f"stable tree {tree}"):
            length = values[4] if self._has_length else -1
            if self._has_length and length == CHAIN:
                self._chain(tree, address)
            else:
                self._take_node(address, tree, 0, values[3], length)

    def _chain(self, tree: int, address: int) -> None:
        fields = self._node_fields
        shape = self._f.layout.shape("node", "dup_next", "dup_pprev", "kpfn", "length")
        dups = []
        first = address + fields["hlist"].offset
        for dup, (_, _, kpfn, length) in self._f.along(first, shape, fields["dup_next"].offset, f"chain {address:#x}"):
            dups.append(dup)
            self._take_node(dup, tree, address, kpfn, length)
        self.chains[address] = Chain(address, tree, tuple(dups))

    def _migrating(self) -> None:
        head, fields = self._f.layout.symbols.get("migrate_nodes", 0), self._node_fields
        if not head or "list_next" not in fields:
            return
        shape = self._f.layout.shape("node", "list_next", "list_prev", *self._page_fields)
        for address, values in self._f.around(head, shape, fields["list_next"].offset, "migrate_nodes"):
            self._take_node(address, -1, 0, values[2], values[3] if self._has_length else -1)

    def _take_node(self, address: int, tree: int, chain: int, kpfn: int, length: int) -> None:
        if address in self.nodes or address in self.chains:
            self._f.fault(f"node {address:#x} is in more than one place")
            return
        items = []
        first = address + self._node_fields["hlist"].offset
        for item, values in self._f.along(first, self._hlist_item, self._item_hlist, f"the hlist of node {address:#x}"):
            items.append(item)
            if item not in self.items:
                self._take_item(item, values[2:])
        self.nodes[address] = Node(address, tree, chain, kpfn, length, tuple(items))

    def _unstable(self, root: int) -> None:
        for address, _ in self._f.inorder(root, self._tree_item, self._item_rb, "an unstable tree"):
            self.unstable.append(address)

    # Pages.

    def read_pages(self) -> None:
        """``struct page`` of each node's page, if it can be told where that is."""
        layout = self._f.layout
        if not layout.structures.get("page") or not (base := self._page_zero()):
            return
        shape = layout.shape("page", "flags", "mapping", "index", "refcount", "mapcount")
        size = layout.sizes["page"]
        for node in self.nodes.values():
            values = self._f.memory.shape(shape, (base + node.kpfn * size) & (1 << 64) - 1)
            if values is not None:
                flags, mapping, index, refcount, mapcount = values
                self.pages[node.kpfn] = Page(node.kpfn, flags, mapping, index, refcount, mapcount + 1)

    def _page_zero(self) -> int:
        """Where the page of frame 0 is or would be: with a virtual memory map the same for all sections (mm/sparse.c)."""
        layout = self._f.layout
        if not layout.has("section", "map"):
            return 0
        sections = self._f.pointer(self._number("mem_section") or 0)  # SPARSEMEM_EXTREME: an array of pointers to arrays
        shape, size = layout.shape("section", "map"), layout.sizes["section"]
        for i in range(_MOST_SECTIONS):
            values = self._f.memory.shape(shape, sections + i * size)
            if values is None:
                return 0
            if values[0] & 2:  # SECTION_HAS_MEM_MAP
                return values[0] & ~_SECTION_FLAGS
        return 0

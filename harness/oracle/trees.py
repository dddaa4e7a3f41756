# SPDX-License-Identifier: GPL-2.0-or-later
"""What hangs in ksmd's trees: rmap_items and stable nodes (mm/ksm.c)."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.oracle.address_space import Mm
    from harness.oracle.anon_vma import AnonVma
    from harness.oracle.memory import Page


Key = tuple[int, int]
"""A place in a tree: the number of the tree (that of the NUMA node, 0 where nodes are merged across), and the content."""


class State(enum.Enum):
    """Which tree an item is in: its STABLE_FLAG and UNSTABLE_FLAG."""

    NONE = 0
    UNSTABLE = 1
    STABLE = 2


class Item:
    """``struct ksm_rmap_item``: an address that ksmd tracks."""

    __slots__ = ("addr", "age", "anon_vma", "checksum", "head_stays", "key", "mm", "node", "skips", "state")

    def __init__(self, mm: Mm, addr: int) -> None:
        self.mm = mm
        self.addr = addr
        self.state = State.NONE
        self.checksum: int | None = None  # oldchecksum
        self.key: Key | None = None  # where it is in the unstable tree
        self.anon_vma: AnonVma | None = None  # held while it is stable
        self.node: Node | None = None  # head
        self.head_stays = False  # head still points to where a node lay that went with its page
        self.age = 0  # visits that found no KSM page
        self.skips = 0  # remaining_skips


class Node:
    """``struct ksm_stable_node`` of one KSM page: itself in the tree, a dup in a chain, or on migrate_nodes."""

    __slots__ = ("chain", "content", "items", "key", "page", "set_aside")

    def __init__(self, page: Page, key: Key) -> None:
        self.page = page  # by kpfn: the node holds no reference
        self.key = key
        self.content = page.content
        self.items: dict[Item, None] = {}  # hlist, the other way round
        self.chain: Chain | None = None
        self.set_aside = False  # on migrate_nodes, since its page was found to lie on another NUMA node than its tree's

    def walk_order(self) -> Iterator[Item]:
        """The hlist from its head, which is the item added last (hlist_add_head)."""
        return reversed(list(self.items))

    @property
    def stale(self) -> bool:
        """get_ksm_page would find that the page is no longer this node's."""
        return self.page.freed or self.page.node is not self

    @property
    def in_use(self) -> bool:
        """remove_stable_node refuses: its page is mapped."""
        return not self.stale and bool(self.page.ptes)


class Chain:
    """A stable node whose dups all have the same content, each full but perhaps one."""

    __slots__ = ("doubtful", "dups")

    def __init__(self) -> None:
        self.doubtful = False  # it may be no more, as a search for another content has tidied it up
        self.dups: list[Node] = []  # head first

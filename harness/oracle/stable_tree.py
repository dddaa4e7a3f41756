# SPDX-License-Identifier: GPL-2.0-or-later
"""The stable tree (mm/ksm.c).  Contents stand for the tree's order: equal ones meet, others do not disturb.

One thing is lost by that: on its way down a search also prunes stale nodes and empty chains of other contents.  This
changes no counter but stable_node_chains and stable_node_dups, as all items of a stale node are dropped within the scan.
"""

from __future__ import annotations

from harness.oracle.memory import Page
from harness.oracle.trees import Chain, Item, Node, State


class StableTree:
    """Nodes by content, and the counters that go with their items."""

    def __init__(self) -> None:
        self.roots: dict[int, Node | Chain] = {}
        self.max_page_sharing: int | None = 256
        self.pages_shared = 0
        self.pages_sharing = 0
        self.chains = 0
        self.dups = 0
        self.mapped_by_fork = 0  # items appended because a fork duplicated the pte of a KSM page

    def nodes(self) -> list[Node]:
        """All nodes with a page."""
        found: list[Node] = []
        for root in self.roots.values():
            found.extend(root.dups if isinstance(root, Chain) else [root])
        return found

    def is_candidate(self, node: Node, offset: int = 0) -> bool:
        """__is_page_sharing_candidate: it has an item, and room for another."""
        count = len(node.items)
        return bool(count) and (self.max_page_sharing is None or count + offset < self.max_page_sharing)

    def append(self, item: Item, node: Node) -> None:
        """stable_tree_append."""
        if node.items:
            self.pages_sharing += 1
        else:
            self.pages_shared += 1
        node.items[item] = None
        item.node = node
        item.state = State.STABLE
        item.mm.merging += 1

    def remove_item(self, item: Item) -> None:
        """remove_rmap_item_from_tree, of a stable item; prunes the whole node if it is stale."""
        node = item.node
        assert node is not None
        if node.stale:
            self.remove_node(node)
            return
        del node.items[item]
        if node.items:
            self.pages_sharing -= 1
        else:
            self.pages_shared -= 1
        _let_go(item)

    def remove_node(self, node: Node) -> None:
        """remove_node_from_stable_tree."""
        if node.items:
            self.pages_sharing -= len(node.items) - 1
            self.pages_shared -= 1
        for item in list(node.items):
            _let_go(item)
        node.items.clear()
        if node.chain is not None:
            node.chain.dups.remove(node)
            self.dups -= 1
        elif self.roots.get(node.content) is node:
            del self.roots[node.content]

    def search(self, page: Page) -> Page | None:
        """stable_tree_search: the KSM page to merge with, the page itself if it is one."""
        if page.ksm and page.node is not None:
            return page
        node = self._candidate(page.content)
        return node.page if node is not None else None

    def _candidate(self, content: int) -> Node | None:
        """The node of that content with room for an item; stale ones are pruned on the way."""
        while (root := self.roots.get(content)) is not None:
            if isinstance(root, Chain):
                node = self._dup(root)
                if node is not None:
                    return node
                if not root.dups:  # stable_node_dup_any, free_stable_node_chain
                    del self.roots[content]
                    self.chains -= 1
                    continue
                if root.dups[0].stale:
                    self.remove_node(root.dups[0])
                    continue
                return None
            if root.stale:
                self.remove_node(root)
                continue
            return root if self.is_candidate(root) else None
        return None

    def _dup(self, chain: Chain) -> Node | None:
        """stable_node_dup, without the pruning by time: it may also collapse a chain of one."""
        for dup in list(chain.dups):
            if dup.stale:
                self.remove_node(dup)
            elif self.is_candidate(dup):
                if chain.dups[0] is not dup and self.is_candidate(dup, 1):
                    chain.dups.remove(dup)
                    chain.dups.insert(0, dup)
                return dup
        return None

    def insert(self, kpage: Page) -> Node:
        """stable_tree_insert: a new node, in a chain if there is one of that content already."""
        self._candidate(kpage.content)  # for what it prunes
        node = Node(kpage)
        kpage.node = node
        old = self.roots.get(kpage.content)
        if old is None:
            self.roots[kpage.content] = node
            return node
        if not isinstance(old, Chain):
            chain = Chain()
            self.chains += 1
            self.roots[kpage.content] = chain
            self._add_dup(chain, old)
            old = chain
        self._add_dup(old, node)
        return node

    def _add_dup(self, chain: Chain, node: Node) -> None:
        node.chain = chain
        chain.dups.insert(0, node)
        self.dups += 1

    def remove_unmapped(self) -> None:
        """remove_all_stable_nodes: at run=2, and when a tunable of the tree changes."""
        for node in self.nodes():
            if node.stale:
                self.remove_node(node)
            elif not node.page.ptes:
                node.page.node = None
                self.remove_node(node)
        for content, root in list(self.roots.items()):
            if isinstance(root, Chain) and not root.dups:
                del self.roots[content]
                self.chains -= 1


def _let_go(item: Item) -> None:
    """An item leaves the stable tree: its anon_vma is put."""
    item.mm.merging -= 1
    assert item.anon_vma is not None
    item.anon_vma.put()
    item.anon_vma = None
    item.node = None
    item.state = State.NONE

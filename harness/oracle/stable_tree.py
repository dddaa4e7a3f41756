# SPDX-License-Identifier: GPL-2.0-or-later
"""The stable trees (mm/ksm.c), one, or one for each NUMA node.  Contents stand for a tree's order: equal ones meet.

One thing is lost by that: on its way down a search also prunes stale nodes and empty chains of other contents.  This
changes no counter but stable_node_chains and stable_node_dups, as all items of a stale node are dropped within the scan.
Where a tree has one content only, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.oracle.memory import Page
from harness.oracle.trees import Chain, Item, Key, Node, State

DEFAULT_PRUNE_MILLISECS = 2000
AGES = 600_000  # milliseconds that no workload lasts


class StableTree:
    """Nodes by content, and the counters that go with their items."""

    def __init__(self, *, single_dup_leaves_chain: bool = False, merge_forgets_checksum: bool = False) -> None:
        self.single_dup_leaves_chain = single_dup_leaves_chain
        self._forgets = merge_forgets_checksum
        self.roots: dict[Key, Node | Chain] = {}
        self.set_aside: dict[Node, None] = {}  # migrate_nodes
        self.max_page_sharing: int | None = 256
        self.merge_across_nodes = True
        self.prune_millisecs = DEFAULT_PRUNE_MILLISECS
        self.pages_shared = 0
        self.pages_sharing = 0
        self.chains = 0
        self.dups = 0
        self.mapped_by_fork = 0  # items appended because a fork duplicated the pte of a KSM page

    @property
    def prunes(self) -> bool | None:
        """Whether a search tidies each chain that it passes up; None where it goes by the clock."""
        if self.prune_millisecs == 0:
            return True
        return False if self.prune_millisecs >= AGES else None

    def key(self, page: Page) -> Key:
        """get_kpfn_nid, and the place of the page's content in that tree."""
        return 0 if self.merge_across_nodes else page.nid or 0, page.content

    def nodes(self) -> list[Node]:
        """All nodes with a page."""
        found: list[Node] = []
        for root in self.roots.values():
            found.extend(root.dups if isinstance(root, Chain) else [root])
        return [*found, *self.set_aside]

    def is_candidate(self, node: Node, offset: int = 0) -> bool:
        """__is_page_sharing_candidate: it has an item, and room for another.  Without a limit nobody asks, before 4.13."""
        if self.max_page_sharing is None:
            return True
        count = len(node.items)
        return bool(count) and count + offset < self.max_page_sharing

    def append(self, item: Item, node: Node) -> None:
        """stable_tree_append."""
        if node.items:
            self.pages_sharing += 1
        else:
            self.pages_shared += 1
        node.items[item] = None
        item.node = node
        item.head_stays = False
        item.state = State.STABLE
        item.mm.merging.own += 1

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
        self._let_go(item)

    def remove_node(self, node: Node) -> None:
        """remove_node_from_stable_tree."""
        if node.items:
            self.pages_sharing -= len(node.items) - 1
            self.pages_shared -= 1
        for item in list(node.items):
            self._let_go(item)
            item.head_stays = True
        node.items.clear()
        if node.set_aside:
            del self.set_aside[node]
        else:
            self._take_out(node)

    def _take_out(self, node: Node) -> None:
        """stable_node_dup_del, of a node that is in a tree."""
        if node.chain is not None:
            node.chain.dups.remove(node)
            node.chain = None
            self.dups -= 1
        elif self.roots.get(node.key) is node:
            del self.roots[node.key]

    def search(self, page: Page) -> Page | None:
        """stable_tree_search: the KSM page to merge with, the page itself if it is one.

        A node on migrate_nodes finds its place in the tree of its page's NUMA node; so its page is told as well, if
        it has room for an item.
        """
        node = page.node if page.ksm else None
        if node is not None and not node.set_aside:
            return page
        key = self.key(page)
        found = self._candidate(key, prune=bool(self.prunes))
        root = self.roots.get(key)
        if node is not None and (root is None or page.mapcount > 1):
            self._put_in(node, key, root)
            return page if self.is_candidate(node) else None
        if found is None:
            return None
        if not self._astray(found):
            return found.page
        self._set_aside(found)
        if node is None:
            return None
        self._put_in(node, key, root if isinstance(root, Chain) else None)
        return page if self.is_candidate(node) else None

    # Nodes whose pages were moved to another NUMA node, where each has a tree of its own.

    def _astray(self, node: Node) -> bool:
        """Its page is no longer where the node's tree is (get_kpfn_nid against ``nid``)."""
        return self.key(node.page)[0] != node.key[0]

    def notice_move(self, node: Node) -> None:
        """cmp_and_merge_page: the node of a page that ksmd meets on another NUMA node leaves its tree for migrate_nodes."""
        if not node.set_aside and self._astray(node):
            self._set_aside(node)

    def _set_aside(self, node: Node) -> None:
        self._take_out(node)
        node.set_aside = True
        self.set_aside[node] = None

    def _put_in(self, node: Node, key: Key, root: Node | Chain | None) -> None:
        """stable_tree_search: from migrate_nodes into a tree, beside what it has of that content already."""
        del self.set_aside[node]
        node.set_aside = False
        self._add(node, key, root)

    def forget_moved(self) -> None:
        """scan_get_next_rmap_item, before a scan: nodes on migrate_nodes that are stale go (get_ksm_page)."""
        if not self.merge_across_nodes:
            for node in [node for node in self.set_aside if node.stale]:
                self.remove_node(node)

    def _candidate(self, key: Key, *, prune: bool) -> Node | None:
        """The node of that content with room for an item; stale ones are pruned on the way."""
        while (root := self.roots.get(key)) is not None:
            if isinstance(root, Chain):
                node = self._dup(key, root, prune=prune)
                if node is not None:
                    return node
                if self.roots[key] is not root:
                    continue
                if not root.dups:  # stable_node_dup_any, free_stable_node_chain
                    del self.roots[key]
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

    def _dup(self, key: Key, chain: Chain, *, prune: bool) -> Node | None:
        """stable_node_dup: the first dup with room, or if the chain is tidied up the fullest; then one alone leaves it."""
        found: Node | None = None
        for dup in list(chain.dups):
            if dup.stale:
                self.remove_node(dup)
            elif self.is_candidate(dup) and (found is None or len(dup.items) > len(found.items)):
                found = dup
                if not prune:
                    break
        if len(chain.dups) == 1 and (self.single_dup_leaves_chain or (prune and found is not None)):
            self._collapse(key, chain)
        elif found is not None and chain.dups[0] is not found and self.is_candidate(found, 1):
            chain.dups.remove(found)
            chain.dups.insert(0, found)
        return found

    def _collapse(self, key: Key, chain: Chain) -> None:
        """The only dup takes the chain's place in the tree."""
        (node,) = chain.dups
        self.roots[key] = node
        node.chain = None
        self.chains -= 1
        self.dups -= 1

    def insert(self, kpage: Page, allocate: Callable[[], bool] = lambda: True) -> Node | None:
        """stable_tree_insert: a new node, in a chain if there is one of that content already.

        ``allocate`` is asked for each of the two; where it refuses there is no node (None).
        """
        key = self.key(kpage)
        self._candidate(key, prune=False)  # for the stale nodes that it meets
        root = self.roots.get(key)
        if not allocate() or (isinstance(root, Node) and not allocate()):
            return None
        node = kpage.node = Node(kpage, key)
        self._add(node, key, root)
        return node

    def _add(self, node: Node, key: Key, root: Node | Chain | None) -> None:
        """A node gets its place, in a chain if ``root`` has its content already."""
        node.key = key
        if root is None:
            self.roots[key] = node
            return
        if not isinstance(root, Chain):
            chain = Chain()
            self.chains += 1
            self.roots[key] = chain
            self._add_dup(chain, root)
            root = chain
        self._add_dup(root, node)

    def _add_dup(self, chain: Chain, node: Node) -> None:
        node.chain = chain
        chain.dups.insert(0, node)
        self.dups += 1

    def meet_by_chance(self) -> None:
        """Searches of a scan may have passed chains of other contents, and tidied them up (chain_prune)."""
        crowded = len({nid for nid, _ in self.roots}) < len(self.roots)
        limit = 1 if self.prunes is False and not self.single_dup_leaves_chain else 2
        for root in self.roots.values():
            if isinstance(root, Chain):
                few = sum(not d.stale for d in root.dups) < limit
                root.doubtful = few and (root.doubtful or crowded or self.prunes is None)

    def remove_unmapped(self) -> None:
        """remove_all_stable_nodes: at run=2, and when a tunable of the tree changes.

        A tree is left alone from its first such node on.  Where it has several contents which of them went before is
        not known, as it begins at the top of the rb-tree.
        """
        trees: dict[int, list[Key]] = {}
        for key in self.roots:
            trees.setdefault(key[0], []).append(key)
        for keys in trees.values():
            sure = len(keys) == 1 or not any(node.in_use for key in keys for node in self._dups(key))
            for key in keys:
                if sure:
                    self._remove_root(key)
                else:
                    self._may_go(self.roots[key])
        for node in [node for node in self.set_aside if not node.in_use]:
            self._remove_unmapped(node)

    def _dups(self, key: Key) -> list[Node]:
        root = self.roots[key]
        return list(root.dups) if isinstance(root, Chain) else [root]

    def _remove_root(self, key: Key) -> None:
        """remove_stable_node_chain: dup by dup, to the first that is mapped."""
        root = self.roots[key]
        for node in self._dups(key):
            if node.in_use:
                return
            self._remove_unmapped(node)
        if isinstance(root, Chain):
            del self.roots[key]
            self.chains -= 1

    def _remove_unmapped(self, node: Node) -> None:
        """remove_stable_node, of one that is not in use: its page has no node any more."""
        if not node.stale:
            node.page.node = None
        self.remove_node(node)

    @staticmethod
    def _may_go(root: Node | Chain) -> None:
        for node in root.dups if isinstance(root, Chain) else [root]:
            if not node.stale and not node.in_use and node.page.entry is not None:
                node.page.entry.unsure = True  # a KSM page with or without a node
        if isinstance(root, Chain):
            root.doubtful = True

    def _let_go(self, item: Item) -> None:
        """An item leaves the stable tree: its anon_vma is put."""
        item.mm.merging.own -= 1
        self.put_anon_vma(item)
        item.node = None
        item.state = State.NONE

    def put_anon_vma(self, item: Item) -> None:
        """put_anon_vma of an item that was merged; where that forgets, nothing is known of earlier visits any more."""
        assert item.anon_vma is not None
        item.anon_vma.put()
        item.anon_vma = None
        if self._forgets:
            item.checksum, item.age, item.skips = None, 0, 0

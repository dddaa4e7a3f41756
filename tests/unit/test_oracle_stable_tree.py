# SPDX-License-Identifier: GPL-2.0-or-later
"""Emptying the stable trees, where pages are still mapped (mm/ksm.c: remove_all_stable_nodes)."""

from __future__ import annotations

from harness.oracle.address_space import Mm
from harness.oracle.memory import Page, Pte, SwapEntry
from harness.oracle.stable_tree import StableTree
from harness.oracle.trees import Chain, Node


def page(tree: StableTree, content: int, *, mapped: bool, nid: int = 0) -> Page:
    """A KSM page in the tree without an item; one that is not mapped is in the swap cache."""
    made = Page(content, "t", nid)
    made.ksm = True
    if mapped:
        made.ptes.add(Pte(Mm("Q", "t"), 0))
    else:
        made.entry = SwapEntry(made)
    tree.insert(made)
    return made


def nodes(tree: StableTree) -> list[Page]:
    return [node.page for node in tree.nodes()]


def test_where_nothing_is_mapped_all_nodes_go() -> None:
    tree = StableTree()
    pages = [page(tree, content, mapped=False) for content in (1, 1, 2)]
    assert (tree.chains, tree.dups) == (1, 2)
    tree.remove_unmapped()
    assert (nodes(tree), tree.chains, tree.dups) == ([], 0, 0)
    assert all(p.node is None for p in pages)


def test_a_chain_is_taken_apart_up_to_the_first_dup_that_is_mapped() -> None:
    tree = StableTree()
    last, busy, first = page(tree, 1, mapped=False), page(tree, 1, mapped=True), page(tree, 1, mapped=False)
    tree.remove_unmapped()
    assert nodes(tree) == [busy, last]  # the newest is the list's head
    assert first.node is None
    assert (tree.chains, tree.dups) == (1, 2)


def test_which_of_several_contents_went_before_a_mapped_one_is_not_known() -> None:
    tree = StableTree()
    cached, busy = page(tree, 1, mapped=False), page(tree, 2, mapped=True)
    dups = [page(tree, 3, mapped=False) for _ in range(2)]
    tree.remove_unmapped()
    assert nodes(tree) == [cached, busy, *reversed(dups)]
    assert all(p.entry is not None and p.entry.unsure for p in (cached, *dups))
    (chain,) = (root for root in tree.roots.values() if isinstance(root, Chain))
    assert chain.doubtful


def test_each_node_has_a_tree_of_its_own_to_be_emptied() -> None:
    tree = StableTree()
    tree.merge_across_nodes = False
    busy = page(tree, 1, mapped=True)
    page(tree, 2, mapped=False, nid=1)
    tree.remove_unmapped()
    assert nodes(tree) == [busy]


def test_in_use_is_a_node_whose_page_is_mapped_and_still_its_own() -> None:
    tree = StableTree()
    busy = page(tree, 1, mapped=True)
    node = busy.node
    assert isinstance(node, Node) and node.in_use
    busy.node = None
    assert node.stale and not node.in_use

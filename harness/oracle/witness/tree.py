# SPDX-License-Identifier: GPL-2.0-or-later
"""The stable tree: which items share a node, which nodes share a chain, and which page a node has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness import graph
from harness.oracle.model import Model
from harness.oracle.trees import Chain, Item, Node, State
from harness.oracle.witness.lists import state
from harness.oracle.witness.matching import Match, named, place
from harness.oracle.witness.mismatch import Mismatch, Place, Rule

PAGE_MAPPING_KSM = 3  # include/linux/page-flags.h
_ASIDE = -1  # graph.Node.tree of a node on migrate_nodes

_TREE = Rule("tree", "get_kpfn_nid: the page's NUMA node, or 0 with merge_across_nodes; ksmd changes it when it meets the page")
_SHARE = Rule("item-node", "stable_tree_append puts an item into the node of the page that its pte maps")
_CHAIN = Rule(
    "chain",
    "nodes of one content hang in a chain as soon as the first has max_page_sharing items (stable_tree_insert), until "
    "one is left",
)
_MIGRATING = Rule(
    "migrating",
    "a node gets there when ksmd meets its moved page (cmp_and_merge_page), and stays until it has a place in the "
    "other tree (stable_tree_search) or is stale when a scan begins",
)
_PAGE = Rule("node-page", "page->mapping leads to the node and kpfn to the page; migration changes both (folio_migrate_ksm)")
_STAYS = "an empty node stays as long as its page lives, and then until a search meets it (get_ksm_page)"
_EMPTY_EXTRA, _EMPTY_MISSING = Rule("node-extra", _STAYS), Rule("node-missing", _STAYS)
_MAPCOUNT = Rule("page-mapcount", "one for each pte that maps it (page_add_anon_rmap, page_remove_rmap)")


def compare_tree(match: Match, model: Model) -> Iterator[Mismatch]:
    """Nodes are paired by the items that they have; empty ones are counted."""
    nodes: dict[Node, graph.Node] = {}
    yield from _pair(match, model, nodes)
    yield from _empty(match, model)
    yield from _aside(match, model)
    if model.ksmd.tree.max_page_sharing is not None:
        yield from _chains(nodes)
    for node, seen in nodes.items():
        expected = _ASIDE if node.set_aside else node.key[0]
        if seen.tree != expected:
            yield Mismatch(
                _TREE,
                ("tree", node),
                f"the stable node of {_items(node)} is {_where(seen.tree)}",
                _where(expected),
                _where(seen.tree),
                places=_places(node),
                focus=(seen.address,),
                state=seen.tree,
            )
        yield from _page(match, node, seen)


def _where(tree: int) -> str:
    return "on migrate_nodes" if tree == _ASIDE else f"in root_stable_tree[{tree}]"


def _pair(match: Match, model: Model, nodes: dict[Node, graph.Node]) -> Iterator[Mismatch]:
    """Those items belong together that the model has in one node: the kernel's node is the one that most of them are in."""
    kernels: dict[Item, int] = {}
    addresses = {item: address for address, item in match.items.items()}
    for address, item in match.items.items():
        seen = match.graph.items[address]
        if item.state is State.STABLE and state(seen) is State.STABLE:
            kernels[item] = seen.head
    taken: dict[int, Node] = {}
    for node in model.ksmd.tree.nodes():
        heads = Counter(kernels[i] for i in node.items if i in kernels)
        best = next((h for h, _ in heads.most_common() if h not in taken), None)
        if best is not None:
            taken[best] = node
            if best in match.graph.nodes:
                nodes[node] = match.graph.nodes[best]
        for item in node.items:
            if item in kernels and kernels[item] != best:
                yield _elsewhere(match, item, kernels[item], node, addresses[item])


def _elsewhere(match: Match, item: Item, head: int, node: Node, address: int) -> Mismatch:
    where, others = place(item.mm, item.addr), [i for i in node.items if i is not item]
    seen = match.graph.nodes.get(head)
    there = [match.place(i.mm, i.addr) for a in (seen.items if seen is not None else ()) if (i := match.graph.items.get(a))]
    there = [t for t in there if t != where]
    return Mismatch(
        _SHARE,
        ("node", item),
        f"the rmap_item of {named(where)} is in another page's stable node",
        f"the node of {named(place(others[0].mm, others[0].addr))}" if others else "a node of its own",
        f"the node of {named(there[0])}" if there else "a node of its own",
        places=(where,),
        focus=(address,),
        state=head,
    )


def _chains(nodes: dict[Node, graph.Node]) -> Iterator[Mismatch]:
    """A chain of doubtful existence may have been collapsed or not (``Chain.doubtful``)."""
    chains: dict[Chain, int] = {}
    owners: dict[int, Chain] = {}
    for node, seen in nodes.items():
        if seen.tree == _ASIDE or node.set_aside or (node.chain is not None and node.chain.doubtful):
            continue
        if (node.chain is None) != (seen.chain == 0):
            yield _chain(
                node, "a dup in a chain" if node.chain else "itself in the tree", "a dup" if seen.chain else "no dup", seen
            )
        elif node.chain is not None:
            same = chains.setdefault(node.chain, seen.chain) == seen.chain
            if not (same and owners.setdefault(seen.chain, node.chain) is node.chain):
                yield _chain(node, "in one chain with those of its content", "in another chain", seen)


def _chain(node: Node, expected: str, words: str, seen: graph.Node) -> Mismatch:
    return Mismatch(
        _CHAIN,
        ("chain", node),
        f"the stable node of {_items(node)} is {words}",
        expected,
        words,
        places=_places(node),
        focus=(seen.address,),
        state=seen.chain,
    )


def _empty(match: Match, model: Model) -> Iterator[Mismatch]:
    """Nodes without items, by number.

    An interval: get_ksm_page removes a node whose page is gone when any search meets it on its way down
    (stable_tree_search), and contents stand for that way here; those whose page is mapped must be there.
    """
    empty = [node for node in model.ksmd.tree.nodes() if not node.items]
    low, high = sum(1 for node in empty if not node.stale and node.page.ptes), len(empty)
    seen = sum(1 for node in match.graph.nodes.values() if not node.items)
    if low <= seen <= high:
        return
    expected = str(low) if low == high else f"{low} to {high}"
    yield Mismatch(
        _EMPTY_EXTRA if seen > high else _EMPTY_MISSING,
        "empty nodes",
        f"{seen} stable nodes have no rmap_item where {expected} are right",
        f"{expected} nodes without items",
        str(seen),
        state=seen,
    )


def _aside(match: Match, model: Model) -> Iterator[Mismatch]:
    """migrate_nodes has nodes without items too: of pages that could not be merged on the NUMA node where they are now."""
    aside = [node for node in model.ksmd.tree.set_aside if not node.items]
    seen = [node for node in match.graph.nodes.values() if node.tree == _ASIDE and not node.items]
    if len(seen) != len(aside):
        yield Mismatch(
            _MIGRATING,
            "migrate_nodes",
            f"{len(seen)} stable nodes without rmap_items are on migrate_nodes where {len(aside)} are right",
            str(len(aside)),
            str(len(seen)),
            focus=tuple(node.address for node in seen),
            state=len(seen),
        )


def _page(match: Match, node: Node, seen: graph.Node) -> Iterator[Mismatch]:
    """What a mapped KSM page says of itself."""
    page, told = node.page, match.graph.pages.get(seen.kpfn)
    if told is None or page.unsure or node.stale or not page.ptes:
        return
    if told.mapping != seen.address | PAGE_MAPPING_KSM:
        yield Mismatch(
            _PAGE,
            ("page", node),
            f"the page at the kpfn of the stable node of {_items(node)} is not this node's",
            f"page->mapping {seen.address | PAGE_MAPPING_KSM:#x}",
            f"{told.mapping:#x}, at pfn {seen.kpfn:#x}",
            places=_places(node),
            focus=(seen.address,),
            state=told.mapping,
        )
    elif told.mapcount != page.mapcount:
        yield Mismatch(
            _MAPCOUNT,
            ("mapcount", node),
            f"the KSM page of {_items(node)} has mapcount {told.mapcount}",
            str(page.mapcount),
            str(told.mapcount),
            places=_places(node),
            focus=(seen.address,),
            state=told.mapcount - page.mapcount,
        )


def _places(node: Node) -> tuple[Place, ...]:
    return tuple(place(i.mm, i.addr) for i in node.items)


def _items(node: Node) -> str:
    first = next(iter(node.items))
    more = f" and {len(node.items) - 1} more" if len(node.items) > 1 else ""
    return f"{named(place(first.mm, first.addr))}{more}"

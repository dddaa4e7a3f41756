# SPDX-License-Identifier: GPL-2.0-or-later
"""merge_across_nodes=0: stable nodes whose pages are moved to another NUMA node (mm/ksm.c: stable_tree_search, migrate_nodes)."""

from __future__ import annotations

import itertools
from dataclasses import replace

from harness.graph import Graph
from harness.oracle import Semantics
from harness.oracle.memory import Page
from tests.unit.watched_story import Watched, put

LATER = Semantics(cksum_first=True, single_dup_leaves_chain=True)  # 6.12


class Nodes(Watched):
    """P with one content in pages of two areas: ``a`` on node 0, ``b`` on node 1.  Each operation is looked at as well."""

    def __init__(self, a: int, b: int, limit: int | None = None, semantics: Semantics | None = None) -> None:
        self.actor = "P"
        super().__init__(semantics=semantics, p="P20")
        self.op("set", file="merge_across_nodes", value="0")
        self.op("set", file="stable_node_chains_prune_millisecs", value="0")
        if limit:
            self.op("set", file="max_page_sharing", value=str(limit))
        self.spawn("P")
        for area, count, node in (("a", a, 0), ("b", b, 1)):
            self.map("P", area, 5)
            self.on("bind", "P", area, 0, 5, node=node)
            self.fill("P", area, 0, count, 1, 0)
            self.on("mergeable", "P", area, 0, 5)
        self.scan(2)

    def page(self, area: str, index: int) -> Page:
        mm = self.model.actors[self.actor]
        page = mm.ptes[mm.areas[area].start + index].page
        assert page is not None
        return page

    def add(self, area: str, index: int) -> None:
        self.fill(self.actor, area, index, 1, 1, 0)

    def drop(self, area: str, *indices: int) -> None:
        for index in indices:
            self.on("munmap", self.actor, area, index, 1)

    def move(self, area: str, index: int, node: int, *, stays: bool = False) -> None:
        before = self.page(area, index).nid
        results = {"result": 0, "error": "", "before": [[1, before]], "after": [[1, before if stays else node]]}
        self.on("move_pages", self.actor, area, index, 1, results, node=node, all=True)

    def begin_scan(self, scans: int) -> None:
        """ksmd has come to the first page only, after ``scans`` full ones."""
        self.op("batch", {"from": scans, "to": scans}, pages=1)

    def tree(self, area: str, index: int) -> int:
        """In which tree the page's node is; -1: on migrate_nodes."""
        node = self.page(area, index).node
        assert node is not None
        return -1 if node.set_aside else node.key[0]

    @property
    def chains(self) -> tuple[int, int]:
        return self.model.ksmd.tree.chains, self.model.ksmd.tree.dups

    @property
    def set_aside(self) -> int:
        return len(self.model.ksmd.tree.set_aside)


def test_a_node_is_where_it_was_until_ksmd_meets_its_page() -> None:
    story = Nodes(2, 0)
    story.move("a", 0, 1)
    assert (story.tree("a", 0), story.page("a", 1).nid) == (0, 1)
    story.scan()
    assert story.tree("a", 0) == 1
    story.add("b", 0)
    story.add("a", 2)
    story.scan(2)
    assert story.page("b", 0) is story.page("a", 0)
    assert not story.page("a", 2).ksm
    story.observe()
    assert story.findings == []


def test_a_page_with_several_ptes_hangs_in_a_chain_with_its_counterpart() -> None:
    for limit, semantics in itertools.product((None, 2), (None, LATER)):
        story = Nodes(2, 2, limit, semantics)
        story.move("a", 0, 1)
        story.scan(2)
        assert (story.tree("a", 0), story.chains, story.counts) == (1, (1, 2), (2, 2, 0, 0))


def test_a_node_that_is_full_leaves_the_item_that_it_was_met_by_for_a_scan() -> None:
    story = Nodes(2, 0, 2)
    story.move("a", 0, 1)
    story.scan()
    assert (story.tree("a", 0), story.counts) == (1, (1, 0, 1, 0))
    story.scan()
    assert story.counts == (1, 1, 0, 0)


def waiting(limit: int | None = None, b: int = 2) -> Nodes:
    """A page with one pte, which is not merged with its counterpart; nor can it be moved or swapped."""
    story = Nodes(2, b, limit)
    story.drop("a", 1)
    story.move("a", 0, 1)
    story.scan()
    return story


def test_a_page_with_one_pte_is_not_merged_and_loses_its_item() -> None:
    story = waiting()
    assert (story.tree("a", 0), story.counts) == (-1, (1, 1, 0, 1))
    story.scan()
    story.move("a", 0, 0, stays=True)
    story.reclaim(keep=[["P", "a", 0, 5]])
    assert (story.states("P"), story.states("P", "b")) == ("K....", "SS...")
    assert "write_protect_page refuses KSM pages" in story.oracle.remarks[-1]
    story.on("read", "P", "b", 0, 2)
    story.scan()
    assert (story.tree("a", 0), story.counts) == (1, (0, 0, 1, 2))  # the counterpart was stale
    story.scan()
    assert story.counts == (1, 2, 0, 0)
    assert story.findings == []


def test_an_item_of_a_fork_is_lost_for_two_scans() -> None:
    """It was made for a KSM page, and so has no checksum that would bring it into the unstable tree at once."""
    for semantics, lost in ((None, (0, 0, 0, 1)), (LATER, (0, 0, 1, 0))):
        story = Nodes(2, 2, semantics=semantics)
        story.fork("P", "C")
        story.scan()
        story.exit("P")
        story.actor = "C"
        story.drop("a", 1)
        story.move("a", 0, 1)
        story.scan()
        assert (story.tree("a", 0), story.counts) == (-1, (1, 1, 0, 1))
        story.drop("b", 0, 1)
        story.scan()
        assert (story.tree("a", 0), story.counts) == (1, lost)
        story.scan()
        assert story.counts == (1, 0, 0, 0)


def test_one_that_is_moved_though_nothing_leads_to_it_is_found() -> None:
    story = waiting()
    story.move("a", 0, 0)
    assert story.signatures == ["P19:wrongly-migrated:move_pages"]


def test_where_all_are_full_it_waits_as_well() -> None:
    story = waiting(limit=2, b=4)
    assert (story.tree("a", 0), story.counts) == (-1, (2, 2, 1, 0))
    story.drop("b", 3)
    story.scan(2)  # it is met before the item of what was dropped
    assert (story.tree("a", 0), story.counts) == (-1, (2, 1, 0, 1))


def test_a_stale_node_is_forgotten_when_the_next_scan_begins() -> None:
    story = waiting()
    story.drop("a", 0)
    assert story.set_aside == 1
    story.scan()
    assert story.set_aside == 0


def test_run_2_forgets_it_too() -> None:
    story = waiting()
    story.run(2)
    assert (story.set_aside, story.counts) == (0, (0, 0, 0, 0))


def test_the_trees_are_in_use_while_a_page_waits() -> None:
    story = waiting()
    story.begin_scan(3)
    story.drop("b", 0, 1)
    story.scan()
    assert (story.counts, story.set_aside) == ((0, 0, 0, 1), 1)
    story.op("set", {"rc": -1, "errno": "EBUSY"}, file="merge_across_nodes", value="1")
    assert story.findings == []
    story.op("set", file="merge_across_nodes", value="1")
    assert story.signatures == ["P20:tunable:set"]


def displaced() -> Nodes:
    """Two pages have changed places, of which ksmd has met the one with one pte: it has the other's place."""
    story = Nodes(2, 2)
    story.drop("a", 1)
    story.scan()
    story.move("a", 0, 1)
    story.move("b", 0, 0)
    story.begin_scan(3)
    return story


def test_a_node_that_is_astray_gives_its_place_to_one_that_was_moved() -> None:
    story = displaced()
    assert (story.tree("a", 0), story.tree("b", 0)) == (1, -1)
    story.scan()
    assert (story.tree("a", 0), story.tree("b", 0), story.counts) == (1, 0, (2, 1, 0, 0))


def test_it_may_be_gone_before_it_has_found_another() -> None:
    story = displaced()
    story.drop("b", 0, 1)
    story.scan()
    assert (story.set_aside, story.counts) == (0, (1, 0, 0, 0))


def test_one_that_waits_without_an_item_takes_the_place_and_gets_its_item_a_scan_later() -> None:
    story = waiting()
    story.move("b", 0, 0)
    story.scan()
    assert (story.tree("a", 0), story.tree("b", 0), story.counts) == (1, 0, (1, 1, 1, 0))
    story.scan()
    assert story.counts == (2, 1, 0, 0)


def test_an_ordinary_page_sends_a_node_away_that_is_astray() -> None:
    story = Nodes(1, 2)
    story.move("a", 0, 1)
    story.move("b", 0, 0)
    story.begin_scan(2)
    assert (story.tree("b", 0), story.counts) == (-1, (1, 1, 1, 0))
    story.scan()
    assert (story.tree("b", 0), story.counts) == (0, (1, 1, 1, 0))


def test_places_in_a_chain_change_in_the_same_ways() -> None:
    for semantics in (None, LATER):
        story = Nodes(2, 4, 2, semantics)
        story.drop("a", 1)
        story.drop("b", 3)
        story.scan()
        assert story.chains == (1, 2)
        story.move("a", 0, 1)
        story.move("b", 2, 0)
        story.scan()
        assert (story.tree("a", 0), story.tree("b", 2), story.chains) == (1, 0, (1, 2))

        story = Nodes(1, 4, 2, semantics)
        story.drop("b", 3)
        story.scan()
        story.move("a", 0, 1)
        story.move("b", 2, 0)
        story.scan()
        assert (story.tree("b", 2), story.chains) == (0, (1, 1))


def test_the_last_dup_takes_the_chains_place_before_the_moved_one_is_put_beside_it_or_takes_it() -> None:
    for displaced, semantics in itertools.product((False, True), (None, LATER)):
        story = Nodes(2, 4, 2, semantics)
        story.drop("b", 3)
        if displaced:
            story.drop("a", 1)
        story.scan()
        story.drop("b", 0, 1)
        story.move("a", 0, 1)
        if displaced:
            story.move("b", 2, 0)
        story.scan(2)
        assert (story.tree("a", 0), story.tree("b", 2)) == (1, 0 if displaced else 1)
        assert (story.chains, story.counts) == (((0, 0), (2, 0, 0, 0)) if displaced else ((1, 2), (2, 1, 0, 0)))


def test_a_witness_sees_a_node_that_did_not_find_its_place() -> None:
    story = Nodes(2, 0)
    story.move("a", 0, 1)
    story.scan()

    def left_where_it_was(story: Watched, seen: Graph) -> Graph:
        (node,) = seen.nodes.values()
        return replace(seen, nodes=put(seen.nodes, replace(node, tree=0)))

    def put_nowhere(story: Watched, seen: Graph) -> Graph:
        (node,) = seen.nodes.values()
        return replace(seen, nodes=put(seen.nodes, replace(node, tree=-1)))

    for corrupt, what in ((left_where_it_was, "in root_stable_tree[0]"), (put_nowhere, "on migrate_nodes")):
        (found,) = story.look(corrupt)
        assert (found.signature, found.seen) == ("P20:tree:scan", what)
        story.oracle._judge._told.clear()
    assert story.look() == []


def test_a_witness_counts_those_that_wait_without_an_item() -> None:
    story = waiting()

    def in_the_tree(story: Watched, seen: Graph) -> Graph:
        return replace(seen, nodes={a: replace(n, tree=1) for a, n in seen.nodes.items()})

    (found,) = story.look(in_the_tree)
    assert (found.signature, found.seen) == ("P20:migrating:scan", "0")

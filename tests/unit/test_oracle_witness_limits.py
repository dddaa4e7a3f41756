# SPDX-License-Identifier: GPL-2.0-or-later
"""A second witness: what other kernels do, or what cannot be known, is no error."""

from __future__ import annotations

from dataclasses import replace

from harness import graph
from harness.graph import Graph
from tests.unit.test_oracle_census import Story as Roaming
from tests.unit.watched_story import Corruption, Watched, merged, put
from tests.unit.witness_corruptions import references, roots_held, vma_not_mergeable, vma_split, without_item
from tests.unit.witness_graph import PAGE_SIZE


def test_items_that_hold_an_ancestor_are_remarked_on_and_no_error() -> None:
    story = merged()
    assert story.look(roots_held) == []
    (remark,) = story.oracle.remarks
    assert "other semantics, not an error" in remark
    story.kernel, kernel = None, story.kernel
    story.exit("C")
    story.kernel = kernel
    assert story.look(roots_held) == []  # C's own was freed, which the model still has
    story.kernel = None
    story.scan()
    story.fork("P1", "D")
    story.kernel = kernel
    assert story.look(roots_held) == []
    assert [f.kind for f in story.look(lambda s, g: references(-1)(s, roots_held(s, g)))] == ["reference-lost"]
    assert len(story.oracle.remarks) == 1


def test_an_item_that_holds_a_descendant_is_an_error() -> None:
    """A walk from there does not reach the vma itself."""
    story = merged()
    own, others = story.item(story.look_only(), "P1", 3), story.item(story.look_only(), "C", 3)

    def descendant(story: Watched, seen: Graph) -> Graph:
        return replace(seen, items=put(seen.items, replace(own, anon_vma=others.anon_vma)))

    assert "item-anon-vma" in {f.kind for f in story.look(descendant)}


def test_a_doubtful_chain_is_not_judged() -> None:
    """A search of another content may have tidied it up, or not: docstring of stable_tree."""
    story = Watched(p="P20")
    story.op("set", file="max_page_sharing", value="2")
    story.filled("P1", "P2", "P3", "P4", npages=2)
    story.scan(3)
    story.exit("P3", "P4")
    story.scan()
    chains = [c for c in story.model.ksmd.tree.roots.values() if getattr(c, "doubtful", False)]
    assert len(chains) == 2

    def collapsed(story: Watched, seen: Graph) -> Graph:
        counters = {**seen.counters, "ksm_stable_node_chains": 0, "ksm_stable_node_dups": 0}
        nodes = {a: replace(n, chain=0) for a, n in seen.nodes.items()}
        return replace(seen, chains={}, nodes=nodes, counters=counters)

    assert story.look(collapsed) == []


def test_a_stale_empty_node_may_have_been_met_by_another_search() -> None:
    """The model's tree has contents for its order, so it keeps the node until that content is searched for."""
    story = Watched()
    story.merged("P1", "P2")
    story.on("pin", "P1", count=1)
    for actor in ("P1", "P2"):
        story.on("unmergeable", actor, count=1)
    story.scan()
    (empty,) = (n for n in story.model.ksmd.tree.nodes() if not n.items)
    assert not empty.stale
    story.op("unpin", actor="P1")
    assert empty.stale

    def pruned(story: Watched, seen: Graph) -> Graph:
        return replace(seen, nodes={a: n for a, n in seen.nodes.items() if n.items})

    assert story.look() == []
    assert story.look(pruned) == []


def test_an_mm_whose_process_is_gone_is_known_by_where_it_was() -> None:
    story = merged()
    story.exit("C")
    (dead,) = (mm for mm in story.model.ksmd.mms if mm.dead)

    def without(story: Watched, seen: Graph) -> Graph:
        return replace(seen, slots=tuple(s for s in seen.slots if s.mm != story.at(dead)), items=dict(seen.items))

    assert "P15:slot-missing:exit" not in {f.signature for f in story.look()}
    assert "slot-missing" in {f.kind for f in story.look(without)}


def test_after_a_scan_that_nobody_asked_for_items_are_not_compared_but_vmas_are() -> None:
    story = merged()
    story.model.memory.doubt("ksmd made a scan that nobody asked for")
    assert story.look(without_item) == []
    assert any("ksmd made a scan that nobody asked for" in note for note in story.oracle.notes)
    assert [f.kind for f in story.look(vma_not_mergeable)] == ["vma"]
    assert [f.kind for f in story.look(references(-1))] == ["reference-lost"]


def test_a_ksmd_that_went_on_unasked_is_not_compared_with_a_model_that_does_not_know() -> None:
    """Between the end of an operation and the look; what the guest tells next says how many scans it were."""
    story = merged()

    def ahead(scans: int) -> Corruption:
        def corrupt(story: Watched, seen: Graph) -> Graph:
            gone = without_item(story, seen)
            return replace(gone, counters={**gone.counters, "seqnr": gone.counters["seqnr"] + scans})

        return corrupt

    assert story.look(ahead(1)) == []
    assert any("a scan that nobody asked for" in note for note in story.oracle.notes)
    assert [f.kind for f in story.look(ahead(0))] == ["item-missing"]


def test_after_a_failure_only_the_look_itself_is_judged() -> None:
    story = merged()
    story.step({"kind": "op", "op": "munmap", "actor": "P1", "area": "a", "first": 0, "count": 1})
    story.kernel, kernel = None, story.kernel
    story.step({"kind": "ret", "of": story.seq, "op": "munmap", "rc": -1, "errno": "ENOMEM"})
    story.kernel = kernel
    assert story.look(vma_split) == []
    assert [f.kind for f in story.look(references(1))] == ["reference-leak"]


def test_after_a_roam_the_look_itself_is_judged_with_the_names_of_who_is_there_now() -> None:
    story = Roaming()
    story.roam()
    vma = graph.Vma(0x200, 0x100, 0, 4 * PAGE_SIZE, 0, 0x80000000, 0x300, (0x300,))
    seen = Graph(
        mms={0x100: graph.Mm(0x100, 11, "init", 1, 2, (0x200,))},
        vmas={0x200: vma},
        anon_vmas={0x300: graph.AnonVma(0x300, 0x300, 0x300, 2, 1, 1, (0x200,))},
    )
    (finding,) = story.oracle.look(story.seq, seen)
    assert finding.signature == "P6:reference-leak:roam"
    assert finding.summary.startswith("the anon_vma of W1.a has refcount 2 where 1 is right")
    assert [box.title for box in story.oracle.drawings[0].after.boxes] == ["W1.a", "W1.a[0..3]"]
    assert any("all acted at once" in note for note in story.oracle.notes)
    assert story.oracle.look(story.seq, replace(seen, anon_vmas={}, vmas={}, mms={})) == []

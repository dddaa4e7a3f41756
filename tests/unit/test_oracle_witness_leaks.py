# SPDX-License-Identifier: GPL-2.0-or-later
"""A second witness: references that are lost or too many, and what nothing leads to any more, are told once."""

from __future__ import annotations

from dataclasses import replace

from harness import graph
from harness.findings import Finding, Tier
from harness.graph import Graph
from harness.oracle import Oracle
from tests.unit.oracle_story import N
from tests.unit.watched_story import Watched, merged, put
from tests.unit.witness_corruptions import empty_node, references, slot_of_the_dead, without_item
from tests.unit.witness_graph import PAGE_SIZE, Kernel


def test_what_is_left_behind_is_a_leak_also_after_something_was_unmerged() -> None:
    story = merged()
    story.on("unmergeable", "P2", count=4)
    assert [f.signature for f in story.look(empty_node)] == ["P18:node-extra:unmergeable"]
    story.kernel, kernel = None, story.kernel
    story.scan()
    story.kernel = kernel
    assert story.look(empty_node) == []  # as it was
    assert [f.signature for f in story.look(slot_of_the_dead)] == ["P6:slot-extra:scan"]
    assert [f.signature for f in story.look(without_item)] == ["P18:item-missing:scan"]


def test_the_refcount_is_accounted_for_in_words() -> None:
    story = Watched()
    story.merged("P1", "P2")
    for child in ("C1", "C2", "C3"):
        story.fork("P1", child)
    story.on("unmergeable", "P2", count=4)
    (finding,) = story.look(references(-1))
    assert finding.summary == (
        "the anon_vma of P1.a has refcount 19 where 20 is right (16 rmap_items + 1 as vmas are linked in it + 3 as the root of "
        f"3 others): 1 reference lost, after unmergeable of P2.a[0..3] (record {story.seq - 1})"
    )
    assert (finding.prop, finding.tier, finding.seq, finding.pages) == ("P5", Tier.SAFETY, story.seq, f"P1.a[0..{N - 1}]")


def test_what_gets_worse_is_told_again_and_what_is_mended_is_not() -> None:
    story = merged()
    assert len(story.look(references(1))) == 1
    story.kernel, kernel = None, story.kernel
    story.exit("P2")
    story.kernel = kernel
    assert [f.signature for f in story.look(references(2))] == ["P6:reference-leak:exit"]
    assert story.look() == []


def test_an_anon_vma_that_nothing_leads_to_any_more_is_seen_to_be_leaked() -> None:
    """Each item of the dead process was to put it, and one did not: neither a list nor a tree has it now."""
    story = Watched()
    story.merged("P1", "P2")
    story.exit("P2")
    story.kernel, kernel = None, story.kernel
    story.scan()
    story.kernel = kernel

    def leak(story: Watched, seen: Graph) -> Graph:
        (freed,) = seen.former.values()
        return replace(seen, former={freed.address: replace(freed, refcount=1)})

    def used_again(story: Watched, seen: Graph) -> Graph:
        """A private file mapping's, which a look does not lead to."""
        return replace(seen, former={a: replace(v, refcount=1, active=2) for a, v in seen.former.items()})

    assert kernel is not None
    look = kernel.look()
    assert story.oracle.look(story.seq, used_again(story, look)) == []
    (finding,) = story.oracle.look(story.seq, leak(story, look))
    assert finding.signature == "P6:reference-leak:scan"
    assert finding.summary.startswith("the anon_vma of P2.a has refcount 1 though nothing holds it any more")


def test_a_leak_that_was_told_is_not_told_again_when_the_last_holder_goes() -> None:
    story = Watched()
    story.merged("P1", "P2")
    assert [f.kind for f in story.look(references(2, "P2"))] == ["reference-leak"]
    story.oracle._judge._told.clear()
    story.kernel, kernel = None, story.kernel
    story.exit("P2")
    story.kernel = kernel

    def unlinked(story: Watched, seen: Graph) -> Graph:
        dead = next(mm for mm in story.model.ksmd.mms if mm.dead)
        held = next(iter(dead.items.values())).anon_vma
        assert held is not None
        anon = seen.anon_vmas[story.at(held)]
        return replace(seen, anon_vmas=put(seen.anon_vmas, replace(anon, refcount=anon.refcount + 2)))

    assert story.look(unlinked) == []
    story.kernel = None
    story.scan()
    story.kernel = kernel

    def leaked(story: Watched, seen: Graph) -> Graph:
        return replace(seen, former={a: replace(v, refcount=2) for a, v in seen.former.items()})

    assert story.look(leaked) == []


def test_what_the_first_look_shows_is_of_before() -> None:
    oracle = Oracle({"cpus": 1}, {"seq": 0, "p": "P1", "kind": "begin", "workload": "w", "page_size": PAGE_SIZE})
    kernel = Kernel(oracle.model)
    oracle.step({"seq": 1, "kind": "op", "op": "spawn", "actor": "Z", "memcg": "t"})
    oracle.step({"seq": 2, "kind": "ret", "of": 1, "op": "spawn", "rc": 0, "pid": 300})
    lost = graph.AnonVma(0x70, 0x70, 0x70, 5, 0, 0, ())
    (finding,) = oracle.look(2, replace(kernel.look(), former={0x70: lost}))
    assert finding.signature == "P6:reference-leak:reset"
    assert finding.summary.startswith("the anon_vma at 0x70 has refcount 5 though nothing holds it any more")
    assert finding.summary.endswith(", after the reset before this workload")


def test_what_one_workload_has_told_the_next_one_does_not_tell() -> None:
    before = merged()
    assert [f.kind for f in before.look(references(2))] == ["reference-leak"]
    address = before.at(before.model.actors["P1"].vmas[0].anon_vma)

    def next_workload(refcount: int) -> list[Finding]:
        oracle = Oracle({"cpus": 1}, {"seq": 0, "p": "P1", "kind": "begin", "workload": "x", "page_size": PAGE_SIZE})
        oracle.follow(before.oracle)
        former = {address: graph.AnonVma(address, address, address, refcount, 0, 0, ())}
        return oracle.look(2, Graph(former=former))

    (finding,) = next_workload(3)
    assert finding.summary.startswith("the anon_vma of P1.a has refcount 3 though nothing holds it any more")
    before.oracle._witness._references._off[address] = 2  # as it was before the look above
    assert next_workload(2) == []


def test_a_leaked_child_explains_its_roots_reference() -> None:
    story = merged()
    story.exit("C")
    story.kernel, kernel = None, story.kernel
    story.scan()
    story.kernel = kernel
    leaked: list[graph.AnonVma] = []

    def leak(story: Watched, seen: Graph) -> Graph:
        former = seen.former
        if not leaked:
            (freed,) = (v for v in seen.former.values() if v.root == story.anon_vma("P1", seen).address)
            leaked.append(replace(freed, refcount=1))
            former = put(former, leaked[0])
        root = story.anon_vma("P1", seen)
        return replace(seen, former=former, anon_vmas=put(seen.anon_vmas, replace(root, refcount=root.refcount + 1)))

    assert [f.signature for f in story.look(leak)] == ["P6:reference-leak:scan"]
    story.oracle._judge._told.clear()
    assert story.look(leak) == []


def test_an_anon_vma_that_was_freed_too_early_and_used_again_is_not_taken_for_the_old_one() -> None:
    story = Watched()
    story.merged("P1", "P2")
    story.exit("P2")
    story.kernel, kernel = None, story.kernel
    story.filled("P3", mergeable=False)
    story.kernel = kernel

    def again(story: Watched, seen: Graph) -> Graph:
        """P3's vma has got what P2's items still hold."""
        dead = next(mm for mm in story.model.ksmd.mms if mm.dead)
        held = next(i for i in dead.items.values()).anon_vma
        assert held is not None
        new, old = story.anon_vma("P3", seen), story.at(held)
        vma = seen.vmas[new.vmas[0]]
        return replace(
            seen,
            anon_vmas={
                a: v for a, v in put(seen.anon_vmas, replace(new, address=old, root=old, parent=old)).items() if a != new.address
            },
            vmas=put(seen.vmas, replace(vma, anon_vma=old, chain=(old,))),
        )

    assert {f.signature for f in story.look(again)} >= {"P5:reference-lost:fill", "P8:vma-links:fill"}

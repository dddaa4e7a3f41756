# SPDX-License-Identifier: GPL-2.0-or-later
"""What reclaim left mapped, lost, or did not reach: each yields the one signature that names it."""

from __future__ import annotations

from harness.findings import Tier
from harness.oracle.runs import KPF_KSM
from harness.oracle.semantics import Semantics
from tests.unit.oracle_story import N, Story
from tests.unit.tampering import flip, forked, states


def test_a_new_fork_that_stays_mapped() -> None:
    story = forked()
    (finding,) = story.reclaim(states(story, C="P"))
    assert finding.signature == "P1:still-mapped:reclaim"
    assert finding.tier is Tier.SAFETY and not finding.follows
    assert finding.actors == ("C",) and finding.pages == "C.a[0..15]"
    assert finding.summary == (
        "child C (pid 204) still maps 16 KSM pages after reclaim: ptes that fork copied before ksmd met them were not unmapped"
    )
    # The model goes on from there: the page is in the swap cache, and whoever reads it gets the KSM page back.
    assert story.observe() == []
    assert story.verify("P1") == [] and story.states("P1") == "K" * N
    assert story.observe() == []
    assert story.model.memory.ksm_swpin_copy == 0


def test_an_owner_that_stays_mapped_is_told_otherwise() -> None:
    story = forked("P2")
    (finding,) = story.reclaim(states(story, P1="P", C="P"))
    assert finding.signature == "P2:still-mapped:reclaim"
    assert "P1 (pid 202) still maps 16 KSM pages too" in finding.summary


def test_every_ksm_page_stays_mapped() -> None:
    story = Story(p="P14")
    story.merged("P1", "P2")
    (finding,) = story.reclaim(states(story, P1="P", P2="P"))
    assert finding.signature == "P14:still-mapped:reclaim"
    assert "though each has its rmap_item" in finding.summary


def test_property_in_progress_is_believed_only_if_it_is_one_of_the_workloads() -> None:
    story = forked("P99")
    assert [f.prop for f in story.reclaim(states(story, C="P"))] == ["P1"]


def test_ranges_to_keep_are_not_held_against_the_kernel() -> None:
    story = forked()
    assert story.reclaim(states(story, P1="P", P2="P", C="P"), keep=[[a, "a", 0, N] for a in ("P1", "P2", "C")]) == []
    assert story.observe() == []
    assert story.states("P1") == "K" * N


def test_half_unmapped_by_an_attempt_and_finished_by_a_later_one() -> None:
    story = forked()
    half = states(story, C="P" * 4 + "S" * 12)
    (finding,) = story.reclaim(half + story.predicted_attempts())
    assert finding.signature == "P1:half-unmapped:reclaim"
    assert finding.pages == "C.a[0..3]"
    assert story.observe() == []


def foreign_and_young(*, stops: bool = True) -> Story:
    """Walks meet P2's pte, P1's and C's, in this order; of P1, which is in another memcg, some pages were used."""
    story = Story(Semantics(unmap_stops_at_young=stops))
    story.merged("P1", "P2")
    story.fork("P1", "C")
    for actor in ("P1", "P2", "C"):
        story.op("clear_refs", actor=actor)
    story.op("move", actor="P1", memcg="u")
    story.on("touch", "P1", count=4)
    return story


def test_before_5_11_unmapping_stops_at_a_young_pte_of_another_memcg() -> None:
    for stops, found in ((True, []), (False, ["P1:half-unmapped:reclaim"])):
        story = foreign_and_young(stops=stops)
        part = "P" * 4 + "S" * 12
        story.reclaim(states(story, P1=part, C=part) + story.predicted_attempts())
        assert story.signatures == found


def test_before_5_11_what_else_is_half_unmapped_is_wrong() -> None:
    gone, used, old = "S" * N, "P" * 4 + "S" * 12, "S" * 4 + "P" * 4 + "S" * 8
    wrong = (
        {"P1": old, "C": old},  # stopped where nobody had used it
        {"P1": used, "C": gone},  # went on behind the stop
        {"P1": used, "P2": used, "C": gone},  # stopped before it
        {"P1": gone, "C": used},  # stopped behind it, at one of this memcg
    )
    for left in wrong:
        story = foreign_and_young()
        story.reclaim(states(story, **left) + story.predicted_attempts())
        assert story.signatures == ["P1:half-unmapped:reclaim"], left


def test_whole_pages_that_go_in_several_attempts_are_fine() -> None:
    story = forked()
    some = "P" * 4 + "S" * 12
    assert story.reclaim(states(story, P1=some, P2=some, C=some) + story.predicted_attempts()) == []


def test_a_locked_page_is_swapped() -> None:
    story = Story(p="P8")
    story.merged("P1", "P2")
    story.on("mlock", "P1", count=8, onfault=True)
    (finding,) = story.reclaim(states(story, P2="P" * 7 + "S" * 9))
    assert finding.signature == "P9:locked-swapped:reclaim"
    assert finding.pages == "P2.a[7]"


def test_a_page_locked_twice_and_unlocked_once_stays() -> None:
    """The count of locks is exact here; where it may be lost see test_oracle_ageing."""
    for memcg in ("t", "u"):
        story = Story(p="P9")
        story.merged("P1", "P2")
        story.model.actors["P1"].memcg = memcg
        story.on("mlock", "P1", onfault=True)
        story.on("mlock", "P2", onfault=True)
        story.on("munlock", "P2")
        assert [f.signature for f in story.reclaim(states(story, P2="S"))] == ["P9:locked-swapped:reclaim"]


def test_a_kernel_that_reaches_a_parent_has_other_semantics() -> None:
    story = Story()
    story.filled("Other")
    story.filled("Parent", mergeable=False)
    story.fork("Parent", "Child")
    story.on("mergeable", "Child")
    story.scan(2)
    assert story.reclaim(states(story, Parent="S")) == []
    (remark,) = story.oracle.remarks
    assert "Parent" in remark and "other semantics, not an error" in remark
    assert story.observe() == []


def test_reclaim_that_loses_pages() -> None:
    story = forked()
    (finding,) = story.reclaim(states(story, C="N"))
    assert finding.signature == "P1:lost:reclaim"


def test_a_control_that_stays_makes_reclaim_unjudged() -> None:
    story = forked()
    stuck = states(story, P1="P", P2="P", C="P")
    stuck[0]["states"]["Z"]["z"] = [[4, "P"]]
    assert story.reclaim(stuck, control="stuck") == []
    assert "Z.z" in story.oracle.control_failed
    assert story.observe() == []


def test_a_control_that_was_out_before_is_noted() -> None:
    story = forked()
    story.reclaim(states(story, C="P"), keep=[["C", "a", 0, N]])
    story.reclaim(states(story, C="P"))
    assert story.signatures == ["P1:still-mapped:reclaim"]
    assert "the control had nothing to show" in story.oracle.notes[-1]


def test_lingering_pages_are_not_judged() -> None:
    story = forked()
    story.reclaim(lingering=N)
    story.verify("P1")
    assert story.observe(flip("P1", KPF_KSM)) == []
    assert any("not judged" in note for note in story.oracle.notes)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Ageing: references of forks and of other memcgs, idle page tracking, and locks that PG_mlocked tells nothing of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from harness.findings import Finding, Tier
from harness.oracle import rmap
from harness.oracle.ageing import look, make_old
from harness.oracle.records import JournalContradiction
from harness.oracle.runs import KPF_MLOCKED, KPF_REFERENCED, KPF_UNEVICTABLE

from .oracle_story import HELLO, N, Record, Story, attempt

MARKS = KPF_MLOCKED | KPF_UNEVICTABLE


def watched(story: Story, references: list[list[int]], attempts: Any = None, keep: Any = ()) -> list[Finding]:
    """A reclaim that tells what the walks for references to P1's pages returned."""
    results = {
        "attempts": story.predicted_attempts() if attempts is None else attempts,
        "control": "gone", "lingering": 0, "why": "done", "references": references,
    }  # fmt: skip
    return story.op("reclaim", results, memcg=story.memcg, keep=list(keep), watch=["P1", "a", 0, N])


def forked(p: str = "P12", hello: Record = HELLO) -> Story:
    """P1 and P2 merged, C a fork of P1 and D one of P2; all ptes old."""
    story = Story(p=p, hello=hello)
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.fork("P2", "D")
    for actor in ("P1", "P2"):
        story.op("clear_refs", actor=actor)
    return story


def states(story: Story, **letters: str) -> list[Record]:
    """One attempt after which these actors have these states, and all others what is predicted."""
    (record,) = story.predicted_attempts()
    predicted = record["states"]
    for actor, text in letters.items():
        predicted[actor] = {"a": [[1, letter] for letter in (text if len(text) > 1 else text * N)]}
    return [attempt(predicted)]


# References.


def test_a_fork_starts_with_old_ptes_and_its_owners_with_young_ones() -> None:
    story = Story(p="P12")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    assert watched(story, [[N, 2, 0, 2]]) == []


@pytest.mark.parametrize("actors", [(), ("C",), ("P1", "D"), ("P1", "P2", "C", "D")])
def test_each_pte_that_was_used_counts(actors: tuple[str, ...]) -> None:
    story = forked()
    for actor in actors:
        story.on("touch", actor)
    assert watched(story, [[N, len(actors), 0, 2]]) == []


def test_a_fork_that_does_not_count() -> None:
    story = forked()
    story.on("touch", "C", first=4, count=4)
    (finding,) = watched(story, [[N, 0, 0, 2]])
    assert (finding.signature, finding.tier) == ("P12:references:reclaim", Tier.HEURISTIC)
    assert finding.pages == "P1.a[4..7]"
    assert "counted 0 references where 1" in finding.summary
    assert story.observe() == []


def test_whether_a_tlb_had_the_pte_is_not_judged() -> None:
    for seen in (0, 1):
        story = forked()
        story.on("read", "C")
        assert watched(story, [[N, seen, 0, 2]]) == []


def test_references_are_gone_after_the_first_look() -> None:
    story = forked()
    story.on("touch", "C")
    (finding,) = watched(story, [[N, 1, 1, 2]])
    assert finding.signature == "P12:references-stay:reclaim"


def test_a_young_pte_ends_idleness_and_what_was_taken_before_does_not() -> None:
    story = Story(p="P12")
    story.merged("P1", "P2")
    story.op("idle_set", actor="P1", area="a", first=0, count=N)  # which takes both young bits for the pages
    story.op("touch", actor="P2", area="a", first=0, count=4)
    story.model.actors["P2"].ptes[min(story.model.actors["P2"].ptes) + 4].young = None  # as where a TLB had it
    pages = [pte.page for _, pte in sorted(story.model.actors["P2"].ptes.items()) if pte.page is not None]
    for page in pages:
        make_old(page, look(page, story.memcg))
    assert [page.idle for page in pages] == [False] * 4 + [None] + [True] * (N - 5)
    assert not any(page.young for page in pages)


def test_a_page_in_use_is_looked_at_again_before_it_goes() -> None:
    story = forked()
    story.on("touch", "C")
    (finding,) = watched(story, [[N, 1, 0, 1]])
    assert finding.signature == "P12:references-unheeded:reclaim"
    story = forked()
    assert watched(story, [[N, 0, 0, 1]]) == []


def test_pages_that_were_never_looked_at_are_not_judged() -> None:
    story = forked()
    story.on("touch", "C")
    kept = [[actor, "a", 0, N] for actor in ("P1", "P2", "C", "D")]
    assert watched(story, [[N, 0, 0, 0]], states(story, P1="P", P2="P", C="P", D="P"), kept) == []


def test_pages_in_use_that_go_without_a_look() -> None:
    story = forked()
    story.on("touch", "C", count=4)
    (finding,) = watched(story, [[N, 0, 0, 0]])
    assert (finding.signature, finding.pages) == ("P12:references-unheeded:reclaim", "P1.a[0..3]")


@pytest.mark.parametrize("references", [[[N, 1, 0]], [[N + 1, 1, 0, 2]], [[N - 1, 1, 0, 2]], [["x", 1, 0, 2]], [[N, -1, 0, 2]]])
def test_references_that_cannot_be(references: list[list[int]]) -> None:
    with pytest.raises(JournalContradiction):
        watched(forked(), references)


# Memcgs.


def test_references_from_another_memcg_do_not_count() -> None:
    story = forked(p="P13")
    story.op("move", actor="P1", memcg="u")
    story.op("move", actor="D", memcg="u")
    for actor in ("P1", "P2", "C", "D"):
        story.on("touch", actor)
    (finding,) = watched(story, [[8, 2, 0, 2], [N - 8, 4, 0, 2]])
    assert finding.signature == "P13:references:reclaim"
    assert finding.pages == f"P1.a[8..{N - 1}]"
    assert story.states("P1") == "S" * N  # unmapped nevertheless


def test_charges_stay_when_a_process_moves() -> None:
    story = forked()
    story.op("move", actor="P2", memcg="u")
    assert {page.memcg for page in story.model.pages()} == {"t"}
    story.fill("P2", tag=900, op="write")
    assert {page.memcg for page in story.model.pages()} == {"t", "u"}


def test_a_pte_met_twice_counts_once() -> None:
    """C has an item of its own on an anon_vma of its own, and is met once more by its parent's; P2 is filtered."""
    story = Story(p="P13")
    story.filled("P1")
    story.fork("P1", "C")
    story.fill("C", op="write")
    story.filled("P2")
    story.scan(3)
    assert story.states("C") == "K" * N
    story.op("move", actor="P2", memcg="u")
    for actor in ("P1", "C", "P2"):
        story.op("clear_refs", actor=actor)
        story.on("touch", actor)
    page = next(page for page in story.model.pages() if page.ksm)
    story.memcg = page.memcg
    inside = sum(pte.mm.memcg == page.memcg for pte in page.ptes)
    assert watched(story, [[N, inside, 0, 2]]) == []


# Idle page tracking.


def test_a_page_that_a_fork_has_used_is_not_idle() -> None:
    story = forked()
    story.on("idle_set", "P1")
    story.on("touch", "C", count=4)
    assert story.on("idle_read", "P2", results={"idle": [[4, 0], [N - 4, 1]]}) == []
    assert story.on("idle_read", "P2", results={"idle": [[4, 0], [N - 4, 1]]}) == []


@pytest.mark.parametrize(("idle", "pages"), [([[N, 1]], "P2.a[0..3]"), ([[N, 0]], f"P2.a[4..{N - 1}]")])
def test_idle_bits_that_are_wrong(idle: list[list[int]], pages: str) -> None:
    story = forked()
    story.on("idle_set", "P1")
    story.on("touch", "C", count=4)
    (finding,) = story.on("idle_read", "P2", results={"idle": idle})
    assert (finding.signature, finding.tier, finding.pages) == ("P12:idle:idle_read", Tier.HEURISTIC, pages)


def test_what_idle_tracking_took_counts_as_one_reference() -> None:
    """PG_young, which clear_refs takes away in turn."""
    story = forked()
    story.on("touch", "C")
    story.on("touch", "D")
    story.on("idle_set", "P1")
    assert watched(story, [[N, 1, 0, 2]]) == []
    story = forked()
    story.on("touch", "C")
    story.on("idle_set", "P1")
    story.op("clear_refs", actor="P1")
    assert watched(story, [[N, 0, 0, 2]]) == []


def moved(story: Story) -> None:
    """All pages of P1, by frame number: nobody touches them."""
    story.op("soft_offline", {"outcomes": [[N, "", True]]}, actor="P1", area="a", first=0, count=N, via="sysfs")


@pytest.mark.parametrize("idle", [1, 0])
def test_a_page_that_was_moved_is_as_idle_as_before(idle: int) -> None:
    """folio_migrate_flags takes the mark along, and an old pte is old afterwards (remove_migration_pte)."""
    story = forked()
    story.on("idle_set", "P1")
    moved(story)
    story.on("idle_read", "P2", results={"idle": [[N, idle]]})
    assert story.signatures == ([] if idle else ["P12:idle:idle_read"])


def test_whether_a_pte_that_was_used_is_young_in_the_new_frame_is_not_judged() -> None:
    story = forked()
    story.on("idle_set", "P1")
    story.on("touch", "C")
    moved(story)
    for idle in (1, 0):
        assert story.on("idle_read", "P2", results={"idle": [[N, idle]]}) == []


# Locks that were lost.


def forgotten(*, memcg: str = "t") -> Story:
    """P1 is VM_LOCKED and its pages are not marked; P2 comes first in the walk."""
    story = forked(p="P10")
    story.on("mlock", "P1", onfault=True)
    story.on("mlock", "P2", onfault=True)
    story.on("pin", "P1")
    story.on("putback", "P1")
    story.op("unpin", actor="P1")
    story.on("munlock", "P2")
    assert not any(page.mlock.marked for page in story.model.pages())
    if memcg != "t":
        story.op("move", actor="P1", memcg=memcg)
    return story


def unmarked(record: dict[str, Any]) -> None:
    """The guest sees no PG_mlocked."""
    for proc in record["procs"].values():
        for run in (r for area in proc["areas"].values() for r in area if r[1] == "P"):
            run[4] = f"{int(run[4], 16) & ~MARKS:x}"


def marked(record: dict[str, Any]) -> None:
    """The guest sees PG_mlocked on all pages."""
    for proc in record["procs"].values():
        for run in (r for area in proc["areas"].values() for r in area if r[1] == "P"):
            run[4] = f"{int(run[4], 16) | MARKS:x}"


def test_a_lock_is_counted_until_the_last_one_goes() -> None:
    story = forked(p="P9")
    story.on("mlock", "P1", onfault=True)
    story.on("mlock", "P2", onfault=True)
    story.on("munlock", "P2")
    assert [f.signature for f in story.observe(unmarked)] == ["P9:not-locked:mlock"]
    story.on("munlock", "P1")
    assert not any(page.mlock.marked for page in story.model.pages())


def test_locks_are_counted_anew_where_a_page_is_moved() -> None:
    story = forked(p="P9")
    for actor in ("P1", "P2"):
        story.on("mlock", actor, onfault=True)
    moved(story)
    assert story.observe() == []
    story.on("munlock", "P2")
    assert [f.signature for f in story.observe(unmarked)] == ["P9:not-locked:munlock"]
    story.on("munlock", "P1")
    assert not any(page.mlock.marked for page in story.model.pages())


def test_a_lock_that_was_lost_is_marked_where_the_page_is_moved() -> None:
    story = forgotten()
    moved(story)
    assert all(page.mlock.marked for page in story.model.pages() if page.ksm)
    story.on("munlock", "P1")
    assert not any(page.mlock.marked for page in story.model.pages())


def test_a_lock_that_was_lost_is_met_by_the_walk_for_references() -> None:
    story = forgotten()
    assert watched(story, [[N, 0, 0, 1]]) == []
    assert story.states("P2") == "K" * N
    assert story.observe() == []
    assert all(page.mlock.marked for page in story.model.pages() if page.ksm)
    story.on("munlock", "P1")
    assert story.reclaim() == []
    assert story.states("P1") == story.states("C") == "S" * N


def test_reclaim_that_unmaps_up_to_a_forgotten_lock() -> None:
    story = forgotten()
    (finding,) = watched(story, [[N, 0, 0, 1]], states(story, P2="S"))
    assert (finding.signature, finding.tier) == ("P10:locked-swapped:reclaim", Tier.SAFETY)


def test_a_mark_that_is_not_restored() -> None:
    story = forgotten()
    watched(story, [[N, 0, 0, 1]])
    (finding,) = story.observe(unmarked)
    assert finding.signature == "P10:not-locked:reclaim"


def test_without_a_walk_seen_the_mark_is_not_judged() -> None:
    story = forgotten()
    assert story.reclaim() == []
    assert story.observe(unmarked) == []


def test_a_kernel_that_does_not_lose_the_mark_is_no_worse() -> None:
    story = forgotten()
    assert story.observe(marked) == []
    assert story.reclaim() == []
    assert story.states("P2") == "K" * N


@pytest.mark.parametrize("seen", ["SPP", "SSS", "PPP"])
def test_a_locked_mapper_in_another_memcg_stops_the_walk_that_unmaps(seen: str) -> None:
    """Which of the others it has passed before is owed to nobody; the model has the kernel's own order."""
    story = forgotten(memcg="u")
    page = next(page for page in story.model.pages() if page.ksm)
    assert [pte.mm.name for pte in rmap.to_unmap(story.model.memory, page, "t")] == ["P2"]
    assert watched(story, [[N, 0, 0, 2]], states(story, P2=seen[0], C=seen[1], D=seen[2])) == []
    assert story.states("P1") == "K" * N
    assert [f.signature for f in story.observe(unmarked)] == ["P10:not-locked:reclaim"]


def test_a_locked_pte_in_another_memcg_is_unmapped() -> None:
    story = forgotten(memcg="u")
    (finding,) = watched(story, [[N, 0, 0, 2]], states(story, P1="S", P2="S", C="S", D="S"))
    assert (finding.signature, finding.actors, finding.tier) == ("P10:locked-swapped:reclaim", ("P1",), Tier.SAFETY)


@pytest.mark.parametrize(("gone", "signatures"), [("P3", []), ("P1", []), ("P1 P3", ["P10:walked-past-lock:reclaim"])])
def test_the_unmapping_walk_ends_at_a_lock_from_whichever_end_it_comes(gone: str, signatures: list[str]) -> None:
    """Of three sharers the middle one has locked, in another memcg."""
    story = Story(p="P10")
    story.merged("P1", "P2", "P3")
    for actor in ("P1", "P2"):
        story.on("mlock", actor, onfault=True)
    story.on("pin", "P2")
    story.on("putback", "P2")
    story.op("unpin", actor="P2")
    story.on("munlock", "P1")
    story.op("move", actor="P2", memcg="u")
    story.op("clear_refs", actor="P1")
    page = next(page for page in story.model.pages() if page.ksm)
    assert page.node is not None and [item.mm.name for item in page.node.items] == ["P1", "P2", "P3"]
    letters = {actor: "S" if actor in gone.split() else "P" for actor in ("P1", "P2", "P3")}
    found = story.reclaim(states(story, **letters))
    assert [f.signature for f in found] == signatures


def not_referenced(record: Record) -> None:
    """The bit is on no page of the observation."""
    for proc in record["procs"].values():
        for run in itertools.chain.from_iterable(proc["areas"].values()):
            if run[1] == "P":
                run[4] = f"{int(run[4], 16) & ~KPF_REFERENCED:x}"


def test_a_new_ksm_page_is_marked_as_used() -> None:
    story = Story(p="P1")
    story.merged()
    (finding,) = story.observe(not_referenced)
    assert (finding.signature, finding.tier) == ("P12:not-referenced:scan", Tier.HEURISTIC)
    assert story.counts == (N, N, 0, 0) and not story.model.memory.unsure  # nothing else is in doubt for it
    assert story.observe() == []


@pytest.mark.parametrize("op", ["clear_refs", "pin", "soft_offline", "reclaim", "mlock"])
def test_the_mark_is_not_asked_for_after_others_have_looked_at_the_page(op: str) -> None:
    story = Story(p="P1")
    story.merged()
    if op == "clear_refs":
        story.op(op, actor="P1")
    elif op == "pin":
        story.on(op, "P1")
    elif op == "soft_offline":
        story.on(op, "P1", results={"outcomes": [[N, "", True]]}, via="madvise")
    elif op == "mlock":
        story.on("mergeable", "P1")
        story.on(op, "P1", onfault=False)
        story.on(op, "P2", onfault=False)
    else:
        story.on("mlock", "P1", onfault=True)
        story.reclaim()
    assert story.observe(not_referenced) == []


def test_a_guest_that_does_not_tell_the_mark_or_keeps_generations_is_not_asked_for_it() -> None:
    tell_not: list[Record] = [{"page_flags": flags} for flags in ("0", "2017e3900", "no number")]
    for told in (*tell_not, {"settings": {"lru_gen": "0x0007"}}):
        story = Story(p="P1", hello={**HELLO, **told})
        story.merged()
        assert story.observe(not_referenced) == []


# Others that look for references.

DAMON = HELLO | {"settings": {"damon_stat": "Y"}}


@pytest.mark.parametrize(("seen", "wrong"), [(0, True), (1, False), (2, False), (4, False), (5, True)])
def test_what_damon_took_is_one_reference_of_the_page(seen: int, wrong: bool) -> None:
    """Any of four ptes may have been made old before reclaim came, at different times."""
    story = forked(hello=DAMON)
    for actor in ("P1", "P2", "C", "D"):
        story.on("touch", actor)
    assert [f.signature for f in watched(story, [[N, seen, 0, 2]])] == ["P12:references:reclaim"] * wrong


@pytest.mark.parametrize(("damon", "seen", "wrong"), [(True, 0, False), (True, 1, False), (True, 2, True), (False, 1, True)])
def test_what_damon_took_counts_for_any_memcg(damon: bool, seen: int, wrong: bool) -> None:
    story = forked("P13", hello=DAMON if damon else HELLO)
    for actor in ("P1", "C"):
        story.op("move", actor=actor, memcg="u")
        story.on("touch", actor)
    assert [f.signature for f in watched(story, [[N, seen, 0, 2]])] == ["P13:references:reclaim"] * wrong


def test_damon_sets_idle_bits_as_well() -> None:
    for hello in (DAMON, HELLO):
        story = forked(hello=hello)
        story.on("idle_set", "P1")
        story.on("touch", "C")
        assert bool(story.on("idle_read", "P1", results={"idle": [[N, 1]]})) is (hello is HELLO)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The model of locked memory (P8 to P10) against what was measured or follows from the source."""

from __future__ import annotations

from typing import Any

import pytest

from harness.oracle import Semantics
from harness.oracle.runs import KPF_MLOCKED
from tests.unit.oracle_story import N, Story, attempt, cow


def test_p8_exactly_the_unlocked_half_goes() -> None:
    story = Story(p="P8")
    story.merged("P1", "P2")
    story.on("mlock", "P1", count=8, onfault=True)
    story.reclaim(keep=[["P1", "a", 0, 8], ["P2", "a", 0, 8]])
    assert story.states("P1") == story.states("P2") == "KKKKKKKKSSSSSSSS"


def test_p8_vmas_split_at_page_granularity_and_remerged() -> None:
    story = Story(p="P8")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    for i in range(0, N, 2):
        story.on("mprotect", "C", first=i, count=1, prot="r")
        story.on("mprotect", "P2", first=i, count=1, prot="none")
    assert len(story.model.actors["C"].vmas) == N
    story.on("mprotect", "C", prot="rw")
    assert len(story.model.actors["C"].vmas) == 1
    story.reclaim()
    assert [story.states(a) for a in ("P1", "P2", "C")] == ["S" * N] * 3


def test_p9_a_lock_in_one_mapper_keeps_the_page_in_all() -> None:
    story = Story(p="P9")
    story.merged("P1", "P2")
    story.on("mlock", "P1", onfault=True)
    story.fork("P1", "C")
    story.reclaim()
    assert [story.states(a) for a in ("P1", "P2", "C")] == ["K" * N] * 3
    story.on("munlock", "P1")
    story.reclaim()
    assert [story.states(a) for a in ("P1", "P2", "C")] == ["S" * N] * 3


def test_p9_a_plain_mlock_breaks_ksm_pages() -> None:
    story = Story(p="P9")
    story.merged("P1", "P2")
    story.on("mlock", "P1", onfault=False)
    assert (story.states("P1"), story.states("P2"), cow(story)) == ("P" * N, "K" * N, N)


BEFORE_5_18 = Semantics(mlock_marks_ksm=False, has_cow_ksm=False, swap_ptes_keep_exclusive=False)


def test_p9_before_5_18_a_locked_ksm_page_is_half_unmapped() -> None:
    story = Story(BEFORE_5_18, p="P9")
    story.merged("P1", "P2")
    story.on("mlock", "P1", onfault=True)
    story.reclaim(attempts=[])
    assert (story.states("P2"), story.states("P1")) == ("S" * N, "K" * N)


def test_p9_before_5_18_what_is_merged_into_a_locked_vma_is_marked() -> None:
    story = Story(BEFORE_5_18, p="P9")
    story.filled("P1", "P2")
    story.on("mlock", "P1", onfault=True)
    story.scan(2)
    story.reclaim()
    assert (story.states("P1"), story.states("P2")) == ("K" * N, "K" * N)
    story.on("munlock", "P1")
    story.reclaim()
    assert (story.states("P1"), story.states("P2")) == ("S" * N, "S" * N)


def forgotten_lock(p: str = "P10") -> Story:
    """Both have locked; a migration that fails marks the pages and puts them back; P2 unlocks."""
    story = Story(BEFORE_5_18, p=p)
    story.merged("P1", "P2")
    for actor in ("P1", "P2"):
        story.on("mlock", actor, onfault=True)
    assert not any(page.mlock.marked for page in story.model.pages())
    story.on("pin", "P1")
    story.on("putback", "P1")
    story.op("unpin", actor="P1")
    story.on("munlock", "P2")
    assert all(page.mlock.unsure for page in story.model.pages() if page.ksm)
    return story


def test_p10_before_5_18_munlock_asks_the_others_and_forgets_no_lock() -> None:
    story = forgotten_lock()
    assert story.observe() == []
    assert all(page.mlock.marked and not page.mlock.unsure for page in story.model.pages() if page.ksm)
    story.op("move", actor="P1", memcg="u")
    story.reclaim()
    assert (story.states("P1"), story.states("P2")) == ("K" * N, "K" * N)
    story.on("munlock", "P1")
    story.reclaim()
    assert (story.states("P1"), story.states("P2")) == ("S" * N, "S" * N)


def test_p10_before_5_18_munlock_cannot_ask_for_a_page_that_waits_in_a_pagevec() -> None:
    story = forgotten_lock()

    def unmarked(record: dict[str, Any]) -> None:
        for proc in record["procs"].values():
            for run in proc["areas"].get("a", []):
                run[4] = f"{int(run[4], 16) & ~KPF_MLOCKED:x}"

    assert story.observe(unmarked) == []
    assert not any(page.mlock.marked or page.mlock.unsure for page in story.model.pages())
    assert story.reclaim(attempts=[]) == []
    assert (story.states("P1"), story.states("P2")) == ("K" * N, "S" * N)


@pytest.mark.parametrize("gone", [True, False])
def test_p10_before_5_18_where_nobody_looked_either_may_be(gone: bool) -> None:
    story = forgotten_lock()
    (record,) = story.predicted_attempts()
    states = record["states"]
    states["P2"] = {"a": [[N, "S" if gone else "P"]]}
    keep = [[actor, "a", 0, N] for actor in ("P1", "P2")]
    results = {"attempts": [attempt(states)], "control": "gone", "lingering": 0, "why": "done"}
    assert story.op("reclaim", results, memcg=story.memcg, keep=keep) == []
    assert (story.states("P1"), story.states("P2")) == ("K" * N, ("S" if gone else "K") * N)
    # The locked pte must stay whatever became of the mark.
    story = forgotten_lock()
    (record,) = story.predicted_attempts()
    states = record["states"]
    for actor in ("P1", "P2"):
        states[actor] = {"a": [[N, "S"]]}
    (finding,) = story.op("reclaim", {**results, "attempts": [attempt(states)]}, memcg=story.memcg, keep=keep)
    assert finding.signature.endswith(":locked-swapped:reclaim")

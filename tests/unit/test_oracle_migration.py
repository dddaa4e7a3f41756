# SPDX-License-Identifier: GPL-2.0-or-later
"""P19 and P21: pages that move to another frame, and pages with a memory error."""

from __future__ import annotations

from typing import Any

import pytest

from harness.oracle import Semantics
from harness.oracle.records import JournalContradiction
from harness.oracle.semantics import semantics_from_hello
from tests.unit.oracle_story import HELLO, N, Record, Story

TAKES = Semantics(hwpoison_takes_ksm=True)


def offline(story: Story, actor: str, outcomes: Any, first: int = 0, count: int = N) -> None:
    story.op("soft_offline", {"outcomes": outcomes}, actor=actor, area="a", first=first, count=count, via="madvise")


def move(story: Story, actor: str, after: Any, before: Any = ((N, 0),), *, everything: bool = True) -> None:
    results = {"result": 0, "error": "", "before": [list(r) for r in before], "after": [list(r) for r in after]}
    story.op("move_pages", results, actor=actor, area="a", first=0, count=N, node=1, all=everything)


def poison(story: Story, actor: str, page: int, error: str = "", signals: Any = None, *, early: bool = False) -> None:
    results = {"error": error, "poisoned": True, "signals": signals or {}}
    story.op("hwpoison", results, actor=actor, area="a", first=page, count=1, early=early)


def migrated(extra: int = 0) -> Any:
    """The kernel's own count of migrations: those that were asked for, and more."""

    def tamper(record: Record) -> None:
        record["vmstat"]["pgmigrate_success"] = str(extra)

    return tamper


def forked(p: str = "P19", semantics: Semantics | None = None) -> Story:
    story = Story(semantics, p=p)
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.observe(migrated(0))
    return story


def frames(story: Story, actor: str) -> set[int | None]:
    return {p.page.pfn for p in story.model.actors[actor].ptes.values() if p.page}


def test_all_mappers_move_together() -> None:
    story = forked()
    before = frames(story, "C")
    offline(story, "P1", [[N, "", True]])
    story.observe(migrated(N))
    assert frames(story, "C") == frames(story, "P2")
    assert not before & frames(story, "C")
    story.scan()
    story.observe(migrated(N))
    story.reclaim()
    assert story.states("C") == "S" * N
    assert story.findings == []


def test_one_mapper_left_behind_is_found() -> None:
    story = forked()
    offline(story, "P1", [[N, "", True]])

    def tamper(record: Record) -> None:
        migrated(N)(record)
        record["procs"]["C"]["areas"]["a"][0][2] += 7000

    story.observe(tamper)
    assert story.signatures[0] == "P19:identity:soft_offline"


def test_an_entry_that_was_left_is_found() -> None:
    story = forked()
    offline(story, "P1", [[N, "", True]])

    def tamper(record: Record) -> None:
        record["procs"]["C"]["areas"]["a"] = [[N, "X", 29, 32]]

    story.observe(tamper)
    assert story.signatures[0] == "P19:entry-left:soft_offline"


def test_the_old_frame_again_is_found() -> None:
    story = forked()
    old = story.predictor.obs()["procs"]
    offline(story, "P1", [[N, "", True]])

    def tamper(record: Record) -> None:
        migrated(N)(record)
        for name in ("P1", "P2", "C"):
            record["procs"][name]["areas"] = old[name]["areas"]

    story.observe(tamper)
    assert story.signatures == ["P19:identity:soft_offline"]


def test_a_frame_that_nobody_moved_is_found_though_others_were() -> None:
    story = forked()
    offline(story, "P1", [[4, "", True]], count=4)

    def tamper(record: Record) -> None:
        migrated(4)(record)
        for name in ("P1", "P2", "C"):
            for run in record["procs"][name]["areas"]["a"]:
                run[2] += 9000

    story.observe(tamper)
    assert "P19:identity:soft_offline" in story.signatures


def test_compaction_may_move_all() -> None:
    story = forked()
    story.op("compact")

    def tamper(record: Record) -> None:
        migrated(40)(record)
        for name in ("P1", "P2", "C"):
            for run in record["procs"][name]["areas"]["a"]:
                run[2] += 9000

    story.observe(tamper)
    assert story.findings == []


def test_before_3_9_a_ksm_page_is_not_moved() -> None:
    story = forked(semantics=Semantics(migrates_ksm=False))
    offline(story, "P1", [[N, "EIO", False]])
    story.observe(migrated(0))
    assert story.findings == []
    offline(story, "P1", [[N, "", True]])
    assert story.signatures == ["P19:wrongly-migrated:soft_offline"]


@pytest.mark.parametrize("moves", [True, False])
def test_before_3_13_madvise_tells_no_error_and_the_frame_says_whether_it_was_left(moves: bool) -> None:
    story = forked(semantics=Semantics(migrates_ksm=moves, madvise_tells_offline=False))
    offline(story, "P1", [[N, "", moves]])
    story.observe(migrated(N * moves))
    assert story.findings == []
    offline(story, "P1", [[N, "", not moves]])
    assert story.signatures == ["P19:not-migrated:soft_offline" if moves else "P19:wrongly-migrated:soft_offline"]


def test_before_4_5_madvise_tells_nothing_of_an_error_that_could_not_be_handled() -> None:
    story = forked(semantics=Semantics(madvise_tells_poison=False), p="P21")
    poison(story, "P1", 3)
    assert story.findings == []
    assert story.states("P1") == story.states("C") == "K" * N
    story = forked(semantics=Semantics(), p="P21")
    poison(story, "P1", 3)
    assert story.signatures == ["P21:hwpoison-taken:hwpoison"]


def test_a_page_that_stays_without_reason_is_found() -> None:
    story = forked()
    offline(story, "P1", [[N, "EBUSY", False]])
    assert story.signatures == ["P19:not-migrated:soft_offline"]
    assert "C (pid" in story.findings[0].summary


def test_a_pinned_page_stays() -> None:
    story = forked()
    story.on("pin", "P1")
    offline(story, "P1", [[N, "EBUSY", False]])
    story.observe(migrated(0))
    assert story.findings == []
    offline(story, "P1", [[N, "", True]])
    assert story.signatures == ["P19:wrongly-migrated:soft_offline"]


def test_an_old_frame_in_use_is_found() -> None:
    story = forked()
    offline(story, "P1", [[N, "", False]])
    assert story.signatures == ["P19:frame-in-use:soft_offline"]


def test_a_stale_kpfn_shows_in_the_counters() -> None:
    story = forked()
    offline(story, "P1", [[N, "", True]])
    story.observe(migrated(N))
    story.scan()

    def tamper(record: Record) -> None:
        migrated(N)(record)
        record["ksm"]["pages_shared"] = "0"

    story.observe(tamper)
    assert story.signatures == ["P19:counter-pages_shared:scan"]


def test_move_pages() -> None:
    story = forked()
    move(story, "P2", [(N, 1)])
    story.observe(migrated(N))
    assert story.findings == []
    move(story, "P2", [(N, 0)], [(N, 0)])
    assert story.signatures == ["P19:not-migrated:move_pages"]


def test_move_pages_without_all_leaves_what_others_map() -> None:
    story = forked()
    move(story, "P2", [(N, 0)], everything=False)
    assert story.findings == []
    move(story, "P2", [(N, 1)], everything=False)
    assert story.signatures == ["P19:wrongly-migrated:move_pages"]


def test_a_page_in_the_swap_cache_moves_for_those_that_are_swapped_too() -> None:
    story = Story(p="P19")
    story.merged("P1", "P2")
    story.exit("P1")
    story.scan()
    story.on("pin", "P2")
    story.on("pageout", "P2")
    story.fork("P2", "C")
    story.on("read", "P2")
    assert (story.states("P2"), story.states("C")) == ("K" * N, "S" * N)
    story.op("unpin", actor="P2")
    story.observe(migrated(0))
    offline(story, "P2", [[N, "", True]])
    story.observe(migrated(N))
    story.verify("C")
    story.observe(migrated(N))
    assert story.states("C") == "K" * N
    assert frames(story, "C") == frames(story, "P2")
    assert story.findings == []


def test_before_6_4_a_memory_error_changes_nothing() -> None:
    story = forked("P21")
    poison(story, "P1", 0, "EBUSY")
    story.observe(migrated(0))
    for actor in ("P1", "P2", "C"):
        story.verify(actor)
    assert story.findings == []
    story.exit("P1", "P2", "C")
    story.scan()
    assert story.counts == (0, 0, 0, 0)


def test_a_memory_error_that_should_have_been_refused() -> None:
    story = forked("P21")
    poison(story, "P1", 0)
    assert story.signatures == ["P21:hwpoison-taken:hwpoison"]


def test_a_memory_error_takes_the_page_from_all() -> None:
    story = forked("P21", TAKES)
    poison(story, "P1", 0)
    poison(story, "P2", 1, signals={"P1": [["a", 1, "AO"]], "P2": [["a", 1, "AO"]], "C": [["a", 1, "AO"]]}, early=True)
    story.observe(migrated(0))
    story.fork("C", "D")
    for actor in ("P1", "P2", "C", "D"):
        assert story.model.contents(story.model.actors[actor], *_pages(story, actor)) == [-2, -2, 3, 4]
        story.verify(actor)
    story.scan()
    story.observe(migrated(0))
    assert story.findings == []
    assert story.counts[0] == N - 2


def _pages(story: Story, actor: str) -> tuple[int, int]:
    start = story.model.actors[actor].areas["a"].start
    return start, start + 4


def test_who_is_told_of_a_memory_error() -> None:
    story = forked("P21", TAKES)
    poison(story, "P1", 0, signals={"P1": [["a", 0, "AO"]], "P2": [["a", 0, "AO"]]}, early=True)
    assert story.signatures == ["P21:not-told:hwpoison"]
    assert story.findings[0].actors == ("C",)
    poison(story, "P1", 1, signals={"P2": [["a", 1, "AO"]]})
    assert story.signatures[1:] == ["P21:wrongly-told:hwpoison"]


def test_an_address_with_flags_in_it() -> None:
    story = forked("P21", TAKES)
    signals = {name: [["a", 0, "AO", 0x200]] for name in ("P1", "P2")} | {"C": [["a", 0, "AO"]]}
    poison(story, "P1", 0, signals=signals, early=True)
    assert story.signatures == ["P21:wrongly-told:hwpoison"]
    assert story.findings[0].actors == ("P1", "P2")


@pytest.mark.parametrize(("got", "kind"), [(-2, "killed"), (1, "poison-read")])
def test_touching_a_page_with_a_memory_error(got: int, kind: str) -> None:
    story = forked("P21", TAKES if kind == "poison-read" else None)
    poison(story, "P1", 0, "" if kind == "poison-read" else "EBUSY")
    story.verify("C", count=1, contents=[[1, got, 0]])
    assert story.signatures == [f"P21:{kind}:verify"]


@pytest.mark.parametrize("outcomes", [[], [[N]], [[N, 1, True]], [[N + 1, "", True]], [[0, "", True]], [[1 << 60, "", True]]])
def test_impossible_outcomes(outcomes: Any) -> None:
    with pytest.raises(JournalContradiction):
        offline(forked(), "P1", outcomes)


@pytest.mark.parametrize("after", [[], [(N - 1, 0)], [(N, -2)], [(1 << 60, 0)]])
def test_impossible_nodes(after: Any) -> None:
    with pytest.raises(JournalContradiction):
        move(forked(), "P1", after)


@pytest.mark.parametrize("signals", [{"Q": []}, {"P1": 1}, {"P1": [[1, 2]]}, {"P1": [["a"]]}, {"P1": [["a", 1, "A"]]}])
def test_impossible_signals(signals: Any) -> None:
    with pytest.raises(JournalContradiction):
        poison(forked("P21"), "P1", 0, "EBUSY", signals)


def test_the_guest_tells_whether_memory_errors_in_ksm_pages_are_handled() -> None:
    assert not semantics_from_hello(HELLO).hwpoison_takes_ksm
    assert semantics_from_hello({**HELLO, "ksm_files": [*HELLO["ksm_files"], "general_profit"]}).hwpoison_takes_ksm


@pytest.mark.parametrize("told", [True, False])
def test_whether_the_caller_is_told_is_learnt_from_ordinary_memory(told: bool) -> None:
    """MADV_HWPOISON has MF_ACTION_REQUIRED since 6.11."""
    story = Story(TAKES, p="P21")
    story.merged("P1", "P2")
    story.op("hwpoison", {"error": "", "poisoned": True, "signals": {"Z": [["z", 0, "AR"]]} if told else {}},
             actor="Z", area="z", first=0, count=1, early=False)  # fmt: skip
    assert story.findings == []
    poison(story, "P1", 0, signals={"P1": [["a", 0, "AR"]]})
    assert story.signatures == ([] if told else ["P21:wrongly-told:hwpoison"])
    poison(story, "P1", 1)
    assert ("P21:not-told:hwpoison" in story.signatures) is told


def test_ksmd_waits_while_memory_goes_offline() -> None:
    story = forked()
    now = story.model.ksmd.full_scans
    results = {"from": now, "to": now + 1, "waited": True, "error": "EINTR"}
    assert story.on("offline", "P1", count=1, results=results, cancel=True) == []
    assert story.model.ksmd.full_scans == now + 1
    results = {"from": now + 1, "to": now + 2, "waited": False, "error": "EINTR"}
    found = story.on("offline", "P1", count=1, results=results, cancel=True)
    assert [f.signature for f in found] == ["P19:trees-in-use:offline"]
    results = {"from": now + 2, "to": now + 2, "waited": True, "error": ""}
    found = story.on("offline", "P1", count=1, results=results, cancel=True)
    assert [f.signature for f in found] == ["P19:pinned-moved:offline"]
    assert story.on("offline", "P1", count=1, cancel=False) == []

# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages and bytes that are not as predicted: what was tampered with yields the one signature that names it."""

from __future__ import annotations

from copy import deepcopy

import pytest

from harness.oracle.runs import KPF_KSM, KPF_MLOCKED, KPF_SWAPCACHE
from tests.unit.oracle_story import N, Record, Story
from tests.unit.tampering import after_fork_scan, after_merge, area, counter, flip, forked, states, swapped


def test_swapped_pages_that_are_back_unasked() -> None:
    story = swapped("P1")

    def back(record: Record) -> None:
        record["procs"]["C"]["areas"]["a"] = [[N, "P", 5000, 1, "1800", 1]]

    assert [f.signature for f in story.observe(back)] == ["P1:still-mapped:obs"]


def test_present_pages_that_are_swapped_unasked() -> None:
    story = forked()

    def gone(record: Record) -> None:
        for actor in ("P1", "P2", "C"):
            record["procs"][actor]["areas"]["a"] = [[N, "S", 5000, 1]]

    assert [f.signature for f in story.observe(gone)] == ["P1:wrongly-unmapped:obs"]


def test_pages_that_are_lost() -> None:
    story = swapped("P1")

    def none(record: Record) -> None:
        record["procs"]["C"]["areas"]["a"] = [[N, "N"]]

    assert [f.signature for f in story.observe(none)] == ["P1:lost:obs"]


def test_pages_where_none_should_be() -> None:
    story = forked()
    story.spawn("Q")
    story.map("Q")

    def some(record: Record) -> None:
        record["procs"]["Q"]["areas"]["a"] = [[N, "P", 5000, 1, "1800", 1]]

    assert [f.signature for f in story.observe(some)] == ["P1:wrongly-mapped:map"]


def test_not_merged() -> None:
    story = Story(p="P14")
    story.filled("P1", "P2")
    story.observe()
    story.scan(2)
    assert [f.signature for f in story.observe(flip("P1", KPF_KSM))] == ["P14:not-ksm:scan"]


@pytest.mark.parametrize(
    ("op", "arguments", "signature"),
    [
        ("run", {"value": "2"}, "P18:still-ksm:run"),
        ("unmergeable", {"actor": "C", "area": "a", "first": 0, "count": N}, "P18:still-ksm:unmergeable"),
        ("write", {"actor": "C", "area": "a", "first": 0, "count": N, "tag": 99, "step": 1}, "P17:still-ksm:write"),
        ("mlock", {"actor": "C", "area": "a", "first": 0, "count": N, "onfault": False}, "P9:still-ksm:mlock"),
    ],
)
def test_still_ksm(op: str, arguments: Record, signature: str) -> None:
    story = forked("P9")
    story.op(op, **arguments)
    assert [f.signature for f in story.observe(flip("C", KPF_KSM))] == [signature]


def test_swapped_in_as_a_ksm_page() -> None:
    story = swapped()
    story.verify("P1")
    assert [f.signature for f in story.observe(flip("P1", KPF_KSM))] == ["P16:still-ksm:verify"]


def test_a_writers_frame_is_still_shared() -> None:
    story = forked("P17")
    story.fill("C", tag=700, op="write")

    def same(record: Record) -> None:
        record["procs"]["C"]["areas"]["a"] = deepcopy(area(record, "P1"))

    found = story.observe(same)
    assert found[0].signature == "P17:leak:write" and not found[0].follows
    assert {f.signature for f in found} == {"P17:leak:write", "P17:still-ksm:write"}


def test_the_last_mapper_writes_to_the_ksm_page_itself() -> None:
    story = Story(p="P17")
    story.merged("P1", "P2")
    story.exit("P1")
    frames: list[int] = []
    assert story.observe(lambda record: frames.extend(run[2] for run in area(record, "P2"))) == []
    story.fill("P2", tag=700, op="write")

    def in_place(record: Record) -> None:
        for run, frame in zip(area(record, "P2"), frames, strict=True):
            run[2] = frame

    assert [f.signature for f in story.observe(in_place)] == ["P17:in-place:write"]


def test_relatives_do_not_share_what_came_back() -> None:
    story = swapped()
    story.verify("P1")
    story.verify("C")

    def apart(record: Record) -> None:
        for run in area(record, "C"):
            run[2] += 100_000

    assert [f.signature for f in story.observe(apart)] == ["P16:identity:verify"]


def test_strangers_share_what_came_back() -> None:
    story = swapped()
    story.verify("P1")
    story.verify("P2")

    def together(record: Record) -> None:
        record["procs"]["P2"]["areas"]["a"] = deepcopy(area(record, "P1"))

    assert [f.signature for f in story.observe(together)] == ["P16:identity:verify"]


def test_frames_that_change_when_a_fork_gets_its_items() -> None:
    story = forked("P15")
    story.scan()

    def moved(record: Record) -> None:
        for actor in ("P1", "P2", "C"):
            for run in area(record, actor):
                run[2] += 100_000

    assert [f.signature for f in story.observe(moved)] == ["P15:identity:scan"]


def test_frames_may_change_when_the_kernel_says_that_it_migrated_pages() -> None:
    story = forked("P15")
    story.observe(lambda r: r["vmstat"].update(pgmigrate_success="7"))

    def moved(record: Record) -> None:
        record["vmstat"]["pgmigrate_success"] = "55"
        for actor in ("P1", "P2", "C"):
            for run in area(record, actor):
                run[2] += 100_000

    assert story.observe(moved) == []


def test_mapcount() -> None:
    story = forked("P14")

    def fewer(record: Record) -> None:
        for actor in ("P1", "P2", "C"):
            for run in area(record, actor):
                run[5] = 2

    (finding,) = story.observe(fewer)
    assert finding.signature == "P14:mapcount:obs"
    assert "mapcount 2 where mapcount 3 is expected" in finding.summary


def test_not_marked_mlocked() -> None:
    story = Story(p="P9")
    story.merged("P1", "P2")
    story.on("mlock", "P1", onfault=True)
    assert [f.signature for f in story.observe(flip("P1", KPF_MLOCKED))] == ["P9:not-locked:mlock"]


def test_ptes_of_one_page_at_different_offsets() -> None:
    story = forked()
    story.reclaim()

    def elsewhere(record: Record) -> None:
        for run in area(record, "C"):
            run[2] += 100_000

    assert [f.signature for f in story.observe(elsewhere)] == ["P1:swap-offset:reclaim"]


def test_the_swap_cache_bit_is_nobodys_business() -> None:
    assert forked().observe(flip("C", KPF_SWAPCACHE)) == []


def test_unstable_observations_are_not_judged() -> None:
    story = forked()

    def unsure(record: Record) -> None:
        record["stable"] = False
        record["ksm"]["pages_shared"] = "1"

    assert story.observe(unsure) == []
    assert len(story.oracle.notes) == 1


# Bytes.


def test_bytes_that_did_not_come_back() -> None:
    story = swapped()
    (finding,) = story.verify("P2", contents=[[4, -1, 0], [12, 5, 1]])
    assert finding.signature == "P16:content:verify"
    assert finding.pages == "P2.a[0..3]"


def test_bytes_of_another_process() -> None:
    story = forked("P17")
    story.fill("C", count=4, tag=700, op="write")
    (finding,) = story.verify("P1", contents=[[4, 700, 1], [12, 5, 1]])
    assert finding.signature == "P17:leak:verify"
    assert finding.pages == "P1.a[0..3]"


def test_what_the_kernel_does_not_have_is_not_judged() -> None:
    story = after_fork_scan()

    def bare(record: Record) -> None:
        record["ksm"] = {"full_scans": record["ksm"]["full_scans"]}
        record["vmstat"] = {}
        for proc in record["procs"].values():
            proc.update(merging=None, status={})
            del proc["stat"]

    assert story.observe(bare) == []


# How often, and what follows from what.


def test_a_signature_is_told_once_and_later_findings_follow() -> None:
    story = forked()
    story.reclaim(states(story, C="P"))
    story.verify("P1")
    (first,) = story.findings
    story.fork("P2", "D")
    assert story.reclaim(states(story, D="P")) == []
    assert story.findings == [first]
    story.scan()
    (later,) = story.observe(counter("pages_shared", 1))
    assert later.follows


def test_two_counters_of_one_fault_are_one_cause() -> None:
    story = after_merge()

    def swap(record: Record) -> None:
        record["ksm"]["pages_shared"], record["ksm"]["pages_sharing"] = "32", "0"

    assert [(f.kind, f.follows) for f in story.observe(swap)] == [
        ("counter-pages_shared", False), ("counter-pages_sharing", True),
    ]  # fmt: skip

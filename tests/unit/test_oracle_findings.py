# SPDX-License-Identifier: GPL-2.0-or-later
"""Each kind of finding: an observation that was tampered with yields the one signature that names the fault."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from harness.findings import Tier
from harness.oracle.runs import KPF_KSM, KPF_MLOCKED, KPF_SWAPCACHE
from tests.unit.oracle_story import N, Record, Story, attempt, recorded, replayed


def forked(p: str = "P1") -> Story:
    """P1 and P2 merged, C forked from P1, ksmd has not met it."""
    story = Story(p=p)
    story.merged("P1", "P2")
    story.fork("P1", "C")
    assert story.observe() == []
    return story


def swapped(p: str = "P16") -> Story:
    story = forked(p)
    assert story.reclaim() == []
    assert story.observe() == []
    return story


def states(story: Story, **letters: str) -> list[Record]:
    """The predicted attempt, but for some actors: one letter for each page, or for all."""
    made = story.predicted_attempts()[0]["states"]
    for actor, pages in letters.items():
        made[actor]["a"] = [[1, x] for x in (pages if len(pages) > 1 else pages * N)]
    return [attempt(made)]


def area(record: Record, actor: str) -> list[list[Any]]:
    runs: list[list[Any]] = record["procs"][actor]["areas"]["a"]
    return runs


def flip(actor: str, bits: int) -> Callable[[Record], None]:
    def tamper(record: Record) -> None:
        for run in area(record, actor):
            run[4] = f"{int(run[4], 16) ^ bits:x}"

    return tamper


def counter(name: str, by: int, where: str = "ksm") -> Callable[[Record], None]:
    def tamper(record: Record) -> None:
        record[where][name] = str(int(record[where][name]) + by)

    return tamper


# Reclaim.


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


# Observations of pages.


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


# Counters.


def after_merge() -> Story:
    story = Story(p="P1")
    story.filled("P1", "P2")
    story.observe()
    story.scan(2)
    return story


def after_fork_scan() -> Story:
    story = forked("P3")
    story.scan()
    return story


def after_run() -> Story:
    story = forked()
    story.run(2)
    return story


def after_failed_merge() -> Story:
    story = Story()
    story.filled("P1", "P2", mergeable=False)
    story.on("pin", "P1")
    story.on("mergeable", "P1")
    story.on("mergeable", "P2")
    story.scan()
    story.observe()
    story.scan()
    return story


def after_read() -> Story:
    story = swapped("P1")
    story.verify("P2")
    story.verify("P1")
    return story


def after_write() -> Story:
    story = forked()
    story.fill("C", tag=800, op="write")
    return story


@pytest.mark.parametrize(
    ("make", "name", "signature"),
    [
        (after_merge, "pages_shared", "P14:counter-pages_shared:scan"),
        (after_merge, "pages_sharing", "P14:counter-pages_sharing:scan"),
        (after_merge, "pages_unshared", "P14:counter-pages_unshared:scan"),
        (after_merge, "pages_volatile", "P14:counter-pages_volatile:scan"),
        (after_fork_scan, "pages_sharing", "P15:counter-pages_sharing:scan"),
        (after_fork_scan, "pages_shared", "P15:counter-pages_shared:scan"),
        (after_run, "pages_volatile", "P18:counter-pages_volatile:run"),
        (after_run, "pages_shared", "P18:counter-pages_shared:run"),
        (after_run, "full_scans", "P18:counter-full_scans:run"),
        (after_failed_merge, "pages_shared", "P7:counter-pages_shared:scan"),
    ],
)
def test_counters_of_ksmd(make: Callable[[], Story], name: str, signature: str) -> None:
    story = make()
    assert [f.signature for f in story.observe(counter(name, 3))] == [signature]
    # What is off stays off, and is told once.
    assert story.observe(counter(name, 3)) == []


@pytest.mark.parametrize(
    ("make", "name", "signature"),
    [
        (after_run, "cow_ksm", "P18:counter-cow_ksm:run"),
        (after_write, "cow_ksm", "P17:counter-cow_ksm:write"),
        (after_fork_scan, "cow_ksm", "P15:counter-cow_ksm:scan"),
        (after_failed_merge, "cow_ksm", "P7:counter-cow_ksm:scan"),
        (after_read, "ksm_swpin_copy", "P16:counter-ksm_swpin_copy:verify"),
    ],
)
def test_events_of_vmstat(make: Callable[[], Story], name: str, signature: str) -> None:
    assert [f.signature for f in make().observe(counter(name, -1, "vmstat"))] == [signature]


def test_counters_of_a_process() -> None:
    story = after_fork_scan()

    def forgot(record: Record) -> None:
        record["procs"]["C"]["merging"] = N

    (finding,) = story.observe(forgot)
    assert finding.signature == "P15:counter-ksm_merging_pages:scan"
    assert "C (pid 204)" in finding.summary

    story = after_merge()
    (finding,) = story.observe(lambda r: r["procs"]["P1"]["stat"].update(ksm_rmap_items=N + 1))
    assert finding.signature == "P14:counter-ksm_rmap_items:scan"


def test_sizes_of_a_process() -> None:
    story = Story()
    story.merged("P1", "P2", npages=256)
    story.observe()
    story.reclaim()

    def not_counted(record: Record) -> None:
        record["procs"]["P2"]["status"]["VmSwap"] = 0

    assert [f.signature for f in story.observe(not_counted)] == ["P1:counter-VmSwap:reclaim"]


@pytest.mark.parametrize(("objects", "signatures"), [(3, ["P6:reference-leak:exit"]), (2, []), (-2, [])])
def test_slab_objects(objects: int, signatures: list[str]) -> None:
    story = Story(p="P6")
    story.observe(slab=True)
    story.merged("P1", "P2")
    story.exit("P1", "P2")
    story.scan(2)
    found = story.observe(lambda r: r["slab"].update(anon_vma=r["slab"]["anon_vma"] + objects), slab=True)
    assert [f.signature for f in found] == signatures


@pytest.mark.parametrize(("objects", "signatures"), [(4, ["P6:reference-leak:scan"]), (2, [])])
def test_mm_structs_are_given_back(objects: int, signatures: list[str]) -> None:
    story = Story(p="P6")
    story.observe(slab=True)
    story.merged("P1", "P2")
    story.exit("P1", "P2")
    assert story.observe(slab=True) == []  # ksmd still has them
    story.scan(2)
    found = story.observe(lambda r: r["slab"].update(mm_struct=r["slab"]["mm_struct"] + objects), slab=True)
    assert [f.signature for f in found] == signatures


def test_slab_objects_are_not_judged_while_other_processes_live() -> None:
    story = Story(p="P6")
    story.observe(slab=True)
    story.merged("P1", "P2")
    assert story.observe(lambda r: r["slab"].update(anon_vma=999), slab=True) == []


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


# Recorded journals, tampered with.


def _segment(target: str, workload: str) -> tuple[Record, list[Record]]:
    hello, segments = recorded(target)
    return hello, deepcopy(next(s for s in segments if s[0]["workload"] == workload))


@pytest.mark.parametrize("target", ["x86_64", "ppc64"])
def test_recorded_fork_stays_mapped(target: str) -> None:
    hello, segment = _segment(target, "new_fork")
    (ret,) = (r for r in segment if r["kind"] == "ret" and r["op"] == "reclaim")
    runs = ret["attempts"][-1]["states"]["C"]["a"]
    runs[:] = [[count, "P"] for count, _ in runs]
    found = list(replayed(hello, segment))
    assert found[0].signature == "P1:still-mapped:reclaim"
    assert all(f.follows for f in found[1:])


@pytest.mark.parametrize("workload", ["swapin", "cow", "unmerge", "fork_item", "failed_merge", "many_items", "split_vma"])
@pytest.mark.parametrize("name", ["pages_shared", "pages_sharing"])
def test_recorded_counter_is_off(workload: str, name: str) -> None:
    hello, segment = _segment("x86_64", workload)
    last = next(r for r in reversed(segment) if r["kind"] == "obs")
    last["ksm"][name] = str(int(last["ksm"][name]) + 1)
    assert [f.kind for f in replayed(hello, segment)] == [f"counter-{name}"]


def _observed_areas(segment: list[Record]) -> list[tuple[int, str, str]]:
    return [
        (i, actor, area)
        for i, r in enumerate(segment) if r["kind"] == "obs"
        for actor, proc in r["procs"].items() for area in proc["areas"]
    ]  # fmt: skip


def _gone(run: list[Any]) -> None:
    run[1:] = ["N"]


def _other_mapcount(run: list[Any]) -> None:
    run[5] += 1


def _other_kind(run: list[Any]) -> None:
    run[4] = f"{int(run[4], 16) ^ KPF_KSM:x}"


@pytest.mark.parametrize("workload", ["new_fork", "swapin", "cow", "locked", "split_vma", "owner_exit"])
@pytest.mark.parametrize("change", [_gone, _other_mapcount, _other_kind])
def test_no_page_of_a_recorded_observation_can_be_changed_unseen(workload: str, change: Callable[[list[Any]], None]) -> None:
    """In every observation and area, the first page: gone, mapped once more, plain instead of KSM or the reverse."""
    hello, segment = _segment("ppc64", workload)
    tried = 0
    for i, actor, name in _observed_areas(segment):
        run = segment[i]["procs"][actor]["areas"][name][0]
        if run[1] == "N" or (change is not _gone and run[1] != "P"):
            continue
        tried += 1
        changed = [*segment[:i], deepcopy(segment[i])]
        runs = changed[i]["procs"][actor]["areas"][name]
        head, tail = [1, *run[1:]], [run[0] - 1, run[1], run[2] + run[3], *run[3:]]
        change(head)
        runs[0:1] = [head, tail] if run[0] > 1 else [head]
        assert list(replayed(hello, changed)), f"{workload}: record {i}, {actor}.{name}"
    assert tried

# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters of KSM, of vmstat, of a process and of the slab that are off: each yields the one signature that names it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.oracle import Semantics
from tests.unit.oracle_story import N, Record, Story
from tests.unit.tampering import after_fork_scan, after_merge, counter, forked, swapped


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


def after_refused_merge() -> Story:
    """With pages of the stable tree: P3's are pinned."""
    story = Story()
    story.merged("P1", "P2")
    story.filled("P3", mergeable=False)
    story.on("pin", "P3")
    story.on("mergeable", "P3")
    story.scan(2)
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
        (after_refused_merge, "pages_unshared", "P7:counter-pages_unshared:scan"),
    ],
)
def test_counters_of_ksmd(make: Callable[[], Story], name: str, signature: str) -> None:
    story = make()
    assert [f.signature for f in story.observe(counter(name, 3))] == [signature]
    # What is off stays off, and is told once.
    assert story.observe(counter(name, 3)) == []


def test_pages_of_zeros_are_p23_whatever_is_shown() -> None:
    story = Story(Semantics(has_zero_pages_counter=True), p="P1")
    story.merged("P1", "P2")
    found = story.observe(lambda record: record["ksm"].update(ksm_zero_pages="3"))
    assert [f.signature for f in found] == ["P23:counter-ksm_zero_pages:scan"]


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

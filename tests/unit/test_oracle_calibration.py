# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel is measured to do, from recorded observations of three, and who has the last word on it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from harness.declared import Declared
from harness.oracle import Oracle
from harness.oracle.calibration import WORKLOAD, measured
from harness.oracle.semantics import UNSHOWN, Semantics, semantics_from_hello
from harness.verdict.knowledge import Knowledge, keep
from tests.unit.oracle_story import HELLO

Records = list[dict[str, Any]]
RECORDED: dict[str, Records] = json.loads((Path(__file__).parent / "data" / "calibrations.json").read_text())
BY_SOURCE = {
    "stale_node_ends_search", "wp_counts_users", "wp_reuses_ksm", "swap_cache_by_root", "migrates_ksm", "reuses_anon_vmas",
    "madvise_tells_offline", "madvise_tells_poison", "xxh64_checksum", "cow_frees_swap_cache",
    "merge_forgets_checksum", "unmerging_empties_tree", "unmap_stops_at_young", "frees_after_grace", "met_last_stays",
}  # fmt: skip
MEASURED = [name for name in UNSHOWN if name not in BY_SOURCE]
BEGIN = {"seq": 0, "p": "", "kind": "begin", "workload": "w", "properties": [], "args": {}, "page_size": 4096}


@pytest.mark.parametrize(
    ("kernel", "yes"),
    [
        ("5.10.262 x86_64", ()),
        ("6.1.192 ppc64", ("swap_ptes_keep_exclusive", "mlock_marks_ksm")),
        ("7.2.13 x86_64", MEASURED),
    ],
)
def test_what_kernels_were_measured_to_do(kernel: str, yes: tuple[str, ...]) -> None:
    """Each as its source has it (tests/system/test_semantics.py)."""
    assert measured(RECORDED[kernel]) == {name: name in yes for name in MEASURED}


@pytest.mark.parametrize(
    ("label", "fields"),
    [
        ("merged", {"cksum_first"}),
        ("locked", {"mlock_marks_ksm"}),
        ("written to", {"swap_ptes_keep_exclusive"}),
        ("two pages in a chain", {"single_dup_leaves_chain"}),
        ("one page is left", {"single_dup_leaves_chain"}),
        ("split", {"split_maps_zeros"}),
        ("poisoned", {"hwpoison_takes_ksm"}),
    ],
)
def test_what_was_not_seen_is_not_told(label: str, fields: set[str]) -> None:
    records = [r for r in RECORDED["7.2.13 x86_64"] if r.get("label") != label]
    assert set(MEASURED) - measured(records).keys() == fields


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([1, "P", 4711, 0, "201804", 1], [1, "P", 4711, 0, "1804", 1], {"wp_reuses_ksm": True}),
        ([1, "P", 4711, 0, "201804", 1], [1, "P", 4712, 0, "1804", 1], {"wp_reuses_ksm": False}),
        ([1, "P", 4711, 0, "1804", 1], [1, "P", 4711, 0, "1804", 1], {}),
        ([1, "S", 4711, 0], [1, "P", 4711, 0, "1804", 1], {}),
    ],
)
def test_whether_the_last_mapper_writes_to_the_ksm_page_itself(before: Any, after: Any, told: dict[str, bool]) -> None:
    def seen(label: str, run: Any) -> dict[str, Any]:
        return {"kind": "obs", "label": label, "procs": {"R": {"areas": {"a": [[1, "P", 9, 0, "1804", 1], run]}}}}

    assert measured([seen("one mapper is left", before), seen("the last one has written", after)]) == told


@pytest.mark.parametrize(
    ("was", "merged", "told"),
    [
        ((8, 9), (9, 9), {"met_last_stays": True}),
        ((8, 9), (8, 8), {"met_last_stays": False}),
        ((8, 9), (7, 7), {}),
        ((8, 9), (8, 9), {}),
        ((9, 9), (9, 9), {}),
    ],
)
def test_which_of_two_equal_pages_stays(was: Any, merged: Any, told: dict[str, bool]) -> None:
    def seen(label: str, frames: Any) -> dict[str, Any]:
        return {"kind": "obs", "label": label, "procs": {"P1": {"areas": {"a": [[1, "P", f, 0, "1800", 1] for f in frames]}}}}

    assert measured([seen("two equal pages", was), seen("merged", merged)]) == told


@pytest.mark.parametrize("broken", [None, {}, {"P1": None}, {"P1": {"areas": {"a": [["x"]], "x": [[1, "P"]]}}}])
def test_observations_that_cannot_be_read_tell_nothing(broken: object) -> None:
    records = copy.deepcopy(RECORDED["7.2.13 x86_64"])
    for record in records:
        if record["kind"] == "obs":
            record["procs"] = broken
    assert measured(records).keys() == {"cksum_first", "has_merge_any", "single_dup_leaves_chain"}


def test_a_page_that_was_not_merged_at_first_says_nothing_of_checksums() -> None:
    records = copy.deepcopy(RECORDED["6.1.192 ppc64"])
    next(r for r in records if r.get("label") == "merged")["ksm"]["pages_sharing"] = "0"
    assert "cksum_first" not in measured(records)


def semantics(knowledge: Knowledge, *, measure: str = "") -> Semantics:
    if measure:
        stepper = knowledge(HELLO, BEGIN | {"workload": WORKLOAD})
        for record in RECORDED[measure]:
            assert stepper.step(record) == []
    oracle = knowledge(HELLO, BEGIN)
    assert isinstance(oracle, Oracle)
    return oracle.model.semantics


def test_a_measurement_counts_more_than_what_files_suggest_and_serves_all_that_come_after() -> None:
    knowledge = Knowledge()
    assert semantics(knowledge) == semantics_from_hello(HELLO) and not semantics(knowledge).cksum_first
    assert semantics(knowledge, measure="7.2.13 x86_64").cksum_first
    assert semantics(knowledge).cksum_first  # the next boot
    told = knowledge.facts()["semantics"]
    assert "cksum_first yes (measured, though kernels with its files do otherwise)" in told
    assert "mlock_marks_ksm yes (measured);" in told


def test_a_source_counts_more_and_what_is_declared_most(tmp_path: Path) -> None:
    declared = (Declared("era", "2.6.33", "old anon_vmas", "R"), Declared("mlock_marks_ksm", False, "no marks", "R"))
    keep(tmp_path, {"cksum_first": (False, "mm/ksm.c:3 f"), "mlock_marks_ksm": (True, "mm/mlock.c:1 g")})
    knowledge = Knowledge.of(tmp_path, declared)
    seen = semantics(knowledge, measure="7.2.13 x86_64")
    assert (seen.cksum_first, seen.mlock_marks_ksm, seen.era) == (False, False, "2.6.33")
    assert seen.single_dup_leaves_chain
    facts = knowledge.facts()
    assert "cksum_first no (mm/ksm.c:3 f)" in facts["semantics"]
    assert facts["declared"].startswith('era = "2.6.33": old anon_vmas (reviewed by R); mlock_marks_ksm = false')


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"source": {"cksum_first": true}}', '{"source": {"run": {"value": 1}}}'])
def test_a_note_of_the_source_that_is_missing_or_damaged_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "semantics.json").write_text(text)
    assert semantics(Knowledge.of(tmp_path)) == semantics_from_hello(HELLO)

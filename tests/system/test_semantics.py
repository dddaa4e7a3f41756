# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that differ: what decides is their source or a measurement, and a file that somebody has reviewed, never a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.source import behaviour, parse_spec, resolve
from harness.store import Store

from .conftest import MUTANTS, Ended, Harness, execute

pytestmark = pytest.mark.system

DIFFERENT = Path(__file__).parents[1] / "semantics"
MENDED = Path(__file__).parents[1] / "fixes" / "stale-head.patch"
FIRST_STAYS = MUTANTS / "B52-benign-first-met-stays.patch"
BACKPORT = DIFFERENT / "backport-checksum-first.patch"
ON_PURPOSE = DIFFERENT / "swpin-copy-not-counted.patch"
DECLARED = DIFFERENT / "swpin-copy-not-counted.toml"

LATER = {"has_merge_any", "split_maps_zeros", "hwpoison_takes_ksm", "cksum_first", "single_dup_leaves_chain"}
SINCE_7_3 = {"merge_forgets_checksum"}
SINCE_5_19 = {"swap_ptes_keep_exclusive", "mlock_marks_ksm", "cow_frees_swap_cache"}


def test_what_debians_sources_tell() -> None:
    """Of each linux-source package that the store has: each field is told, and no version is looked at."""
    store = Store()
    resolve(parse_spec("debian:6.1"), store)
    for directory in sorted((store.root / "src").glob("debian-*/linux")):
        name = directory.parent.name.split("-")[1]
        told = {t.field: t.value for t in behaviour.examine(lambda path: _text(directory / path))}  # noqa: B023
        yes: set[str] = {"5.10": set(), "6.1": SINCE_5_19, "7.3": SINCE_5_19 | LATER | SINCE_7_3}.get(name, SINCE_5_19 | LATER)
        before = {"stale_node_ends_search", "wp_counts_users", "wp_reuses_ksm", "unmap_stops_at_young", "frees_after_grace"}
        since = {"swap_cache_by_root", "migrates_ksm", "reuses_anon_vmas", "madvise_tells_offline", "madvise_tells_poison"}
        since |= {"xxh64_checksum", "unmerging_empties_tree", "met_last_stays"}
        forgets = {} if name in ("5.10", "6.1") else {"merging_inherited_at_fork": False}
        assert told == {field: field in yes | since for field in SINCE_5_19 | LATER | SINCE_7_3 | before | since} | forgets, name


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None


def test_a_backport_is_no_error_whether_its_source_is_there_or_not(harness: Harness, tmp_path: Path) -> None:
    words = ("--workload", "fork_item,swapin,many_items")
    ended = harness("--patch", BACKPORT, *words)
    assert ended.code == 0, ended.told()
    assert "cksum_first yes (mm/ksm.c:" in ended.facts()["semantics"]
    image = ended.facts()["kernel"]
    measured = execute(tmp_path / "image", "run", "--kernel", f"image:{image}", *words, "--out", tmp_path / "image")
    assert measured.code == 0, measured.told()
    assert measured.verdicts()["calibrate"] == "PASS"
    assert "cksum_first yes (measured, though kernels with its files do otherwise)" in measured.facts()["semantics"]


def test_which_page_stays_is_measured_where_no_source_tells(harness: Harness, tmp_path: Path) -> None:
    built = harness("--patch", FIRST_STAYS, "--workload", "new_fork")
    assert "met_last_stays no (mm/ksm.c:" in built.facts()["semantics"]
    image = built.facts()["kernel"]
    ended = execute(
        tmp_path / "image", "run", "--kernel", f"image:{image}", "--workload", "new_fork", "--out", tmp_path / "image"
    )
    assert ended.code == built.code == 0, ended.told()
    assert "met_last_stays no (measured, though kernels with its files do otherwise)" in ended.facts()["semantics"]


def test_with_one_line_mended_a_forks_item_comes_to_its_new_node(harness: Harness) -> None:
    """docs/findings.md has what it does without."""
    ended = harness("--patch", MENDED, "--workload", "stale_head")
    assert ended.code == 0, ended.told()


def test_a_difference_on_purpose_is_bad_until_it_is_declared(harness: Harness, tmp_path: Path) -> None:
    ended = harness("--patch", ON_PURPOSE, "--workload", "new_fork,swapin")
    assert ended.code == 1, ended.told()
    assert [f.kind for f in ended.workload("swapin").findings] == ["counter-ksm_swpin_copy"], ended.told()
    again = _judged(ended, "--semantics", DECLARED)
    assert again.code == 0, again.told()
    assert "counted elsewhere in this kernel (reviewed by A Reviewer" in again.stdout
    assert "counted elsewhere" in (ended.out / "junit.xml").read_text()
    assert "counted elsewhere" in (ended.out / "report.html").read_text()
    assert [d.field for d in again.run.declared] == ["has_swpin_copy"]
    assert _judged(ended).code == 0  # the run has it from now on
    live = execute(
        tmp_path / "live",
        "run",
        "--patch",
        ON_PURPOSE,
        "--workload",
        "swapin",
        "--semantics",
        DECLARED,
        "--out",
        tmp_path / "live",
    )
    assert live.code == 0, live.told()


def _judged(ended: Ended, *words: str | Path) -> Ended:
    return execute(ended.out, "judge", ended.out, *words)

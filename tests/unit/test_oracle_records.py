# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest writes is data: every malformed or impossible record is a contradiction, told in clear words."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.oracle import JournalContradiction, Oracle, Semantics, semantics_from_hello
from harness.oracle.runs import Run, decode, encode, ranges
from tests.unit.oracle_story import HELLO, N, Record, Story, recorded

BEGIN = {"kind": "begin", "workload": "w", "properties": ["P1"], "args": {}, "page_size": 4096}


@pytest.mark.parametrize(
    ("op", "arguments", "words"),
    [
        ("fill", {"actor": "Q", "area": "a", "first": 0, "count": 1, "tag": 1, "step": 1}, "no actor 'Q' is alive"),
        ("fill", {"actor": "P1", "area": "b", "first": 0, "count": 1, "tag": 1, "step": 1}, "P1 has no area 'b'"),
        ("fill", {"actor": "P1", "area": "a", "first": 9, "count": 8, "tag": 1, "step": 1}, "which has 16"),
        ("fill", {"actor": "P1", "area": "a", "first": 0, "count": 1, "tag": "1", "step": 1}, "'tag' is no whole number"),
        ("fill", {"actor": "P1", "area": "a", "first": -1, "count": 1, "tag": 1, "step": 1}, "below 0"),
        ("map", {"actor": "P1", "area": "b", "addr": "zz", "bytes": 4096}, "no address"),
        ("map", {"actor": "P1", "area": "b", "addr": "1234", "bytes": 4096}, "not whole pages"),
        ("map", {"actor": "P1", "area": "a", "addr": "9000000", "bytes": 4096}, "mapped already"),
        ("map", {"actor": "P1", "area": "b", "addr": "9000000", "bytes": 1 << 40}, "pages at"),
        ("mprotect", {"actor": "P1", "area": "a", "first": 0, "count": 1, "prot": "wr"}, "no protection"),
        ("mlock", {"actor": "P1", "area": "a", "first": 0, "count": 1, "onfault": 1}, "neither true nor false"),
        ("run", {"value": "3"}, "run is 0, 1 or 2"),
        ("run", {"value": []}, "no number"),
        ("fork", {"actor": "P1", "child": "P2"}, "no 'pid'"),
        ("scan", {"scans": 1}, "no 'from'"),
        ("reclaim", {"memcg": "t", "keep": [["P1", "a", 0]]}, "no range to keep"),
        ("conjure", {}, "no operation: 'conjure'"),
    ],
)  # fmt: skip
def test_impossible_operations(op: str, arguments: Record, words: str) -> None:
    story = Story()
    story.filled("P1")
    with pytest.raises(JournalContradiction, match=words.replace("(", r"\(")):
        story.op(op, **arguments)


def test_names_are_taken_once() -> None:
    story = Story()
    story.spawn("P1")
    with pytest.raises(JournalContradiction, match="already"):
        story.spawn("P1")
    story.exit("P1")
    story.spawn("P1")


@pytest.mark.parametrize(
    "results",
    [
        {"from": 3, "to": 2, "pokes": 1}, {"from": 0, "to": "2", "pokes": 1}, {"from": True, "to": 2, "pokes": 1},
    ],
)  # fmt: skip
def test_impossible_scans(results: Record) -> None:
    with pytest.raises(JournalContradiction):
        Story().op("scan", results, scans=1)


@pytest.mark.parametrize(
    "attempts",
    [
        [{}], [7], [{"states": []}], [{"states": {"P1": 1}}], [{"states": {"P1": {"a": [[15, "S"]]}}}],
        [{"states": {"P1": {"a": [[1 << 60, "S"]]}}}], [{"states": {"P1": {"a": [[16, "Q"]]}}}],
        [{"states": {"P1": {"a": [[16, []]]}}}], [{"states": {"Q": {"a": [[16, "S"]]}}}],
        [{"states": {"P1": {"b": [[16, "S"]]}}}],
    ],
)  # fmt: skip
def test_impossible_attempts(attempts: Any) -> None:
    story = Story()
    story.filled("P1")
    with pytest.raises(JournalContradiction):
        story.reclaim(attempts)


def test_records_in_the_wrong_order() -> None:
    story = Story()
    with pytest.raises(JournalContradiction, match="never began"):
        story.step({"kind": "ret", "of": 1, "op": "spawn", "rc": 0, "errno": ""})
    story.step({"kind": "op", "op": "churn", "rounds": 1})
    with pytest.raises(JournalContradiction, match="is not done"):
        story.step({"kind": "op", "op": "churn", "rounds": 1})
    with pytest.raises(JournalContradiction, match="is not done"):
        story.step(story.predictor.obs())
    with pytest.raises(JournalContradiction, match="is going on"):
        story.step({"kind": "ret", "of": 99, "op": "churn", "rc": 0, "errno": ""})
    story = Story()
    story.step({"kind": "end", "ops": 3, "obs": 0, "records": 8})
    with pytest.raises(JournalContradiction, match="after the end"):
        story.step({"kind": "note", "text": ""})
    with pytest.raises(JournalContradiction, match="no kind"):
        Story().step({"kind": "hello"})


def test_observations_that_do_not_fit() -> None:
    def missing(record: Record) -> None:
        del record["procs"]["P1"]

    def stranger(record: Record) -> None:
        record["procs"]["Q"] = record["procs"]["P1"]

    def other_pid(record: Record) -> None:
        record["procs"]["P1"]["pid"] += 1

    def short(record: Record) -> None:
        record["procs"]["P1"]["areas"]["a"][0][0] -= 1

    def other_area(record: Record) -> None:
        record["procs"]["P1"]["areas"]["b"] = []

    def no_ksm(record: Record) -> None:
        record["ksm"] = None

    for tamper in (missing, stranger, other_pid, short, other_area, no_ksm):
        story = Story()
        story.filled("P1")
        with pytest.raises(JournalContradiction):
            story.observe(tamper)


@pytest.mark.parametrize("begin", [{}, {**BEGIN, "page_size": "4096"}, {**BEGIN, "page_size": 0}, {**BEGIN, "workload": None}])
def test_a_begin_record_that_is_none(begin: Record) -> None:
    with pytest.raises(JournalContradiction):
        Oracle(HELLO, begin)


def test_notes_skips_errors_and_stuck_actors_are_no_findings() -> None:
    story = Story()
    for record in ({"kind": "note", "text": "x"}, {"kind": "skip", "reason": "no"}, {"kind": "stuck", "actor": "P1"}):
        assert story.step(record) == []


def test_an_operation_that_failed_is_not_applied() -> None:
    story = Story()
    story.merged("P1", "P2")
    story.op("unmergeable", {"rc": -1, "errno": "ENOMEM"}, actor="P1", area="a", first=0, count=N)
    assert story.states("P1") == "K" * N
    assert "ENOMEM" in story.oracle.notes[0]


def test_unasked_scans_are_replayed() -> None:
    story = Story()
    story.filled("P1", "P2")
    story.scan()
    assert story.observe(lambda r: r["ksm"].update(full_scans="2")) != []  # it shows pages that are not merged
    assert story.counts == (N, N, 0, 0)
    assert "1 more full scans" in story.oracle.notes[0]


def test_scans_before_the_workload_are_the_resets() -> None:
    story = Story()
    story.filled("P1", "P2")
    story.op("scan", {"from": 1, "to": 2, "pokes": 1}, scans=1)
    assert story.counts == (0, 0, 0, 2 * N)
    assert story.model.ksmd.full_scans == 2


def test_absurd_numbers_of_scans_end() -> None:
    story = Story()
    story.filled("P1", "P2")
    story.op("scan", {"from": 0, "to": 1 << 50, "pokes": 1}, scans=1)
    assert story.model.ksmd.full_scans == 1 << 50


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a record, as the keys and indices that lead there."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [place for key, v in inner for place in [(*path, key), *_places(v, (*path, key))]]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_changed_anywhere_is_a_contradiction_at_worst(data: st.DataObject) -> None:
    hello, segments = recorded("ppc64")
    segment = segments[data.draw(st.integers(0, len(segments) - 1))]
    oracle = Oracle(hello, segment[0])
    at = data.draw(st.integers(1, min(100, len(segment) - 2)))
    for record in segment[1:at]:
        oracle.step(record)
    record = deepcopy(segment[at])
    *path, last = data.draw(st.sampled_from(_places(record)))
    target: Any = record
    for key in path:
        target = target[key]
    target[last] = data.draw(JSON)
    try:
        oracle.step(record)
        for later in segment[at + 1 : at + 10]:
            oracle.step(later)
    except JournalContradiction as e:
        assert str(e)


# Runs.


@given(
    st.lists(
        st.one_of(
            st.just(("N",)),
            st.tuples(st.just("S"), st.integers(0, 20)),
            st.tuples(st.just("P"), st.integers(0, 20), st.sampled_from([0x1800, 0x201800]), st.integers(1, 3)),
        ),
        max_size=40,
    )
)
def test_runs_come_back_as_they_went(pages: list[tuple[Any, ...]]) -> None:
    back: list[tuple[Any, ...]] = []
    for run in decode(encode(pages), len(pages), "here"):
        for i in range(run.count):
            value = run.value + i * run.stride
            back.append({"N": ("N",), "S": ("S", value), "P": ("P", value, run.flags, run.mapcount)}[run.kind])
    assert back == pages


def test_runs_of_the_document() -> None:
    assert decode([[2, "P", 100, -1, "201800", 3], [1, "S", 7, 0], [1, "N"]], 4, "here") == [
        Run(2, "P", 100, -1, 0x201800, 3), Run(1, "S", 7, 0), Run(1, "N"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "runs",
    [
        None, [[1, "P", 1, 1]], [[0, "N"]], [[1, "Q"]], [[1, ["N"]]], [[True, "N"]], [[1, "S", "7", 0]], [["1", "N"]],
        [[1, "P", 1, 1, "xyz", 1]], [[1, "P", 1, 1, 5, 1]], [[1, "P", 1, 1, "0", None]], [[2, "N"]], [], [1],
    ],
)  # fmt: skip
def test_runs_that_are_none(runs: Any) -> None:
    with pytest.raises(JournalContradiction):
        decode(runs, 1, "here")


def test_ranges() -> None:
    assert ranges([3, 1, 2, 7, 7]) == "[1..3,7]"
    assert ranges(range(0, 100, 2)).endswith(",…]")


# Semantics.


def test_semantics_go_by_what_the_guest_shows() -> None:
    hello, _ = recorded("x86_64")
    assert semantics_from_hello(hello) == Semantics()
    assert semantics_from_hello({**hello, "release": "2.6.33"}) == Semantics()


def test_semantics_of_a_later_kernel() -> None:
    files = [*HELLO["ksm_files"], "smart_scan", "advisor_mode", "ksm_zero_pages"]
    later = semantics_from_hello({**HELLO, "ksm_files": files})
    assert later.cksum_first and later.has_zero_pages_counter


def test_semantics_of_earlier_kernels() -> None:
    lts = semantics_from_hello({**HELLO, "vmstat_keys": [], "proc_files": []})
    assert not (lts.has_cow_ksm or lts.has_merging_pages or lts.swap_ptes_keep_exclusive or lts.mlock_marks_ksm)
    assert lts.era == "avc"
    first = semantics_from_hello({"ksm_files": ["full_scans", "pages_shared", "run"], "vmstat_keys": [], "proc_files": []})
    assert first.era == "2.6.33" and not first.has_chains and first.stale_node_ends_search
    assert first.wp_counts_users and not (first.migrates_ksm or first.reuses_anon_vmas)
    nodes = semantics_from_hello({"ksm_files": ["full_scans", "merge_across_nodes", "pages_shared", "run"]})
    assert nodes.migrates_ksm and nodes.wp_counts_users


@pytest.mark.parametrize(("slabs", "era"), [(["anon_vma"], "2.6.33"), (["anon_vma", "anon_vma_chain"], "avc")])
def test_the_era_of_anon_vmas_is_told_by_their_caches(slabs: list[str], era: str) -> None:
    """2.6.33 and 2.6.34 have the same files; and a later one may have none of NUMA's."""
    hello = {"ksm_files": ["full_scans", "pages_shared", "run"], "slabs": slabs}
    assert semantics_from_hello(hello).era == era
    assert semantics_from_hello({**HELLO, "slabs": slabs}).era == era


@pytest.mark.parametrize("copied", [True, False])
def test_fork_copies_counters_always_or_never(copied: bool) -> None:
    story = Story()
    story.merged("P1", "P2")
    story.fork("P1", "C")
    left = 0 if copied else N

    def merging(record: Record, *, off: int = 0) -> None:
        record["procs"]["C"]["merging"] = 2 * N - left + off

    story.scan()
    assert story.observe(merging) == []
    assert story.model.merging_inheritance.copied is copied
    assert story.model.items_inheritance.copied is True  # each is learnt by itself
    mixed = story.observe(lambda r: merging(r, off=N if left else -N))
    assert [f.kind for f in mixed] == ["counter-ksm_merging_pages"]


def test_a_child_that_has_its_parents_counters_where_fork_resets_them_is_p15() -> None:
    story = Story(Semantics(has_zero_pages_counter=True, merging_inherited_at_fork=False), p="P1")
    story.merged("P1", "P2")
    story.fork("P1", "C")
    found = story.observe(lambda r: r["procs"]["C"].update(merging=N))
    assert [(f.kind, f.prop) for f in found] == [("counter-ksm_merging_pages", "P15")]


def test_a_child_that_fits_neither_way_teaches_nothing() -> None:
    story = Story()
    story.merged("P1", "P2")
    story.fork("P1", "C")
    found = story.observe(lambda r: r["procs"]["C"].update(merging=N + 1))
    assert [f.kind for f in found] == ["counter-ksm_merging_pages"]
    assert story.model.merging_inheritance.copied is None


# Speed.


def test_speed() -> None:
    """256 pages of 5 processes, some 60 operations: a fraction of a second, also on a busy machine."""
    start = time.process_time()
    story = Story()
    oracle = story.oracle
    names = ["P1", "P2", "P3"]
    story.filled(*names, npages=256)
    story.scan(2)
    story.fork("P1", "C")
    story.fork("P2", "D")
    records: list[Record] = []
    for _ in range(20):
        records.append(story.predictor.obs())
    prepared = time.process_time()
    for record in records:
        story.seq += 1
        oracle.step({"seq": story.seq, "p": "P1", **record})
    assert story.findings == []
    assert time.process_time() - prepared < 0.5
    assert prepared - start < 5


def test_three_hundred_sharers() -> None:
    story = Story(p="P14")
    for i in range(300):
        name = f"S{i}"
        story.model.spawn(name, "t")
        story.model.map(story.model.actors[name], "a", 0x1000, 1)
        story.model.write(story.model.actors[name], 0x1000, 0x1001, 7, 0)
        story.model.mergeable(story.model.actors[name], 0x1000, 0x1001)
    start = time.process_time()
    story.scan(2)
    story.reclaim()
    assert time.process_time() - start < 2
    assert story.counts == (2, 298, 0, 0)

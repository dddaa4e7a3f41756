# SPDX-License-Identifier: GPL-2.0-or-later
"""What was in progress when the kernel complained, by its own clock among the times of the journal's records."""

from __future__ import annotations

from typing import Any

import pytest

from harness.verdict.moment import Moment, Timeline

CLOCK = [1_000_100, 1_000_300, 4_000_200]  # the kernel's is 3 s ahead


def timeline(*records: dict[str, Any], clock: Any = CLOCK) -> Timeline:
    """A boot with these records after hello at 1000 ms."""
    result = Timeline()
    for record in ({"kind": "hello", "t": 1000, "p": "", "clock": clock}, *records):
        result.note(record)
    return result


def op(seq: int, name: str, start: int, end: int | None, p: str = "P1") -> list[dict[str, Any]]:
    ret = [{"kind": "ret", "t": end, "p": p, "of": seq, "op": name}] if end is not None else []
    return [{"kind": "op", "t": start, "p": p, "seq": seq, "op": name}, *ret]


TWO = [
    {"kind": "anchor", "t": 1040, "p": ""},
    {"kind": "reset", "t": 1060, "p": ""},
    *op(3, "fork", 1100, 1120),
    *op(5, "scan", 1130, 1180),
    {"kind": "obs", "t": 1190, "p": "P1"},
    *op(8, "reclaim", 1200, 1300, "P2"),
    {"kind": "reset", "t": 1400, "p": ""},
]


@pytest.mark.parametrize(
    ("kernel", "operation", "prop"),
    [
        ("4.020000", "init's own MADV_MERGEABLE", "P14"),
        ("4.050000", "the reset of KSM (run=2)", "P18"),
        ("4.110000", "fork (seq 3)", "P1"),
        ("4.125000", "between fork (seq 3) and scan (seq 5)", "P1"),
        ("4.150000", "scan (seq 5)", "P1"),
        ("4.190000", "between scan (seq 5) and reclaim (seq 8)", ""),
        ("4.250000", "reclaim (seq 8)", "P2"),
        ("4.350000", "the reset of KSM (run=2)", "P18"),
    ],
)
def test_what_was_in_progress(kernel: str, operation: str, prop: str) -> None:
    text = f"ksm-init: up\n[    {kernel}] BUG: spinlock already unlocked on CPU#0, init/31\n[    9.000000]  lock: x\n"
    assert timeline(*TWO).at(text) == Moment(operation, prop)


@pytest.mark.parametrize(("kernel", "operation"), [("4.119600", "fork (seq 3)"), ("4.120400", "fork (seq 3)")])
def test_records_tell_whole_milliseconds(kernel: str, operation: str) -> None:
    """The fork ended somewhere in the millisecond 1120; the scan, which begins in that one too, may be meant as well."""
    ops = [*op(3, "fork", 1100, 1120), *op(5, "scan", 1125, 1180)]
    assert timeline(*ops).at(f"[    {kernel}] WARNING: x") == Moment(operation, "P1")
    ops = [*op(3, "fork", 1100, 1120), *op(5, "scan", 1120, 1180, "P7")]
    assert timeline(*ops).at("[    4.120400] WARNING: x") == Moment("between fork (seq 3) and scan (seq 5)", "")


def test_clocks_drift_apart_until_they_are_compared_again() -> None:
    ops = [*op(3, "fork", 90_000, 90_020), *op(5, "scan", 90_024, 90_060)]
    text = "[   93.030000] BUG: x"
    assert timeline(*ops).at(text) == Moment("between fork (seq 3) and scan (seq 5)", "P1")
    again = {"kind": "reset", "t": 89_990, "p": "", "clock": [89_990_000, 89_990_100, 92_990_050]}
    assert timeline(again, *ops).at(text) == Moment("scan (seq 5)", "P1")


def test_an_operation_that_never_ended() -> None:
    dead = timeline(*op(3, "fork", 1100, 1120), *op(5, "scan", 1130, None))
    assert dead.at("[    9.000000] Kernel panic") == Moment("scan (seq 5)", "P1")
    workload_over = timeline(*op(5, "scan", 1130, None), {"kind": "reset", "t": 1200, "p": ""}, *op(3, "fork", 1300, 1320))
    assert workload_over.at("[    4.310000] BUG: x") == Moment("fork (seq 3)", "P1")


@pytest.mark.parametrize("clock", [None, [], [1, 2], [1, 2, "3"], [1, 2, -3], {}, 7])
def test_without_a_comparison_of_the_clocks_nothing_is_told(clock: Any) -> None:
    assert timeline(*TWO, clock=clock).at("[    4.110000] BUG: x") is None


def test_a_line_without_a_stamp_and_a_time_beyond_all_operations() -> None:
    assert timeline(*TWO).at("BUG: x\n") is None
    assert timeline(*TWO).at("[    3.900000] BUG: x\n") is None
    assert timeline(*TWO).at("[    4.600000] BUG: x\n") is None

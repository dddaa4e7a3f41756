# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader believes whole records only, in whatever pieces they come, and says what is wrong with the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.journal.reader import MAX_LINE, Reader, read, seal


class Writer:
    """What the guest's C does: two chains in one stream."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._at = {True: (0, 0), False: (0, 0)}

    def add(self, kind: str, boot: bool = False, **members: Any) -> Writer:
        if kind == "begin":
            self._at[False] = (0, 0)
        seq, crc = self._at[boot]
        head = {"seq": seq, "t": len(self.lines), "p": ""} | ({"boot": True} if boot else {})
        line, crc = seal(head | {"kind": kind} | members, crc)
        self._at[boot] = (seq + 1, crc)
        self.lines.append(line)
        return self


def journal() -> list[bytes]:
    w = Writer().add("hello", boot=True, v=1).add("reset", boot=True, ok=True)
    w.add("begin", workload="one").add("op", op="scan").add("ret", of=1).add("obs").add("end", ops=1, obs=1, records=5)
    w.add("done", boot=True).add("reset", boot=True, ok=True)
    w.add("begin", workload="two").add("op", op="scan").add("ret", of=1).add("end", ops=1, obs=0, records=4)
    return w.add("done", boot=True).lines


def test_whole() -> None:
    reader = read(journal())
    assert not reader.fault
    assert [r["kind"] for r in reader.boot] == ["hello", "reset", "done", "reset", "done"]
    assert [(s.workload, s.problem()) for s in reader.segments] == [("one", ""), ("two", "")]


@given(st.lists(st.integers(1, 400), max_size=60))
def test_any_pieces_give_the_same(cuts: list[int]) -> None:
    data = b"".join(journal())
    reader, seen, at = Reader(), [], 0
    for cut in [*cuts, len(data)]:
        seen += list(reader.feed(data[at : at + cut]))
        at += cut
    assert len(seen) == len(journal())
    assert not reader.fault


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_seen(where: int, change: int) -> None:
    data = bytearray(b"".join(journal()))
    data[where % len(data)] ^= change
    reader = read([bytes(data)])
    assert reader.fault or any(s.problem() for s in reader.segments) or len(reader.segments) < 2 or reader._rest


@given(st.integers(0, 13))
def test_any_missing_line_is_seen(which: int) -> None:
    lines = journal()
    del lines[which]
    reader = read(lines)
    # The last "done" is the only record whose absence leaves both workloads' accounts whole.
    assert reader.fault or any(s.problem() for s in reader.segments) or which == 13


def test_cut_short_keeps_what_stood_before() -> None:
    reader = read(journal()[:11])
    assert not reader.fault
    assert [s.problem() for s in reader.segments] == ["", "the journal ended before the workload did"]


def test_fault_marks_the_segment_it_stands_in_only() -> None:
    lines = journal()
    lines[10] = lines[10].replace(b'"scan"', b'"swim"')
    reader = read(lines)
    assert reader.fault.startswith("line 11: checksum")
    assert reader.segments[0].problem() == ""
    assert reader.segments[1].problem() == reader.fault


@pytest.mark.parametrize(("key", "value"), [("ops", 2), ("obs", 0), ("records", 6), ("ops", "1"), ("ops", None)])
def test_declared_counts(key: str, value: object) -> None:
    counts: dict[str, Any] = {"ops": 1, "obs": 1, "records": 5}
    w = Writer().add("hello", boot=True, v=1).add("begin", workload="w").add("op").add("ret").add("obs")
    w.add("end", **(counts | {key: value}))
    assert f"declares {value!r} {key}" in read(w.lines).segments[0].problem()


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (Writer().add("reset", boot=True).lines, "hello first"),
        (Writer().add("hello", boot=True, v=2).lines, "version 2"),
        (Writer().add("op").lines, "begins with begin"),
        ([b"x" * (MAX_LINE + 2)], "a line of over"),
        ([b"\xff\n"], "without a checksum"),
        ([b'[",\\"crc":"00000000"}\n'], "checksum"),
        ([b"\n"], "without a checksum"),
        ([seal({"seq": 0, "kind": 7}, 0)[0]], "no kind"),
        ([b"[" * 100_000 + b',"crc":"%08x"}\n' % __import__("zlib").crc32(b"[" * 100_000)], "not JSON"),
    ],
)
def test_garbage_is_told_and_not_believed(lines: list[bytes], why: str) -> None:
    reader = read(lines)
    assert why in reader.fault
    assert not list(reader.feed(journal()[0]))


def test_after_the_end_nothing_more() -> None:
    w = Writer().add("hello", boot=True, v=1).add("begin", workload="w").add("end", ops=0, obs=0, records=2).add("obs")
    assert "outside begin and end" in read(w.lines).fault

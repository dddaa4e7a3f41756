# SPDX-License-Identifier: GPL-2.0-or-later
"""A second witness's looks reach the oracle in their places: right after their records, live as from the files."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from harness import looks
from harness.drawing import Drawing
from harness.findings import Finding, Tier
from harness.graph import Graph
from harness.guest.record import Outcome
from harness.journal.reader import Reader, Record
from harness.looks import Look
from harness.verdict import Live, judge_cell
from harness.verdict.replay import replay
from tests.unit.story import Journal, new_fork, write_cell

PLANNED = {"new_fork": ("P1",), "many_forks": ("P2",)}
Call = tuple[str, str, int, int]


class Witnessed:
    """An oracle that keeps account of how it is called, and finds what a look's counters tell it to."""

    calls: list[Call]

    def __init__(self, hello: Record, begin: Record) -> None:
        self.workload = str(begin["workload"])
        self.control_failed = ""
        self.remarks: list[str] = []
        self.notes: list[str] = []
        self.drawings: list[Drawing] = []
        self.before: list[str] = []

    def follow(self, before: object, /) -> None:
        assert isinstance(before, Witnessed)
        self.before = [*before.before, before.workload]

    def step(self, record: Record, /) -> list[Finding]:
        self.calls.append((self.workload, "step", record["seq"], 0))
        return []

    def look(self, number: int, graph: Graph, /) -> list[Finding]:
        self.calls.append((self.workload, "look", number, graph.counters["n"]))
        if "raise" in graph.counters:
            raise ValueError("no such anon_vma")
        found = Finding("P6", "reference-leak", "fork", Tier.SAFETY, self.workload, number, "s", "e", "s", "w")
        return [found] if "find" in graph.counters else []


@pytest.fixture
def calls() -> list[Call]:
    Witnessed.calls = []
    return Witnessed.calls


def journal() -> Journal:
    j = Journal()
    j.hello()
    for name in PLANNED:
        j.reset(name)
        new_fork(j, name, PLANNED[name])
    j.reset("")
    return j


def waits(data: bytes) -> list[tuple[int, int]]:
    """Segment and number of the records after which a guest waits."""
    segment, found = -1, []
    for record in Reader().feed(data):
        segment += record["kind"] == "begin"
        if record["kind"] in ("obs", "ret") and not record.get("boot"):
            found.append((segment, record["seq"]))
    return found


def graph(n: int, **more: int) -> Graph:
    return Graph(counters={"n": n} | more)


def write(directory: Path, told: list[Look]) -> None:
    writer = looks.Writer(directory / looks.name(1))
    for look in told:
        writer.write(look.segment, look.seq, look.graph)
    writer.close()


def in_place(calls: list[Call], places: list[tuple[int, int]]) -> None:
    """Every look right after its record, and every record once."""
    names = list(PLANNED)
    expected = [(names[segment], "look", seq, n) for n, (segment, seq) in enumerate(places)]
    assert [call for call in calls if call[1] == "look"] == expected
    for before, call in itertools.pairwise(calls):
        if call[1] == "look":
            assert (before[0], before[1], before[2]) == (call[0], "step", call[2])


def test_each_workloads_oracle_knows_the_one_before() -> None:
    made: list[Witnessed] = []

    def make(hello: Record, begin: Record) -> Witnessed:
        made.append(Witnessed(hello, begin))
        return made[-1]

    Witnessed.calls = []
    replay([journal().data], make)
    assert [oracle.before for oracle in made] == [list(PLANNED)[:i] for i in range(len(PLANNED))]


def test_in_place_from_the_files(tmp_path: Path, calls: list[Call]) -> None:
    data = journal().data
    places = waits(data)
    write(tmp_path, [Look(*place, graph(n)) for n, place in enumerate(places)])
    replay([data], Witnessed, looks.Reader(tmp_path / looks.name(1)))
    in_place(calls, places)
    whole = list(calls)
    calls.clear()
    replay([data[at : at + 100] for at in range(0, len(data), 100)], Witnessed, looks.Reader(tmp_path / looks.name(1)))
    assert calls == whole


def grow(directory: Path, live: Live, data: bytes, slow: float) -> Generator[None, None, None]:
    """The guest room: a record, then the look at the waiting guest, then the next record."""
    writer = looks.Writer(directory / looks.name(1))
    wanted, n, segment, reader = set(waits(data)), 0, -1, Reader()
    with (directory / "journal.jsonl").open("wb", buffering=0) as out:
        for line in data.splitlines(keepends=True):
            out.write(line)
            for record in reader.feed(line):
                segment += record["kind"] == "begin"
                live.record(1, record)
                if (segment, record["seq"]) in wanted and not record.get("boot"):
                    time.sleep(slow)
                    writer.write(segment, record["seq"], graph(n, **({"find": 1} if n == 3 else {})))
                    n += 1
                    live.looked()
                    yield
    writer.close()


@pytest.mark.parametrize("slow", [0, 0.01])
def test_in_place_beside_a_guest(slow: float, tmp_path: Path, calls: list[Call]) -> None:
    data = journal().data
    write_cell(tmp_path, [Journal()], [("new_fork", Outcome.ENDED, 1, ""), ("many_forks", Outcome.ENDED, 1, "")])
    found: list[Finding] = []
    with Live(tmp_path, found.append, Witnessed) as live:
        for _ in grow(tmp_path, live, data, slow):
            pass
        replayed = live.finish()
    in_place(calls, waits(data))
    beside = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, {}, Witnessed, replayed)
    assert beside == judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, {}, Witnessed)
    assert [f.signature for w in beside.workloads for f in w.findings] == ["P6:reference-leak:fork"]
    assert [f.seq for f in found] == [waits(data)[3][1]]


def test_told_while_the_guest_still_waits(tmp_path: Path, calls: list[Call]) -> None:
    """The finding of a look does not wait for the next record."""
    found: list[Finding] = []
    data = journal().data
    with Live(tmp_path, found.append, Witnessed) as live:
        growing = grow(tmp_path, live, data, 0)
        for _ in range(4):
            next(growing)
        end = time.monotonic() + 10
        while not found and time.monotonic() < end:
            time.sleep(0.01)
        assert found
        assert calls[-1][1:3] == ("look", waits(data)[3][1])
        growing.close()


def test_looks_of_other_records_are_left_out(tmp_path: Path, calls: list[Call]) -> None:
    data = journal().data
    first, last = waits(data)[0], waits(data)[-1]
    stray = [Look(first[0], first[1] - 1, graph(7)), Look(first[0], first[1] - 1, graph(8)), Look(*first, graph(0))]
    write(tmp_path, [*stray, Look(last[0], last[1] + 100, graph(9)), Look(last[0] + 1, 0, graph(9))])
    seen = replay([data], Witnessed, looks.Reader(tmp_path / looks.name(1)))
    assert [call[3] for call in calls if call[1] == "look"] == [7, 8, 0]
    assert [account.problem for account in seen.accounts] == ["", ""]


def test_the_last_look_of_a_journal_that_stops(tmp_path: Path, calls: list[Call]) -> None:
    data = journal().data
    lines = data.splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if b'"kind":"ret"' in line) + 1
    data = b"".join(lines[:cut])
    write(tmp_path, [Look(*place, graph(n)) for n, place in enumerate(waits(data))])
    replay([data], Witnessed, looks.Reader(tmp_path / looks.name(1)))
    assert calls[-1][1] == "look"


def test_a_look_that_cannot_be_compared_is_told(tmp_path: Path, calls: list[Call]) -> None:
    data = journal().data
    one, two = waits(data)[:2]
    write(tmp_path, [Look(*one, Graph(counters={"n": 0, "raise": 1})), Look(*two, graph(1, find=1))])
    seen = replay([data], Witnessed, looks.Reader(tmp_path / looks.name(1)))
    account = seen.accounts[0]
    assert account.notes == [f"the look after record {one[1]} cannot be compared: ValueError: no such anon_vma"]
    assert account.problem == ""
    assert [f.seq for f in account.findings] == [two[1]]


def test_looks_that_end_early_are_a_warning(tmp_path: Path, calls: list[Call]) -> None:
    j = journal()
    write_cell(tmp_path, [j], [("new_fork", Outcome.ENDED, 1, ""), ("many_forks", Outcome.ENDED, 1, "")])
    write(tmp_path, [Look(*waits(j.data)[0], graph(0))])
    path = tmp_path / looks.name(1)
    path.write_bytes(path.read_bytes() + b"garbage" * 9)
    warnings = judge_cell(tmp_path, "x86_64", "x86_64", PLANNED, {}, Witnessed).warnings
    assert any(w.startswith("boot 1: the second witness's looks are not judged to the end: damaged") for w in warnings)


def test_a_guest_that_waits_can_wait_for_the_verdict(tmp_path: Path, calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Witnessed.step

    def slow(self: Witnessed, record: Record, /) -> list[Finding]:
        time.sleep(0.005)
        return plain(self, record)

    monkeypatch.setattr(Witnessed, "step", slow)
    found: list[Finding] = []
    data = journal().data
    with Live(tmp_path, found.append, Witnessed) as live:
        for n, _ in enumerate(grow(tmp_path, live, data, 0)):
            live.settle()
            assert calls[-1][1:3] == ("look", waits(data)[n][1])
            assert bool(found) is (n >= 3)


def test_who_waits_for_a_judgement_that_failed_is_not_kept(tmp_path: Path, calls: list[Call]) -> None:
    def broken(finding: Finding) -> None:
        raise RuntimeError(finding.signature)

    with Live(tmp_path, broken, Witnessed) as live:
        for _ in grow(tmp_path, live, journal().data, 0):
            live.settle()
        with pytest.raises(RuntimeError, match="P6:reference-leak"):
            live.finish()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle beside a living guest: the same result as from the files afterwards, at once, and nobody waits for it."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.findings import Finding, Tier
from harness.guest.record import Outcome
from harness.journal.reader import Reader, Record
from harness.oracle import Oracle
from harness.verdict import Live, judge_cell
from tests.unit.story import Journal, new_fork, write_cell

DATA = Path(__file__).parent / "data"
PLANNED = {"new_fork": ("P1",), "many_forks": ("P2",)}


def grow(live: Live, directory: Path, journals: list[bytes]) -> None:
    """The journals come piece by piece, as the guest room writes them."""
    rolls = random.Random(1)
    for number, data in enumerate(journals, start=1):
        reader, path = Reader(), directory / ("journal.jsonl" if number == 1 else f"journal.{number}.jsonl")
        with path.open("wb", buffering=0) as out:
            at = 0
            while at < len(data):
                piece = data[at : at + rolls.randrange(1, 9000)]
                out.write(piece)
                for record in reader.feed(piece):
                    live.record(number, record)
                at += len(piece)


def both_ways(directory: Path, journals: list[bytes], outcomes: list[tuple[str, Outcome, int, str]]) -> list[Finding]:
    """Judged beside and judged afterwards is the same; gives the findings that were told meanwhile."""
    write_cell(directory, [Journal() for _ in journals], outcomes)
    begun: list[str] = []
    found: list[Finding] = []

    def make(hello: Record, begin: Record) -> Oracle:
        begun.append(begin["workload"])
        return Oracle(hello, begin)

    with Live(directory, found.append, make) as live:
        grow(live, directory, journals)
        replayed = live.finish()
    once = list(begun)
    beside = judge_cell(directory, "x86_64", "x86_64", PLANNED, {"tree": "t"}, make, replayed)
    assert begun == once, "judged again"
    afterwards = judge_cell(directory, "x86_64", "x86_64", PLANNED, {"tree": "t"}, Oracle)
    assert beside == afterwards
    return found


def story(*stuck: str, why: str = "") -> bytes:
    j = Journal()
    j.hello()
    j.reset("new_fork")
    new_fork(j, stuck=stuck, why=why)
    j.reset("many_forks")
    new_fork(j, "many_forks", ("P2",), stuck=stuck, why=why)
    j.reset("")
    return j.data


ENDED = [("new_fork", Outcome.ENDED, 1, ""), ("many_forks", Outcome.ENDED, 1, "")]


@pytest.mark.parametrize("target", ["x86_64", "ppc64"])
def test_a_real_guests_journal(target: str, tmp_path: Path) -> None:
    data = gzip.decompress((DATA / f"oracle-6.1-{target}.jsonl.gz").read_bytes())
    assert both_ways(tmp_path, [data], ENDED) == []


def test_a_broken_kernel(tmp_path: Path) -> None:
    found = both_ways(tmp_path, [story("C")], ENDED)
    assert [f.signature for f in found if not f.follows] == ["P1:still-mapped:reclaim", "P2:still-mapped:reclaim"]


def test_counters_that_stay_after_a_workload(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    new_fork(j)
    j.reset("many_forks", ok=False, ksm={"pages_shared": "16"}, why="pages_shared is 16")
    found = both_ways(tmp_path, [j.data], ENDED[:1])
    assert [(f.signature, f.workload) for f in found] == [("P18:reset:run", "new_fork")]


def damage(how: str, data: bytes) -> bytes:
    if how == "cut":
        return data[: len(data) // 3]
    if how == "changed":
        return data.replace(b'"label":"forked"', b'"label":"forkeD"', 1)
    if how == "empty":
        return b""
    lines = data.splitlines(keepends=True)
    return b"".join(lines[:20] + lines[21:])


@pytest.mark.parametrize("how", ["cut", "changed", "gap", "empty"])
def test_damaged_journals_and_several_boots(how: str, tmp_path: Path) -> None:
    data = story("C")
    both_ways(tmp_path, [damage(how, data), data], [("new_fork", Outcome.LOST, 1, "x"), ("many_forks", Outcome.ENDED, 2, "")])


def until(told: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not told() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert told()


def test_findings_are_told_before_the_journal_ends(tmp_path: Path) -> None:
    data = story("C")
    at = data.index(b'"kind":"reset"', data.index(b'"workload":"new_fork"'))
    found: list[Finding] = []
    with Live(tmp_path, found.append) as live:
        grow(live, tmp_path, [data[:at]])
        until(lambda: bool(found))
        assert (found[0].workload, found[0].tier) == ("new_fork", Tier.SAFETY)


def test_findings_that_do_not_count_are_not_told(tmp_path: Path) -> None:
    """The guest was too slow: what reclaim left mapped at its deadline is no finding against the kernel."""
    found: list[Finding] = []
    with Live(tmp_path, found.append) as live:
        grow(live, tmp_path, [story("C", why="deadline")])
        replayed = live.finish()
    assert replayed[1].accounts[0].findings
    assert found == []


class Slow(Oracle):
    """Takes its time over each record, and not by sleeping."""

    def step(self, record: Record) -> list[Finding]:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return super().step(record)


def test_a_slow_oracle_keeps_nobody_waiting_and_loses_nothing(tmp_path: Path) -> None:
    found: list[Finding] = []
    start = time.monotonic()
    with Live(tmp_path, found.append, Slow) as live:
        grow(live, tmp_path, [story("C")])
        fed = time.monotonic() - start
        assert not found
        replayed = live.finish()
    assert fed < (time.monotonic() - start) / 3
    assert [a.workload for a in replayed[1].accounts] == ["new_fork", "many_forks"]
    assert found


def test_an_interrupted_run_does_not_wait_for_the_judgement(tmp_path: Path) -> None:
    j = Journal()
    j.hello()
    for _ in range(100):
        new_fork(j)
    start = time.monotonic()
    with Live(tmp_path, lambda _: None, Slow) as live:
        grow(live, tmp_path, [j.data])
    assert time.monotonic() - start < 20  # the oracle needs a minute
    assert not [t for t in threading.enumerate() if t.name.startswith("oracle of")]


def test_a_failure_of_our_own_is_raised_not_swallowed(tmp_path: Path) -> None:
    def broken(finding: Finding) -> None:
        raise RuntimeError(finding.signature)

    write_cell(tmp_path, [Journal()], ENDED)
    (tmp_path / "journal.jsonl").write_bytes(story("C"))
    with Live(tmp_path, broken) as live:
        live.record(1, {})
        with pytest.raises(RuntimeError, match="P1:still-mapped"):
            live.finish()

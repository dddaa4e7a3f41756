# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.guest.plan import Limits, Load
from harness.guest.record import BootRecord, CellRecord, Outcome, Stop, WorkloadRecord, load_cell
from harness.guest.turn import Dirty, Ended, Turn, blame


def cell() -> CellRecord:
    record = CellRecord("x86_64", accel="tcg")
    record.boots = [BootRecord(1, stop=Stop.CRASH, reason="Oops"), BootRecord(2)]
    record.workloads = [WorkloadRecord("p1", {"pages": "4"}, Outcome.CRASHED, "Oops", 1, 0, "reclaim (seq 4)")]
    return record


def test_round_trip(tmp_path: Path) -> None:
    cell().write(tmp_path)
    assert load_cell(tmp_path) == cell()
    assert [p.name for p in tmp_path.iterdir()] == ["cell.json"]


def test_overwrite_in_place(tmp_path: Path) -> None:
    record = cell()
    record.write(tmp_path)
    record.workloads[0].outcome = Outcome.INFRA
    record.reason = "full"
    assert record.overwrite(tmp_path)
    assert load_cell(tmp_path) == record
    record.reason = "x" * 10000  # more than the blocks that the file has
    assert not record.overwrite(tmp_path)
    assert load_cell(tmp_path).reason == "full"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"version": 1}', '{"version": 2, "target": "x"}', '{"version":1,"target":"x","odd":1}']
)
def test_what_is_not_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "cell.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"cell\.json"):
        load_cell(tmp_path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load_cell(tmp_path)


def test_load_line() -> None:
    assert Load("p5", {"rounds": "3", "sync": "1"}).command() == "run p5 rounds=3 sync=1\n"
    assert Load("p5", {"sync": "1"}).waits_after == {"obs"}
    assert Load("p5", {"sync": "2"}).waits_after == {"obs", "ret"}
    assert not Load("p5", {"sync": "0"}).waits_after
    assert not Load("p5").waits_after


@pytest.mark.parametrize(
    ("args", "patience", "line"),
    [
        ({"rounds": "3"}, 2.504, "run p5 patience=250 rounds=3\n"),
        ({"patience": "400"}, 2.5, "run p5 patience=400\n"),  # the user's word
        ({}, 1.004, "run p5\n"),
        ({}, 0.1, "run p5\n"),  # the guest's deadlines are not for tests of the host's
    ],
)
def test_the_guests_own_deadlines_are_stretched(args: dict[str, str], patience: float, line: str) -> None:
    assert Load("p5", args).command(patience) == line


def test_factor_of_limits() -> None:
    assert Limits().factor == 1
    assert Limits(progress=3 * Limits().progress).factor == pytest.approx(3)


def run(*kinds: dict[str, object]) -> tuple[Turn, WorkloadRecord]:
    workload = WorkloadRecord("p1")
    turn = Turn(Load("p1"), workload, 2, 100.0)
    for seq, record in enumerate(kinds):
        turn.take({"seq": seq, "t": 1000 + 10 * seq, "p": "P1", **record}, 3)
    return turn, workload


def test_a_turn_starts_as_lost() -> None:
    _, workload = run()
    assert (workload.outcome, workload.boot) == (Outcome.LOST, 2)


def test_operation_in_progress() -> None:
    turn, workload = run(
        {"kind": "begin"}, {"kind": "op", "op": "fork"}, {"kind": "ret", "of": 1}, {"kind": "op", "op": "reclaim"}
    )
    assert (workload.operation, workload.prop, workload.segment) == ("reclaim (seq 3)", "P1", 3)
    turn.cut(Ended(Stop.HANG, "blocked"), 104.5)
    assert (workload.outcome, workload.reason, workload.seconds, workload.guest_seconds) == (Outcome.HUNG, "blocked", 4.5, 0.03)


def test_no_operation_between_two() -> None:
    turn, workload = run({"kind": "begin"}, {"kind": "op", "op": "fork"}, {"kind": "ret", "of": 1})
    assert workload.operation == ""
    turn.done(101.0)
    assert (workload.outcome, workload.reason) == (Outcome.ENDED, "")


def test_odd_records_do_not_raise() -> None:
    _, workload = run({"kind": "begin", "t": "x"}, {"kind": "op", "t": None, "p": 7}, {"kind": "ret"})
    assert workload.guest_seconds >= 0


@pytest.mark.parametrize(
    ("stop", "outcome"),
    [
        (Stop.CRASH, Outcome.CRASHED),
        (Stop.LOST, Outcome.LOST),
        (Stop.INFRA, Outcome.INFRA),
        (Stop.CANCELLED, Outcome.LOST),
    ],
)
def test_how_a_boots_end_ends_a_turn(stop: Stop, outcome: Outcome) -> None:
    turn, workload = run()
    turn.cut(Ended(stop, "why"), 101.0)
    assert workload.outcome is outcome


def test_taint_is_the_workloads_before() -> None:
    before, (_, workload) = WorkloadRecord("p0", outcome=Outcome.ENDED, boot=1), run()
    end = blame(Dirty({"ok": True, "taint": 512}, 0), before, workload, 1)
    assert (before.outcome, before.reason) == (Outcome.CRASHED, "after it: the kernel's taint went from 0 to 512")
    assert (workload.outcome, workload.boot, workload.reason) == (Outcome.NOTRUN, 0, "")
    assert end.stop is Stop.DIRTY


def test_a_failed_reset_leaves_the_workload_before_as_it_was() -> None:
    before, (_, workload) = WorkloadRecord("p0", outcome=Outcome.ENDED, boot=1), run()
    blame(Dirty({"ok": False, "taint": 0, "why": "pages_shared 3"}, 0), before, workload, 1)
    assert (before.outcome, before.reason) == (Outcome.ENDED, "after it: reset failed: pages_shared 3")
    assert workload.outcome is Outcome.NOTRUN


def test_dirt_right_after_boot_is_nobodys() -> None:
    _, workload = run()
    blame(Dirty({"ok": False, "taint": 0}, 0), None, workload, 4)
    assert (workload.outcome, workload.boot) == (Outcome.INFRA, 4)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The standstills are answers to sysrq w and l of real guests (6.1), three of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.guest.evidence import Evidence
from harness.guest.hang import blocked, busy, judge

OOPSES = Path(__file__).parent / "oopses"
ARCHES = ("x86_64", "aarch64", "ppc64")


def samples(arch: str, what: str) -> tuple[str, ...]:
    text = (OOPSES / f"{arch}-standstill-{what}.txt").read_text(encoding="utf-8")
    return tuple(text.split("=== next sample ===\n"))


@pytest.mark.parametrize("arch", ARCHES)
def test_blocked_in_the_kernel(arch: str) -> None:
    found = samples(arch, "blocked")  # vfork, whose child never ends
    judgement = judge(Evidence("running", found))
    assert judgement.hang
    assert judgement.reason.startswith("blocked in the kernel: init (pid ")
    assert judgement.reason.endswith("in __wait_for_common")
    assert all(len(blocked(sample)) == 1 for sample in found)


@pytest.mark.parametrize("arch", ARCHES)
def test_busy_in_the_kernel(arch: str) -> None:
    found = samples(arch, "kernel")  # a loop in a module's init, with cond_resched
    judgement = judge(Evidence("running", found))
    assert judgement.hang
    assert judgement.reason.startswith("busy in the kernel whenever looked at: init (pid 1) in ")
    stack = busy(found[0])
    assert stack is not None
    assert "do_init_module" in stack.stack


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("what", ["user", "idle"])
def test_a_guest_that_lost_its_way(arch: str, what: str) -> None:
    found = samples(arch, what)
    judgement = judge(Evidence("running", found))
    assert not judgement.hang
    assert "kernel answers" in judgement.reason
    assert [busy(sample) for sample in found] == [None] * 3
    assert [blocked(sample) for sample in found] == [{}] * 3


def test_blocked_once_is_not_blocked() -> None:
    once = (samples("x86_64", "blocked")[0], *samples("x86_64", "idle")[:2])
    assert not judge(Evidence("running", once)).hang


def test_two_tasks_in_turn_are_not_busy() -> None:
    kernel = samples("aarch64", "kernel")
    assert not judge(Evidence("running", (kernel[0], samples("aarch64", "user")[0], kernel[1]))).hang


def test_no_answer_is_a_hang_if_qemu_runs() -> None:
    assert judge(Evidence("running", ("",))).hang
    assert not judge(Evidence("", ())).hang
    judgement = judge(Evidence("io-error", ()))
    assert not judgement.hang
    assert "io-error" in judgement.reason


def test_stuck_record() -> None:
    idle = Evidence("running", samples("x86_64", "idle"))
    stuck = {"kind": "stuck", "actor": "P1", "pid": 33, "state": "D", "wchan": "ksm_do_scan"}
    assert judge(idle, stuck).reason == "P1 (pid 33) is blocked in the kernel in ksm_do_scan"
    assert judge(idle, stuck).hang
    assert not judge(idle, {**stuck, "state": "S"}).hang


@pytest.mark.parametrize("status", ["", "io-error", "paused"])
def test_a_guest_that_does_not_run_is_not_stuck_by_its_own_fault(status: str) -> None:
    judgement = judge(Evidence(status), {"kind": "stuck", "actor": "P1", "pid": 33, "state": "D", "wchan": "swap_readpage"})
    assert not judgement.hang
    assert "QEMU" in judgement.reason


def test_the_kernels_own_word() -> None:
    idle = Evidence("running", samples("aarch64", "idle"))
    lockup = (OOPSES / "aarch64-lockup.txt").read_text(encoding="utf-8")
    assert judge(idle, console=lockup).hang
    stall = (OOPSES / "x86_64-lockup.txt").read_text(encoding="utf-8")
    assert not judge(idle, console=stall).hang  # an RCU stall alone, on a slow guest


def test_a_flood_explains_being_busy() -> None:
    assert not judge(Evidence("running", samples("x86_64", "kernel")), flood=True).hang


def test_evidence_as_text(tmp_path: Path) -> None:
    path = tmp_path / "evidence.txt"
    Evidence("running", samples("x86_64", "idle"), nmi="NMI!", registers=("RIP=1",)).write(path, "no progress")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("Asked because: no progress\nQMP query-status: running\n")
    assert "sysrq: Show Blocked State" in text
    assert "NMI!" in text
    assert "RIP=1" in text


def test_garbage() -> None:
    for text in ("", "\0\xff", "task: state:D pid:", "CPU: 0 PID: 1 Comm: x", "Show backtrace of all active CPUs\nRIP: "):
        assert blocked(text) == {}
        assert busy(text) is None

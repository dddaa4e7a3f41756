# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault a standstill is: a pure judgement of the evidence.

A HANG has to be shown: a task blocked in the kernel for good, a kernel that does not answer, one that is busy with the
same task in kernel mode whenever it is looked at.  A guest whose kernel answers and has nothing blocked merely lost
its way, which says nothing about KSM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.guest import oops
from harness.guest.evidence import Evidence

# kernel/sched/core.c, sched_show_task(): "task:%-15.15s state:%c", then pid; 5.10 has other columns.
_TASK = re.compile(r"task:(.{1,15}?)\s+state:([A-Z])\s.*?pid:\s*(\d+)")
_PLAIN = re.compile(r"^(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?", re.MULTILINE)
_FRAME = re.compile(r"^ *(?:\[<?[0-9a-f]+>?\] )*(\?? ?)\.?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x", re.MULTILINE)
_RUNNING = re.compile(r"^CPU: \d+ PID: (\d+) Comm: (\S+)", re.MULTILINE)
# What was interrupted: x86 code segment, arm64 exception level, powerpc problem state (user mode).
_MODE = re.compile(r"RIP: (?P<cs>[0-9a-f]{4}):|pstate: [0-9a-f]*(?P<el>[0-9a-f])\b|MSR: +[0-9a-f]+ <(?P<msr>[A-Z,]+)>")
_WHERE = re.compile(r"(?:RIP: 0010:|pc : |NIP \[[0-9a-f]+\] )\.?([A-Za-z_][\w.]*)\+0x")
# How any system call gets in, and how a task yields: says nothing about what it is busy with.
_ENTRY = re.compile(
    r"do_syscall_64|entry_SYSCALL|x64_sys_call|(?:do_)?el0|system_call|invoke_syscall|ret_from|_*cond_resched|_*schedule"
)


@dataclass(frozen=True)
class Judgement:
    """Whether the kernel is shown at fault, and how that shows, in one line."""

    hang: bool
    reason: str


def blocked(sample: str) -> dict[int, str]:
    """Tasks in state D in an answer to sysrq-w: pid to "comm (pid) in function"."""
    text = _PLAIN.sub("", sample.replace("\r", ""))
    found: dict[int, str] = {}
    tasks = list(_TASK.finditer(text))
    ends = [*(task.start() for task in tasks[1:]), len(text)]
    for task, end in zip(tasks, ends, strict=False):
        if task[2] == "D":
            frames = _FRAME.findall(text[task.end() : end])
            sleeping = next((f for sure, f in frames if not sure.strip() and not _sleep(f)), "")
            pid = int(task[3])
            found[pid] = f"{task[1].strip()} (pid {pid})" + (f" in {sleeping}" if sleeping else "")
    return found


def _sleep(function: str) -> bool:
    """How a task goes to sleep, which is not what it sleeps for."""
    return re.match(r"_*(?:switch_to|schedule|schedule_\w+|io_schedule\w*|rt_mutex_schedule)(?:\.|$)", function) is not None


@dataclass(frozen=True)
class Busy:
    """The task that had the CPU in kernel mode, and its stack's functions, innermost first."""

    task: str  # "comm (pid 7)"
    stack: tuple[str, ...]


def busy(sample: str) -> Busy | None:
    """What an answer to sysrq-l says the (one) CPU was doing; None if it was idle or in user mode."""
    text = _PLAIN.sub("", sample.replace("\r", ""))
    text = text[text.find("Show backtrace of all active CPUs") :]
    running, mode = _RUNNING.search(text), _MODE.search(text)
    if running is None or running[1] == "0" or mode is None:
        return None
    if not (mode["cs"] == "0010" or (mode["el"] or "0") != "0" or "PR" not in (mode["msr"] or "PR").split(",")):
        return None
    text = text[mode.start() :]
    where = _WHERE.search(text)
    frames = [function for unsure, function in _FRAME.findall(text) if not unsure.strip()]
    return Busy(f"{running[2]} (pid {running[1]})", tuple(dict.fromkeys(([where[1]] if where else []) + frames)))


def judge(evidence: Evidence, stuck: Mapping[str, Any] | None = None, console: str = "", flood: bool = False) -> Judgement:
    """Judge.

    ``stuck`` is the journal's record of that kind, ``console`` what the guest had printed since hello; ``flood``:
    it printed without end, so that being busy with that is no wonder.
    """
    if not evidence.status:
        return Judgement(False, "QEMU does not answer on its monitor")
    if evidence.status != "running":
        return Judgement(False, f"QEMU has stopped the guest ({evidence.status})")
    if stuck is not None and stuck.get("state") == "D":
        where = f" in {stuck['wchan']}" if stuck.get("wchan") else ""
        return Judgement(True, f"{stuck.get('actor')} (pid {stuck.get('pid')}) is blocked in the kernel{where}")
    if not evidence.answered:
        return Judgement(True, "the kernel does not answer sysrq")
    if flood:
        return Judgement(False, "the guest floods its console, and its kernel answers")
    everywhere = _always(evidence)
    if everywhere:
        return everywhere
    for report in oops.extract(console):
        if report.kind in ("soft-lockup", "hung-task"):
            return Judgement(True, report.title)
    return Judgement(False, "the kernel answers, and nothing is blocked or busy in it")


def _always(evidence: Evidence) -> Judgement | None:
    """What every sample shows."""
    if len(evidence.samples) < 2:
        return None
    asleep = [blocked(s) for s in evidence.samples]
    common = set(asleep[0]).intersection(*asleep[1:])
    if common:
        return Judgement(True, "blocked in the kernel: " + ", ".join(asleep[-1][pid] for pid in sorted(common)))
    running = [b for s in evidence.samples if (b := busy(s)) is not None]
    if len(running) == len(evidence.samples) and len({b.task for b in running}) == 1:
        stacks = [{f for f in b.stack if not _ENTRY.match(f)} for b in running]
        for function in running[-1].stack:
            if all(function in stack for stack in stacks):
                return Judgement(True, f"busy in the kernel whenever looked at: {running[0].task} in {function}")
    return None

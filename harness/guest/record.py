# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a cell, as far as the host saw it: ``cell.json``, which the verdict room reads.

No verdict here: who judges looks at the journal and the console as well.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.store import write_atomically

NAME = "cell.json"
VERSION = 1


def numbered(name: str, boot: int) -> str:
    """A boot's file: ``console.log``, then ``console.2.log``, …"""
    stem, dot, suffix = name.rpartition(".")
    return name if boot == 1 else f"{stem}.{boot}{dot}{suffix}"


class Outcome(enum.StrEnum):
    """How a workload's turn ended."""

    ENDED = "ended"  # its segment came to its end or to an error record
    CRASHED = "crashed"  # the kernel complained on the console, or panicked
    HUNG = "hung"  # no progress, and the evidence shows the kernel at fault
    LOST = "lost"  # the journal or QEMU ended early, or no progress without a sign of the kernel's fault
    INFRA = "infra"  # the host is at fault
    NOTRUN = "notrun"  # its turn never came


class Stop(enum.StrEnum):
    """Why a boot ended."""

    POWEROFF = "poweroff"  # all workloads had their turn, the guest powered itself off
    CRASH = "crash"
    HANG = "hang"
    LOST = "lost"
    DIRTY = "dirty"  # reset found KSM, the memcg or the taint other than it should be
    NO_TOKEN = "no-token"  # no hello
    INFRA = "infra"
    CANCELLED = "cancelled"
    HALTED = "halted"  # the host knew enough


@dataclass
class WorkloadRecord:
    """One workload's turn."""

    workload: str
    args: dict[str, str] = field(default_factory=dict)
    outcome: Outcome = Outcome.NOTRUN
    reason: str = ""
    boot: int = 0  # number of the boot it ran in, from 1; 0: none
    segment: int = -1  # index of its segment in that boot's journal; -1: none
    operation: str = ""  # last op record without its ret: "reclaim (seq 41)"
    prop: str = ""  # property being shown then
    seconds: float = 0.0  # wall, command to end
    guest_seconds: float = 0.0  # begin to last record, guest's clock


@dataclass
class BootRecord:
    """One QEMU process."""

    number: int
    started: str = ""  # ISO 8601, UTC
    accel: str = ""
    console: str = ""  # file names in the cell's directory
    journal: str = ""
    hello: bool = False
    boot_seconds: float = 0.0  # start of QEMU to hello
    seconds: float = 0.0  # start of QEMU to its end
    scale: float = 1.0  # measured slowness of the guest, >= 1
    stop: Stop | None = None  # None: still running (or the harness was killed)
    reason: str = ""
    exit_status: int | None = None  # QEMU's; negative: killed by that signal
    shutdown: str = ""  # reason in QMP's SHUTDOWN event
    console_from: int = 0  # offset in the console file at hello: what stands before is the boot's
    console_to: int | None = None  # offset at which the host began to ask for evidence; None: never


@dataclass
class CellRecord:
    """A cell: one target, its boots, its workloads in the order asked for."""

    target: str
    accel: str = ""
    cpu: str = ""
    accel_reason: str = ""
    qemu: str = ""  # first line of --version
    page_size: int = 0  # in bytes, that the target's row names
    boots: list[BootRecord] = field(default_factory=list)
    workloads: list[WorkloadRecord] = field(default_factory=list)
    finished: bool = False
    reason: str = ""  # why workloads were not run, if some were not
    seconds: float = 0.0
    version: int = VERSION

    def write(self, directory: Path) -> None:
        """Replace ``cell.json``.  OSError when the disk is full."""
        write_atomically(directory / NAME, self._text())

    def overwrite(self, directory: Path) -> bool:
        """Write it where the old one stands, if that has room for it: what can still be done when the disk is full."""
        data = self._text().encode()
        try:
            with (directory / NAME).open("r+b") as f:
                if os.fstat(f.fileno()).st_blocks * 512 < len(data):
                    return False
                f.write(data)
                f.truncate()
        except OSError:
            return False
        return True

    def _text(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def _make(kind: type, data: Any, where: str) -> Any:
    names = {f.name for f in dataclasses.fields(kind)}
    if not isinstance(data, dict) or not data.keys() <= names:
        raise UsageError(f"{where} is not what this version writes; run the cell again")
    return kind(**data)


def load_cell(directory: Path) -> CellRecord:
    """Read ``cell.json``.  UsageError if it is missing or not ours."""
    path = directory / NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise UsageError(f"{path} is not a cell record of version {VERSION}; run the cell again")
        cell: CellRecord = _make(CellRecord, data, str(path))
        cell.boots = [_make(BootRecord, b, f"{path}: boots") for b in data["boots"]]
        cell.workloads = [_make(WorkloadRecord, w, f"{path}: workloads") for w in data["workloads"]]
        for boot in cell.boots:
            boot.stop = None if boot.stop is None else Stop(boot.stop)
        for workload in cell.workloads:
            workload.outcome = Outcome(workload.outcome)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UsageError(f"cannot read {path}: {e}") from e
    return cell

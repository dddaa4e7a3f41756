# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests: QEMU processes, watched, and what they leave behind.  The door is :func:`run_cell`."""

from harness.guest.accel import Accel
from harness.guest.cell import probe, run_cell
from harness.guest.halt import Halt
from harness.guest.plan import CellPlan, Limits, Load, Waiting
from harness.guest.record import BootRecord, CellRecord, Outcome, Stop, WorkloadRecord, load_cell

__all__ = [
    "Accel",
    "BootRecord",
    "CellPlan",
    "CellRecord",
    "Halt",
    "Limits",
    "Load",
    "Outcome",
    "Stop",
    "Waiting",
    "WorkloadRecord",
    "load_cell",
    "probe",
    "run_cell",
]

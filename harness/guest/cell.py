# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell: all workloads on one target, in as many boots as it takes."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.errors import HostError
from harness.guest import accel as acceleration
from harness.guest.accel import Accel
from harness.guest.boot import Boot, OnRecord
from harness.guest.halt import Halt
from harness.guest.plan import CellPlan, Load
from harness.guest.process import qemu_version
from harness.guest.record import CellRecord, Outcome, Stop, WorkloadRecord
from harness.journal.reader import Record

log = logging.getLogger("harness.guest")

Progress = Callable[[str], None]


async def run_cell(
    plan: CellPlan, on_record: OnRecord | None = None, progress: Progress | None = None, halt: Halt | None = None
) -> CellRecord:
    """Boot the guest and run the workloads; boot again after what ends a boot, and go on with those that remain.

    ``on_record`` gets the number of the boot and each record of its journal as it comes (when it is in the file already);
    ``halt`` may be ordered at any time, and then the workloads that remain are not run.  All that the verdict needs is in
    ``plan.directory`` afterwards.  Must be awaited in the main thread (see :func:`process.start`); several
    cells may run in one event loop.

    Nothing that a guest does raises.  HostError if QEMU is not there; CannotJudge if KVM is required and unusable;
    UsageError for a nonsensical accelerator.  If the disk is full the record says so, here and on disk if it can.
    """
    return await _Cell(plan, on_record, progress or (lambda _: None), halt or Halt()).run()


async def probe(plan: CellPlan, accel: Accel) -> str:
    """Boot plan's kernel and image under ``accel``, only to hello: "" if it came in time, else why not."""
    directory = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=plan.store.root / "tmp"))
    try:
        limits = replace(plan.limits, token=plan.limits.probe, silence=plan.limits.probe)
        boot = Boot(replace(plan, directory=directory, limits=limits, witness=None, on_wait=None), accel, 1, save=lambda: None)
        await boot.run([], hello_only=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return "" if boot.record.hello else f"a probe boot failed: {boot.record.reason}"


class _Cell:
    def __init__(self, plan: CellPlan, on_record: OnRecord | None, progress: Progress, halt: Halt) -> None:
        self.plan = plan
        self.halt = halt
        self.on_record = on_record
        self.progress = progress
        self.record = CellRecord(plan.target.name)
        self.record.workloads = [WorkloadRecord(load.name, dict(load.args)) for load in plan.workloads]
        self.disk_full = ""
        self.barren = 0  # boots in a row that came to no workload

    def save(self) -> None:
        """Keep what is known.  A full disk must not lose the rest of the run."""
        try:
            self.record.write(self.plan.directory)
        except OSError as e:
            self.disk_full = f"cannot write {self.plan.directory}: {e.strerror}"
            log.warning("%s", self.disk_full)
            self.record.overwrite(self.plan.directory)

    async def run(self) -> CellRecord:
        begin = time.monotonic()
        record, target = self.record, self.plan.target
        record.qemu, record.page_size = qemu_version(target.qemu), target.page_size
        if not self.plan.directory.is_dir():
            raise HostError(f"{self.plan.directory} is not a directory")
        self.save()
        try:
            accel = await self._accel()
            record.accel, record.cpu, record.accel_reason = accel.name, accel.cpu, accel.reason
            await self._boots(accel)
            record.finished = True
        finally:
            record.seconds = round(time.monotonic() - begin, 3)
            self._blame_disk()
            self.save()
        return record

    async def _accel(self) -> Accel:
        plan = self.plan

        async def try_it(accel: Accel) -> str:
            self.progress(f"probing {accel.name}")
            return await probe(plan, accel)

        return await acceleration.choose(plan.target, plan.accel, plan.require_kvm, try_it, plan.store, self.record.qemu)

    def _remaining(self) -> list[tuple[Load, WorkloadRecord]]:
        pairs = zip(self.plan.workloads, self.record.workloads, strict=True)
        return [(load, workload) for load, workload in pairs if workload.outcome is Outcome.NOTRUN]

    async def _boots(self, accel: Accel) -> None:
        """Every boot but the last takes at least one workload out of the list, so there is an end to them."""
        while remaining := self._remaining():
            number = len(self.record.boots) + 1
            self.progress(f"boot {number} ({accel.name})")
            boot = Boot(self.plan, accel, number, self.save, self._on_record, self.halt)
            self.record.boots.append(boot.record)
            self.save()
            await boot.run(remaining)
            if boot.record.hello:
                acceleration.confirm(accel)
            if boot.record.stop is not Stop.POWEROFF:
                log.warning("%s, boot %d: %s: %s", self.plan.target.name, number, boot.record.stop, boot.record.reason)
            self.save()
            self._give_up_on_barren_boots(number)
            left = self._remaining()
            self._fail_fast()
            if len(left) == len(remaining) or self.disk_full or self.halt.reason:
                reason = self.halt.reason or boot.record.reason
                for _, workload in left:
                    workload.reason = reason
                self.record.reason = reason if left else ""
                return

    def _give_up_on_barren_boots(self, number: int) -> None:
        """Where two boots in a row came to no workload, further ones will not either."""
        turns = [w for w in self.record.workloads if w.boot == number]
        self.barren = self.barren + 1 if turns and all(w.outcome is Outcome.INFRA and w.segment < 0 for w in turns) else 0
        if self.barren == 2:
            for _, workload in self._remaining():
                workload.outcome, workload.boot, workload.reason = Outcome.INFRA, number, turns[0].reason

    def _fail_fast(self) -> None:
        """A crash and a hang tell that the kernel is bad before any oracle does."""
        for workload in self.record.workloads:
            if self.plan.fail_fast and workload.outcome in (Outcome.CRASHED, Outcome.HUNG):
                self.halt.order(f"--fail-fast: the guest {workload.outcome} in {workload.workload}")

    def _on_record(self, boot: int, record: Record) -> None:
        if record["kind"] == "begin":
            self.progress(str(record.get("workload"))[:80])
        if self.on_record is not None:
            self.on_record(boot, record)

    def _blame_disk(self) -> None:
        """What could not be kept cannot be judged."""
        if not self.disk_full:
            return
        for workload in self.record.workloads:
            if workload.outcome in (Outcome.NOTRUN, Outcome.LOST, Outcome.ENDED):
                workload.outcome, workload.reason = Outcome.INFRA, self.disk_full

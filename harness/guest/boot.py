# SPDX-License-Identifier: GPL-2.0-or-later
"""One boot of a cell: from QEMU's start to its end, with as many workloads as it lasts for."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from harness.errors import CannotJudge
from harness.guest import process, watchdog
from harness.guest.accel import Accel
from harness.guest.command import command
from harness.guest.console import Console
from harness.guest.ending import Ending
from harness.guest.halt import Halt
from harness.guest.monitor import Monitor
from harness.guest.plan import CellPlan, Load, Waiting
from harness.guest.port import Port
from harness.guest.ram import node_sizes
from harness.guest.record import BootRecord, Outcome, Stop, WorkloadRecord, numbered
from harness.guest.turn import Dirty, Ended, Turn, blame
from harness.journal.reader import Record

log = logging.getLogger("harness.guest")

TICK = 0.2  # seconds between looks at the clock
MOST_DMESG = 16 << 20  # bytes

Save = Callable[[], None]
OnRecord = Callable[[int, Record], None]


class Boot:
    """One QEMU process and its evidence.  ``record`` says what became of it; ``run`` never raises for the guest's sake."""

    def __init__(
        self,
        plan: CellPlan,
        accel: Accel,
        number: int,
        save: Save,
        on_record: OnRecord | None = None,
        halt: Halt | None = None,
    ) -> None:
        self.plan = plan
        self.accel = accel
        self.record = BootRecord(number, accel=accel.name)
        self.record.console = numbered("console.log", number)
        self.record.journal = numbered("journal.jsonl", number)
        self._save = save
        self._on_record = on_record
        self._halt = halt or Halt()
        self._changed = asyncio.Event()
        self._seen = watchdog.Seen(0.0, 0.0)
        self._turn: Turn | None = None
        self._taint: object = None
        self._spoken = 0  # bytes on the console at the last record

    async def run(self, loads: Sequence[tuple[Load, WorkloadRecord]], hello_only: bool = False) -> None:
        """Boot and give the loads their turns, in order, until one of them ends the boot."""
        begin = time.monotonic()
        self.record.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        try:
            await self._run(begin, loads, hello_only)
        except Ended as e:
            self._end(e)
        except OSError as e:  # the host's disk, descriptors, processes
            self._end(Ended(Stop.INFRA, f"the host: {e.strerror or e}"))
        except asyncio.CancelledError:
            self._end(Ended(Stop.CANCELLED, "interrupted"))
            raise
        finally:
            self.record.seconds = round(time.monotonic() - begin, 3)

    def _end(self, end: Ended) -> None:
        self.record.stop, self.record.reason = end.stop, end.reason
        if self._turn is not None:
            self._turn.cut(end, time.monotonic())

    async def _run(self, begin: float, loads: Sequence[tuple[Load, WorkloadRecord]], hello_only: bool) -> None:
        plan = self.plan
        suffix = "" if self.record.number == 1 else f".{self.record.number}"
        build = partial(
            command, plan.target, self.accel, plan.kernel.absolute(), plan.initramfs.absolute(),
            memory=plan.memory_mib, append=plan.append, smp=plan.smp,
        )  # fmt: skip
        directory = plan.directory.absolute()
        self._qemu = await process.start(
            build, directory, console_log=directory / self.record.console, suffix=suffix, swap_mib=plan.swap_mib,
            shared=node_sizes(plan.memory_mib) if plan.shared else (),
        )  # fmt: skip
        self._console = Console(self._qemu.console, plan.directory / self.record.console, self._changed)
        self._monitor = Monitor(self._changed)
        self._port = Port(plan.directory / self.record.journal, self._changed)
        self._ending = Ending(plan, self.record, self._qemu, self._console, self._monitor, self._port)
        self._seen = watchdog.Seen(started=begin, console=begin)
        tasks: list[asyncio.Task[None]] = []
        try:
            self._port.connect(self._qemu.journal)
            self._readers = [asyncio.create_task(w) for w in (self._console.watch(), self._port.watch())]
            tasks += self._readers
            tasks.append(asyncio.create_task(self._until_gone()))
            tasks.append(asyncio.create_task(self._monitor.run(self._qemu.qmp)))
            await self._hello(begin)
            await self._show_to_witness()
            if not hello_only:
                await self._workloads(loads)
            self.record.stop = Stop.POWEROFF
        finally:
            await self._stop(tasks)

    async def _until_gone(self) -> None:
        await self._qemu.process.wait()
        self._changed.set()

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        """Whatever happens, QEMU is gone afterwards."""
        try:
            if self._qemu.status is None:
                await self._monitor.quit()
                await self._qemu.wait(1.0)
        finally:
            await self._qemu.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._monitor.close()
            if self.plan.witness is not None:
                self.plan.witness.detach()
            self._port.close()
            self._console.close()
            self._qemu.close()
            self.record.exit_status = self._qemu.status
            self.record.shutdown = self._monitor.shutdown

    # Waiting

    async def _next(self) -> Record:
        """The next record of the journal.  Raises Ended when there will be none, or none is wanted."""
        while True:
            if self._halt.reason:
                raise Ended(Stop.HALTED, self._halt.reason)
            if self._port.records:
                record = self._port.records.popleft()
                self._seen = replace(self._seen, record=time.monotonic())
                self._spoken = self._console.total
                if self._on_record is not None:
                    self._on_record(self.record.number, record)
                return record
            await self._check()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), TICK)
            self._changed.clear()

    async def _check(self) -> None:
        if self._qemu.status is not None:
            await asyncio.wait(self._readers, timeout=5)
            if not self._port.records:
                raise self._ending.gone()
            return
        if self._monitor.trouble or self._port.failed:
            raise Ended(Stop.INFRA, self._monitor.trouble or self._port.failed)
        if self._port.fault:
            raise Ended(Stop.LOST, f"the journal is inconsistent: {self._port.fault}")
        now = time.monotonic()
        if self._console.complaint and now - self._console.complained > self.plan.limits.grace * self.record.scale:
            raise Ended(Stop.CRASH, self._console.complaint)
        self._seen = replace(self._seen, console=self._console.last)
        if overdue := watchdog.check(now, self._seen, self.record.scale, self.plan.limits):
            if overdue.bark is watchdog.Bark.POWEROFF:  # all workloads had their turn: nobody's fault
                raise Ended(Stop.POWEROFF, str(overdue))
            raise await self._ending.standstill(str(overdue), self._spoken)

    # The boot's course

    async def _hello(self, begin: float) -> None:
        record = await self._next()
        if record["kind"] != "hello":
            raise Ended(Stop.NO_TOKEN, f"the journal begins with {record['kind']}, not with hello")
        now = time.monotonic()
        boot_seconds = now - begin
        self.record.hello = True
        self.record.boot_seconds = round(boot_seconds, 3)
        self.record.scale = round(watchdog.slowness(boot_seconds, self.plan.target.boot_seconds), 2)
        self.record.console_from = self._console.arm()
        self._taint = record.get("taint")
        self._seen = replace(self._seen, hello=now)
        log.info("boot %d: hello after %.2f s (%s)", self.record.number, boot_seconds, self.accel.name)
        self._save()

    async def _workloads(self, loads: Sequence[tuple[Load, WorkloadRecord]]) -> None:
        before: WorkloadRecord | None = None
        for load, workload in loads:
            now = time.monotonic()
            self._seen = replace(self._seen, workload=now)
            self._turn = Turn(load, workload, self.record.number, now)
            self._save()
            self._port.send(load.command(self.plan.limits.factor * self.record.scale))
            try:
                await self._one(self._turn)
            except Dirty as e:
                await self._console.settle()
                if before is None and self._console.complaint:  # of what init does after hello
                    raise Ended(Stop.CRASH, self._console.complaint) from None
                self._turn = None
                raise blame(e, before, workload, self.record.number) from None
            await self._console.settle()
            if self._console.complaint:
                await self._aftermath()
                raise Ended(Stop.CRASH, self._console.complaint)
            self._turn.done(time.monotonic())
            self._turn = None
            self._save()
            before = workload
        await self._poweroff(before)

    async def _one(self, turn: Turn) -> None:
        """From the command to init's word that the workload's process is gone, whatever became of it."""
        while True:
            record = await self._next()
            if record.get("boot"):
                self._boot_record(record)
                if record["kind"] == "done" and record.get("workload") == turn.load.name:
                    return
                continue
            turn.take(record, len(self._port.reader.segments) - 1)
            if record["kind"] in turn.load.waits_after:
                await self._waited_for(record)
            elif record["kind"] == "stuck":
                raise await self._ending.standstill(f"{record.get('actor')} is stuck", self._spoken, record)

    async def _show_to_witness(self) -> None:
        if self.plan.witness is None:
            return
        mtree = await self._monitor.human("info mtree -f")
        try:
            self.plan.witness.attach(self.record.number, self._qemu.ram, mtree)
        except CannotJudge as e:
            raise Ended(Stop.INFRA, str(e)) from e

    async def _waited_for(self, record: Record) -> None:
        """The guest goes on after it was looked at.  The time that this takes is nobody's."""
        begin = time.monotonic()
        witness = self.plan.witness
        if self.plan.shared:
            try:
                if witness is not None:
                    await self._monitor.pause()
                    await asyncio.to_thread(witness.look, len(self._port.reader.segments) - 1, record["seq"])
                if self.plan.on_wait is not None:
                    qemu = self._qemu
                    await self.plan.on_wait(Waiting(self.record.number, record, qemu.pid, qemu.ram, self._monitor))
            finally:
                await self._monitor.go_on()
            self._seen = self._seen.later(time.monotonic() - begin)
            if self._halt.reason:  # before it is answered: what it was looked at for is still there
                raise Ended(Stop.HALTED, self._halt.reason)
        self._port.send(f"ack {record['seq']}\n")

    def _boot_record(self, record: Record) -> None:
        if record["kind"] == "dmesg":
            path = self.plan.directory / "dmesg.txt"
            with path.open("a", encoding="utf-8", errors="replace") as f:
                if f.tell() < MOST_DMESG:
                    f.write(str(record.get("text", "")))
        elif record["kind"] == "reset" and (record.get("ok") is not True or record.get("taint") != self._taint):
            raise Dirty(record, self._taint)

    async def _aftermath(self) -> None:
        """Let a complaint be printed to its end."""
        limit = self._console.complained + self.plan.limits.grace * self.record.scale
        while time.monotonic() < limit and self._qemu.status is None:
            # After a WARN the guest goes on; after anything else it may still want to panic (powerpc waits a second).
            if "WARNING:" in self._console.complaint and time.monotonic() - self._console.last > 0.3 * self.record.scale:
                return
            await asyncio.sleep(0.05)

    async def _poweroff(self, before: WorkloadRecord | None) -> None:
        self._seen = replace(self._seen, poweroff=time.monotonic())
        self._port.send("poweroff\n")
        try:
            while True:
                record = await self._next()
                if record["kind"] == "dmesg":
                    self._boot_record(record)
        except Ended as e:
            if e.stop is Stop.LOST and self._monitor.shutdown.startswith("guest") and not self._port.fault:
                return
            if e.stop is Stop.CRASH and before is not None:
                before.outcome, before.reason = Outcome.CRASHED, f"after its end: {e.reason}"
            raise

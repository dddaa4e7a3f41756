# SPDX-License-Identifier: GPL-2.0-or-later
"""How the end of a boot is explained: what QEMU's end means, and whose fault a standstill is."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from dataclasses import dataclass

from harness.guest import evidence, hang
from harness.guest.console import Console
from harness.guest.monitor import Monitor
from harness.guest.plan import CellPlan
from harness.guest.port import Port
from harness.guest.process import Qemu
from harness.guest.record import BootRecord, Stop, numbered
from harness.guest.turn import Ended
from harness.journal.reader import Record

log = logging.getLogger("harness.guest")

MOST_PRINTED = 1 << 20  # bytes of the console that are searched for the kernel's own word
FLOOD = 1 << 20  # bytes on the console without a record in the journal


@dataclass(frozen=True)
class Ending:
    """All that one boot has to do with, looked at when it is over or stands still."""

    plan: CellPlan
    record: BootRecord
    qemu: Qemu
    console: Console
    monitor: Monitor
    port: Port

    def gone(self) -> Ended:
        """What QEMU's end means."""
        status, why = self.qemu.status or 0, self.monitor.shutdown
        if self.console.complaint:
            return Ended(Stop.CRASH, self.console.complaint)
        if self.monitor.trouble or self.port.failed:
            return Ended(Stop.INFRA, self.monitor.trouble or self.port.failed)
        if status < 0:
            return Ended(Stop.INFRA, f"QEMU was killed by {signal.Signals(-status).name}{self._last_words()}")
        if status > 0:
            return Ended(Stop.INFRA, f"QEMU failed with status {status}{self._last_words()}")
        if why.startswith("host"):
            return Ended(Stop.INFRA, f"QEMU was told to end ({why})")
        if not self.record.hello:
            return Ended(Stop.NO_TOKEN, f"the guest went down before init said hello{self._last_milestone()}")
        if self.port.fault:
            return Ended(Stop.LOST, f"the journal is inconsistent: {self.port.fault}")
        return Ended(Stop.LOST, f"the guest went down by itself ({why or 'no reason given'})")

    def _last_words(self) -> str:
        name = numbered("qemu.stderr", self.record.number)
        with contextlib.suppress(OSError):
            lines = (self.plan.directory / name).read_text(encoding="utf-8", errors="replace").splitlines()
            return f": {lines[-1][:300]}" if lines else ""
        return ""

    def _last_milestone(self) -> str:
        return f": {self.console.milestones[-1]}" if self.console.milestones else ": nothing from Linux on the console"

    async def standstill(self, why: str, spoken: int, stuck: Record | None = None) -> Ended:
        """Evidence first, then the judgement whose fault it is.

        ``spoken`` are the bytes on the console at the last record, ``stuck`` the journal's record of that kind.
        """
        await self.console.settle()
        if self.console.complaint:
            return Ended(Stop.CRASH, self.console.complaint)
        log.info("boot %d: %s: gathering evidence", self.record.number, why)
        self.record.console_to = self.console.disarm()
        printed = self._printed()
        flood = self.console.total - spoken > FLOOD
        found = await evidence.gather(self.plan.target, self.console, self.monitor, self.record.scale, flood)
        found.write(self.plan.directory / numbered("evidence.txt", self.record.number), why)
        if self.qemu.status is not None and not found.nmi:  # an NMI may make it panic
            self.record.console_to = None
            return self.gone()
        if self.monitor.trouble:
            return Ended(Stop.INFRA, self.monitor.trouble)
        if not found.status:
            return Ended(Stop.INFRA, f"{why}; QEMU does not answer on its monitor")
        if not self.record.hello:
            return Ended(Stop.NO_TOKEN, why + self._last_milestone())
        judgement = hang.judge(found, stuck, printed, flood)
        return Ended(Stop.HANG if judgement.hang else Stop.LOST, f"{why}; {judgement.reason}")

    def _printed(self) -> str:
        """The console since hello, its last part if it is long."""
        with contextlib.suppress(OSError), (self.plan.directory / self.record.console).open("rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(self.record.console_from, size - MOST_PRINTED))
            return f.read(MOST_PRINTED).decode("utf-8", "replace")
        return ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's serial console: watched for milestones and complaints, and kept from filling the disk.

QEMU writes the log; what is read here is the same bytes over a socket.  All of it is untrusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import socket
import time
from pathlib import Path

import pexpect
from pexpect.socket_pexpect import SocketSpawn

from harness.guest import oops

# Whole lines as far as they have come, or much without any.  Anchored: a long line must not be searched from each byte.
_BLOCK = re.compile(rb"\A(?:.*\n|.{65536})", re.DOTALL)
_STAMP = re.compile(rb"(?m)^\[ *\d+\.\d{6}\]")
MILESTONES = re.compile(rb"Linux version \S+|Run /\S+ as init process|Kernel panic - not syncing[^\r\n]*")

HEAD = 8 << 20  # bytes of a flooded log that stay from its beginning, and the most that grow behind them
TAIL = 64 << 10  # bytes that stay from before each cut, so that a complaint cut in the middle stays whole


class Console:
    """Reads one guest's console until it ends.  ``watch`` is to run as a task all the time.

    ``total`` bytes have come; ``last`` (time.monotonic) is when; ``complaint`` is the line that begins the first
    fatal report after ``arm`` was called, and ``complained`` when it came.
    """

    def __init__(self, wire: socket.socket, log: Path, changed: asyncio.Event) -> None:
        self.total = 0
        self.last = time.monotonic()
        self.milestones: list[str] = []
        self.complaint = ""
        self.complained = 0.0
        self._changed = changed
        self._armed = False
        self._stamped = False
        self._capture: bytearray | None = None
        self._log = log
        self._cut_at = 2 * HEAD
        self._wire = wire
        self._spawn = SocketSpawn(wire, timeout=None)
        self._spawn.logfile_read = self

    # The two methods that pexpect wants from a logfile: it gets every byte at once.

    def write(self, data: bytes) -> None:
        """Bytes have come."""
        self.total += len(data)
        self.last = time.monotonic()
        if self._capture is not None and len(self._capture) < HEAD:
            self._capture += data
        if self.total >= self._cut_at:
            self._cut()

    def flush(self) -> None:
        """Nothing to do."""

    async def watch(self) -> None:
        """Read to the end of the console."""
        while True:
            try:
                index = await self._spawn.expect([_BLOCK, pexpect.EOF], timeout=None, async_=True)
            except OSError:  # QEMU went without reading what was sent to it
                return
            block = self._spawn.before if index == 1 else self._spawn.after
            self._look(block if isinstance(block, bytes) else b"")
            if index == 1:
                return

    def arm(self) -> int:
        """From now on complaints count.  Returns the offset in the log file where that is."""
        self._armed = True
        return self.offset

    def disarm(self) -> int:
        """What comes from now on was asked for: no complaint counts.  Returns the offset in the log file."""
        self._armed = False
        return self.offset

    @property
    def offset(self) -> int:
        """Where in the log file the console stands, whatever was cut out of it."""
        with contextlib.suppress(OSError):
            return min(self.total, self._log.stat().st_size)
        return self.total

    def _look(self, block: bytes) -> None:
        for found in MILESTONES.findall(block):
            if len(self.milestones) < 100:
                self.milestones.append(found.decode("ascii", "replace"))
        self._stamped = self._stamped or _STAMP.search(block) is not None
        pattern = oops.FATAL_STAMPED if self._stamped else oops.FATAL_PLAIN
        if self._armed and not self.complaint and (start := pattern.search(block)):
            line = block[start.start() :].partition(b"\n")[0]
            self.complaint = oops.unstamped(line.decode("utf-8", "replace"))[:300]
            self.complained = time.monotonic()
            self._changed.set()

    async def settle(self) -> None:
        """Take in what the guest had printed before now."""
        for _ in range(1000):
            if not select.select([self._wire], [], [], 0)[0]:
                break
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def collect(self, quiet: float, most: float) -> str:
        """What is printed from now on until nothing has come for ``quiet`` seconds, ``most`` seconds at most."""
        self._capture = bytearray()
        begin = time.monotonic()
        try:
            while (now := time.monotonic()) - begin < most and now - max(self.last, begin) < quiet:
                await asyncio.sleep(min(0.05, quiet))
            return self._capture.decode("utf-8", "replace")
        finally:
            self._capture = None

    def send(self, data: bytes) -> None:
        """Keys, as from a terminal."""
        with contextlib.suppress(OSError):
            self._spawn.send(data)

    def close(self) -> None:
        """The wire is not needed any more."""
        with contextlib.suppress(OSError):
            self._wire.close()

    def _cut(self) -> None:
        """Shorten the log: QEMU has it open for appending, and goes on behind the cut."""
        with contextlib.suppress(OSError), self._log.open("r+b") as f:
            size = f.seek(0, os.SEEK_END)
            if size <= HEAD + TAIL:
                return
            f.seek(-TAIL, os.SEEK_END)
            tail = f.read()
            f.truncate(HEAD)
            f.seek(HEAD)
            f.write(b"\n[ksm-harness: the guest floods its console, %d bytes are left out here]\n" % (size - HEAD - TAIL))
            f.write(tail)
        self._cut_at = self.total + HEAD

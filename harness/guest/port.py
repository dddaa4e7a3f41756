# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of the journal: bytes to disk as they come, then to records; commands the other way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from pathlib import Path
from typing import IO

from harness.journal.reader import Reader, Record

MOST = 64 << 20  # bytes of one boot's journal; a longer one is no account of anything
# Records come one by one, faster than each is worth waking for: those of so many seconds are taken together.  A guest that
# has nothing to do until it is answered waits so much longer.
PAUSE = 0.002


class Port:
    """One boot's journal.  ``records`` are those not yet taken; ``fault`` is why no more are to be believed.

    ``failed`` is the host's fault: the journal could not be written.
    """

    def __init__(self, path: Path, changed: asyncio.Event) -> None:
        self.reader = Reader()
        self.records: deque[Record] = deque()
        self.fault = ""
        self.failed = ""
        self._changed = changed
        self._path = path
        self._size = 0
        self._wire: socket.socket | None = None

    def connect(self, wire: socket.socket) -> None:
        """Take over the wire."""
        wire.setblocking(False)
        self._wire = wire

    async def watch(self) -> None:
        """Read to the end of the journal."""
        try:
            with self._path.open("wb", buffering=0) as out:
                while data := await self._read():
                    if not self._keep(out, data):
                        break
                    self.records.extend(self.reader.feed(data))
                    self.fault = self.fault or self.reader.fault
                    self._changed.set()
                    await asyncio.sleep(PAUSE)
        except OSError as e:
            self.failed = f"cannot write {self._path.name}: {e.strerror}"
        self._changed.set()
        while await self._read():  # the guest must not block on a full port
            pass

    async def _read(self) -> bytes:
        assert self._wire is not None
        try:
            return await asyncio.get_running_loop().sock_recv(self._wire, 1 << 16)
        except OSError:  # QEMU went without reading what was sent to it
            return b""

    def _keep(self, out: IO[bytes], data: bytes) -> bool:
        self._size += len(data)
        if self._size > MOST:
            self.fault = f"the journal is longer than {MOST >> 20} MiB"
            return False
        if out.write(data) != len(data):
            self.failed = f"cannot write {self._path.name}: No space left on device"
            return False
        return True

    def send(self, line: str) -> None:
        """A command or an acknowledgement for the guest."""
        if self._wire is not None:
            with contextlib.suppress(OSError):  # also of a guest that has let hundreds of lines lie
                self._wire.send(line.encode("ascii", "replace"))

    def close(self) -> None:
        """The wire is not needed any more."""
        if self._wire is not None:
            self._wire.close()

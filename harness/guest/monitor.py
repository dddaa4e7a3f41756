# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP: what QEMU says happened, and what can be asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any

from qemu.qmp import QMPClient, QMPError
from qemu.qmp.events import EventListener
from qemu.qmp.message import Message

log = logging.getLogger("harness.guest")

# A client whose QEMU has gone is an everyday thing here; what matters is said by the cell.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

PATIENCE = 5.0  # seconds for an answer
CONNECT = 60.0  # seconds for QEMU's greeting: it may have to load a large image first


class _Client(QMPClient):
    """Writes no log of all messages: QMPClient makes indented JSON of each for that, a seventh of our time with a witness."""

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


class Monitor:
    """The QMP connection of one guest.  No method raises because QEMU has gone or does not answer."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._client = _Client("guest")
        self.shutdown = ""  # reason in the SHUTDOWN event
        self.trouble = ""  # the host's fault: the disk's image could not be written
        self._changed = changed
        self._listener = EventListener(names=["SHUTDOWN", "RESET", "GUEST_PANICKED", "BLOCK_IO_ERROR", "STOP"])

    async def run(self, wire: socket.socket) -> None:
        """Connect, and take events as they come, for ever."""
        self._client.register_listener(self._listener)
        try:
            await asyncio.wait_for(self._client.connect(wire), CONNECT)
        except (QMPError, OSError, EOFError, TimeoutError) as e:
            log.debug("QMP: no connection: %s", e or type(e).__name__)
            return
        while True:
            self._take(await self._listener.get())

    def _take(self, event: Any) -> None:
        name, data = event["event"], event.get("data") or {}
        log.debug("QMP: %s %s", name, data)
        if name == "SHUTDOWN":
            self.shutdown = str(data.get("reason", "?"))
        elif name == "BLOCK_IO_ERROR":
            why = "the host's disk is full" if data.get("nospace") else str(data.get("reason", "unknown error"))
            self.trouble = f"QEMU could not {data.get('operation', 'use')} the swap disk's image: {why}"
        self._changed.set()

    async def ask(self, command: str, **arguments: object) -> Any:
        """A command's answer, None if there is none."""
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments or None), PATIENCE)
        except (QMPError, OSError, EOFError, TimeoutError) as e:
            log.debug("QMP: %s: %s", command, e or type(e).__name__)
            return None

    async def status(self) -> str:
        """``running``, ``io-error``, ``paused``, …; "" if QEMU does not answer."""
        answer = await self.ask("query-status")
        return str(answer["status"]) if isinstance(answer, dict) and "status" in answer else ""

    async def human(self, line: str) -> str:
        """What the human monitor says to a command."""
        answer = await self.ask("human-monitor-command", **{"command-line": line})
        return str(answer).replace("\r\n", "\n") if answer is not None else ""

    async def pause(self) -> None:
        """Stop its CPUs: nothing in its memory changes any more."""
        await self.ask("stop")

    async def go_on(self) -> None:
        """Let them run again."""
        await self.ask("cont")

    async def nmi(self) -> None:
        """Inject an NMI (x86: needs unknown_nmi_panic to show more than a line; pseries: a system reset exception)."""
        await self.ask("inject-nmi")

    async def line_break(self) -> None:
        """A break on the serial line."""
        await self.ask("chardev-send-break", id="con")

    async def quit(self) -> None:
        """Ask QEMU to end."""
        await self.ask("quit")

    async def close(self) -> None:
        """The connection is not needed any more."""
        with contextlib.suppress(Exception):  # whatever the connection died of has been seen elsewhere
            await asyncio.wait_for(self._client.disconnect(), PATIENCE)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that stays paused at its first finding, for somebody to look at with a debugger."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from harness.guest import Waiting
from harness.guest.ram import ranges
from harness.store import write_atomically
from harness.targets import Target
from harness.witness import attach_script

log = logging.getLogger("harness.hold")

SCRIPT = "attach.py"
SOCKET = "gdb.sock"

Say = Callable[[str], None]


class Hold:
    """Of one run: guests are held one at a time, as there is one keyboard."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._one = asyncio.Lock()

    async def hold(self, why: str, waiting: Waiting, target: Target, directory: Path, vmlinux: Path | None) -> None:
        """Pause the guest, tell how to get at it, and come back when Enter was pressed or stdin has ended."""
        async with self._one:
            await waiting.monitor.pause()
            directory = directory.absolute()
            mtree = await waiting.monitor.human("info mtree -f")
            await waiting.monitor.human(f"gdbserver unix:{SOCKET},server=on,wait=off")  # QEMU works in the directory
            self._say(f"{target.name}: held: {why}; the guest is paused")
            if vmlinux is not None:
                text = attach_script(sys.executable, vmlinux, target, waiting.qemu, waiting.ram, ranges(mtree))
                write_atomically(directory / SCRIPT, text)
                self._say(f"{target.name}: drgn: {shlex.join([sys.executable, str(directory / SCRIPT)])}")
            for command in _gdb(target, directory, vmlinux):
                self._say(f"{target.name}: gdb: {command}")
            self._say(f"{target.name}: Enter lets it go on, Ctrl-C ends the run")
            try:
                await _enter()
            finally:
                await waiting.monitor.human("gdbserver none")
                for name in (SCRIPT, SOCKET):
                    with contextlib.suppress(OSError):
                        (directory / name).unlink()
            self._say(f"{target.name}: goes on")


def _gdb(target: Target, directory: Path, vmlinux: Path | None) -> list[str]:
    program = "gdb" if platform.machine() == target.machine_arch else "gdb-multiarch"
    words = [program, "-ex", f"target remote {SOCKET}", *([str(vmlinux)] if vmlinux else [])]
    return [f"cd {shlex.quote(str(directory))} && {shlex.join(words)}"]


async def _enter() -> None:
    """A line on stdin, or its end."""
    loop, pressed = asyncio.get_running_loop(), asyncio.Event()
    try:
        fd = sys.stdin.fileno()
        loop.add_reader(fd, pressed.set)
    except (OSError, ValueError, AttributeError) as e:  # a file, or closed: nobody is there who could press a key
        log.debug("stdin cannot be waited for: %s", e)
        return
    try:
        await pressed.wait()
        sys.stdin.readline()
    finally:
        loop.remove_reader(fd)

# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process: started so that it can neither outlive the harness nor fill the disk, and ended for sure."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HostError
from harness.guest.command import Wires, by_hand, handed_over
from harness.packages import install_command, package_of
from harness.store import write_atomically

log = logging.getLogger("harness.guest")

# No file that QEMU writes may grow beyond this (bytes): the backstop for its log, which has no limit of its own.
# The swap disk must fit.
FILE_LIMIT = 160 << 20
CommandFor = Callable[[Wires], tuple[str, ...]]


def guarded(argv: tuple[str, ...], limit: int = FILE_LIMIT) -> tuple[str, ...]:
    """The command with its guards.

    The kernel kills QEMU when its parent dies, however that dies (setpriv(1), PR_SET_PDEATHSIG; the parent is the
    *thread* that started it).  A QEMU that aborts leaves no core.
    """
    return ("setpriv", "--pdeathsig", "KILL", "prlimit", f"--fsize={limit}", "--core=0", *argv)


def need(program: str) -> str:
    """Where a program is; HostError that names the package if it is not there."""
    if path := shutil.which(program):
        return path
    raise HostError(f"{program} is not installed; mend it with: {install_command([package_of(program)])}")


def qemu_version(program: str) -> str:
    """First line of ``--version``.  HostError if it does not run."""
    path = need(program)
    try:
        out = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as e:
        raise HostError(f"{program} --version failed: {e}") from e
    return out.partition("\n")[0].strip()


def swap_disk(directory: Path, mib: int) -> int:
    """A sparse file without a name, in ``directory``'s file system: its file descriptor.  It goes with QEMU."""
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as e:
        if e.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
        fd, name = tempfile.mkstemp(prefix=".swap.", dir=directory)  # a file system without O_TMPFILE
        Path(name).unlink()
    os.truncate(fd, mib << 20)
    return fd


def ram_files(sizes: Sequence[int]) -> list[int]:
    """A file in memory for each NUMA node, of that many MiB: its file descriptor.  It goes with its last user."""
    fds: list[int] = []
    for node, mib in enumerate(sizes):
        fds.append(os.memfd_create(f"ram{node}", os.MFD_CLOEXEC))
        os.truncate(fds[-1], mib << 20)
    return fds


def _write_command(path: Path, exact: tuple[str, ...], manual: tuple[str, ...], swap_mib: int) -> None:
    write_atomically(
        path,
        "# Exactly what was run; the fd= are socketpairs and a disk that the harness handed over:\n"
        f"{shlex.join(exact)}\n\n"
        "# The same by hand: console on the terminal (Ctrl-A X ends it), journal by socat - UNIX-CONNECT:journal.sock\n"
        f"truncate -s {swap_mib}M swap.img && \\\n{shlex.join(manual)}\n",
    )


@dataclass
class Qemu:
    """A running QEMU and the harness's ends of its three wires."""

    process: asyncio.subprocess.Process
    journal: socket.socket
    console: socket.socket
    qmp: socket.socket
    ram: tuple[int, ...] = ()  # file descriptors of each NUMA node's memory, if it is shared

    @property
    def pid(self) -> int:
        """Of QEMU itself: setpriv and prlimit have become it."""
        return self.process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal, None while it runs."""
        return self.process.returncode

    async def wait(self, seconds: float) -> bool:
        """Give it ``seconds`` to end by itself: whether it did."""
        try:
            await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def stop(self, patience: float = 2.0) -> None:
        """SIGTERM, then SIGKILL.  Afterwards it is gone and reaped, also if this is cancelled."""
        try:
            if self.status is None:
                self._signal(signal.SIGTERM)
                await self.wait(patience)
        finally:
            if self.status is None:
                self._signal(signal.SIGKILL)
                await asyncio.shield(self.process.wait())

    def close(self) -> None:
        """Close the wires that nobody has taken over."""
        for wire in (self.journal, self.console, self.qmp):
            with contextlib.suppress(OSError):
                wire.close()
        while self.ram:
            os.close(self.ram[0])
            self.ram = self.ram[1:]

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


async def start(
    command_for: CommandFor, directory: Path, *, console_log: Path, suffix: str, swap_mib: int, shared: Sequence[int] = ()
) -> Qemu:
    """Start QEMU with its wires.  Must be awaited in the main thread: QEMU dies with the thread that starts it.

    ``shared`` are the MiB of each NUMA node if its memory is to be looked at from here.

    Writes ``qemu.cmd`` and ``qemu.stderr`` (with ``suffix`` before the dot) into ``directory``.
    HostError if a program is missing; OSError if the disk is full.
    """
    for program in ("setpriv", "prlimit", command_for(by_hand())[0]):
        need(program)
    console_log.unlink(missing_ok=True)
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        pairs = [socket.socketpair() for _ in range(3)]
        for mine, its in pairs:
            ours.callback(mine.close)
            theirs.callback(its.close)
        journal, console, qmp = (its.fileno() for _, its in pairs)
        swap = swap_disk(directory, swap_mib)
        theirs.callback(os.close, swap)
        ram = ram_files(shared)
        for fd in ram:
            ours.callback(os.close, fd)
        wires = handed_over(journal=journal, console=console, qmp=qmp, swap=swap, log=console_log, ram=ram)
        argv = guarded(command_for(wires))
        _write_command(directory / f"qemu{suffix}.cmd", argv, command_for(by_hand()), swap_mib)
        log.info("%s", shlex.join(argv))
        stderr = theirs.enter_context((directory / f"qemu{suffix}.stderr").open("wb"))
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=(journal, console, qmp, swap, *ram),
            cwd=directory,
            start_new_session=True,  # Ctrl-C is the harness's
            restore_signals=False,  # CPython ignores SIGXFSZ and QEMU inherits that: beyond the limit a write just fails
        )
        ours.pop_all()
    journal_wire, console_wire, qmp_wire = (mine for mine, _ in pairs)
    return Qemu(process, journal_wire, console_wire, qmp_wire, tuple(ram))

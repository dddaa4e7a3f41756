# SPDX-License-Identifier: GPL-2.0-or-later
"""Console, journal port and process guards, on real sockets, files and processes."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.errors import HostError
from harness.guest import console as console_module
from harness.guest import port as port_module
from harness.guest.console import Console
from harness.guest.port import Port
from harness.guest.process import guarded, need, swap_disk
from harness.journal.reader import seal


class Guest:
    """What QEMU does: writes the console to a file and to a socket."""

    def __init__(self, log: Path, wire: socket.socket) -> None:
        self.log = log.open("ab", buffering=0)
        self.wire = wire
        self.wire.setblocking(False)

    async def say(self, data: bytes) -> None:
        self.log.write(data)
        await asyncio.get_running_loop().sock_sendall(self.wire, data)


@asynccontextmanager
async def watched(tmp_path: Path) -> AsyncIterator[tuple[Console, Guest, asyncio.Task[None]]]:
    ours, theirs = socket.socketpair()
    log = tmp_path / "console.log"
    console = Console(ours, log, asyncio.Event())
    task = asyncio.create_task(console.watch())
    guest = Guest(log, theirs)
    try:
        yield console, guest, task
    finally:
        guest.log.close()
        theirs.close()
        await asyncio.wait_for(task, 5)
        console.close()


async def shortly(condition: object) -> None:
    assert callable(condition)
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not come about")


def test_complaints_count_from_hello_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with watched(tmp_path) as (console, guest, _):
            boot = b"[    0.000000] Linux version 6.1.0\r\n[    0.100000] kernel BUG at early.c:1!\r\n"
            await guest.say(boot)
            await shortly(lambda: console.total == len(boot))
            await console.settle()
            assert console.arm() == len(boot)
            assert console.complaint == ""
            await guest.say(b"Oops: says a program\r\n[    1.000000] Unable to handle ker")
            await guest.say(b"nel paging request at virtual address 1\r\nmore\r\n")
            await shortly(lambda: console.complaint)
            assert console.complaint == "Unable to handle kernel paging request at virtual address 1"
            assert console.milestones == ["Linux version 6.1.0"]

    asyncio.run(scene())


def test_a_last_line_without_its_end(tmp_path: Path) -> None:
    async def scene() -> None:
        async with watched(tmp_path) as (console, guest, task):
            console.arm()
            await guest.say(b"[    1.000000] x\r\n[    2.000000] Kernel panic - not syncing: y")
            guest.wire.close()
            await asyncio.wait_for(task, 5)
            assert console.complaint == "Kernel panic - not syncing: y"

    asyncio.run(scene())


def test_a_flood_is_cut_and_a_crash_in_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "HEAD", 1 << 20)

    async def scene() -> int:
        async with watched(tmp_path) as (console, guest, _):
            await guest.say(b"[    0.000000] Linux version 6\r\n")
            await console.settle()
            console.arm()
            chunk = b"".join(b"flood %06d %s\r\n" % (n, b"x" * 80) for n in range(1000)) + b"z" * 100000 + b"\r\n"
            sent = 0
            for _ in range(60):
                await guest.say(chunk)
                sent += len(chunk)
            assert console.complaint == ""
            await guest.say(b"[    9.000000] BUG: Bad page state in process P1  pfn:1\r\n")
            await shortly(lambda: console.complaint)
            return sent

    begin = time.process_time()
    sent = asyncio.run(scene())
    log = (tmp_path / "console.log").read_bytes()
    assert sent > 10 << 20
    assert len(log) < 4 << 20
    assert log.startswith(b"[    0.000000] Linux version")
    assert b"[ksm-harness: the guest floods its console, " in log
    assert b"BUG: Bad page state" in log
    assert time.process_time() - begin < 10


def test_collect(tmp_path: Path) -> None:
    async def scene() -> None:
        async with watched(tmp_path) as (console, guest, _):
            await guest.say(b"before\r\n")
            await console.settle()
            collecting = asyncio.create_task(console.collect(quiet=0.2, most=2))
            await asyncio.sleep(0.01)
            await guest.say(b"answer\r\n")
            assert await collecting == "answer\r\n"

    asyncio.run(scene())


def lines(count: int) -> bytes:
    out, crc = b"", 0
    for seq in range(count):
        kind = {"kind": "hello", "v": 1} if seq == 0 else {"kind": "note"}
        line, crc = seal({"seq": seq, "t": 0, "p": "", **kind, "boot": True}, crc)
        out += line
    return out


def feed(path: Path, data: bytes) -> Port:
    async def scene() -> Port:
        ours, theirs = socket.socketpair()
        port = Port(path, asyncio.Event())
        port.connect(ours)
        task = asyncio.create_task(port.watch())
        theirs.setblocking(False)
        for at in range(0, len(data), 1000):
            await asyncio.get_running_loop().sock_sendall(theirs, data[at : at + 1000])
        port.send("ack 7\n")
        await asyncio.sleep(0)
        assert theirs.recv(100) == b"ack 7\n"
        theirs.close()
        await asyncio.wait_for(task, 5)
        port.close()
        return port

    return asyncio.run(scene())


def test_journal_is_kept_byte_for_byte(tmp_path: Path) -> None:
    data = lines(50) + b'{"half'
    port = feed(tmp_path / "j", data)
    assert (tmp_path / "j").read_bytes() == data
    assert (len(port.records), port.fault, port.failed) == (50, "", "")


def test_journal_with_garbage(tmp_path: Path) -> None:
    data = lines(3) + b"\xff\0garbage\n" + b"more\n" * 5000
    port = feed(tmp_path / "j", data)
    assert (tmp_path / "j").read_bytes() == data
    assert len(port.records) == 3
    assert port.fault.startswith("line 4:")


def test_journal_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "MOST", 5000)
    port = feed(tmp_path / "j", lines(200))
    assert "longer than" in port.fault
    assert (tmp_path / "j").stat().st_size <= 5000


def test_disk_full() -> None:
    port = feed(Path("/dev/full"), lines(20))
    assert port.failed == "cannot write full: No space left on device"


def test_a_missing_program_is_named() -> None:
    with pytest.raises(HostError, match=r"qemu-system-none is not installed; mend it with: .*apt-get install"):
        need("qemu-system-none")


def test_swap_disk_has_no_name_and_takes_no_room(tmp_path: Path) -> None:
    fd = swap_disk(tmp_path, 128)
    try:
        assert os.fstat(fd).st_size == 128 << 20
        assert os.fstat(fd).st_blocks == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(fd)


def test_beyond_the_limit_a_write_fails_and_the_process_lives(tmp_path: Path) -> None:
    argv = guarded(("sh", "-c", "cat /dev/zero > log; echo alive"), limit=4096)
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, restore_signals=False, timeout=20, check=False)
    assert done.stdout == "alive\n"
    assert (tmp_path / "log").stat().st_size == 4096


def test_it_dies_with_its_parent() -> None:
    child = shlex.join(guarded(("sleep", "60")))
    script = f"import subprocess, time; p = subprocess.Popen({child!r}.split()); print(p.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    for _ in range(100):  # until setpriv and prlimit have become sleep
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == "sleep\n":
            break
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text(encoding="utf-8").split()[2] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("it outlived its parent")

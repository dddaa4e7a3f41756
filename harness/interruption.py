# SPDX-License-Identifier: GPL-2.0-or-later
"""Ending downloads and builds that run in other threads: nothing else does, as a signal reaches the main thread only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

from harness.errors import HostError
from harness.store import Store

POLL = 0.05  # seconds between looks

_works: dict[int, threading.Event] = {}  # by thread; set: the work is to end


class Interrupted(HostError):
    """The work was told to end."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What this thread does in the block is work that :func:`interrupt` ends."""
    thread = threading.get_ident()
    if thread in _works:
        yield
        return
    _works[thread] = threading.Event()
    try:
        yield
    finally:
        del _works[thread]


def check() -> None:
    """Raise Interrupted in work that is to end; called wherever it may wait or take long."""
    event = _works.get(threading.get_ident())
    if event is not None and event.is_set():
        raise Interrupted("interrupted")


def interrupt() -> None:
    """End the downloads and builds that are going on in this process, and return at once.

    Each working thread soon ends its program with all that this started (SIGTERM, after five seconds SIGKILL), lets go
    of its locks and raises Interrupted.  Work that begins later is not concerned.
    """
    for event in list(_works.values()):
        event.set()


def end(process: subprocess.Popen[bytes]) -> bool:
    """End the leader of a session and all it started; whether SIGTERM was enough."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return number is signal.SIGTERM
    return False


@contextlib.contextmanager
def lock(store: Store, name: str) -> Iterator[int]:
    """As Store.try_lock, but waiting until it is free; the waiting can be interrupted."""
    while True:
        check()
        with store.try_lock(name) as fd:
            if fd is not None:
                yield fd
                return
        time.sleep(POLL)

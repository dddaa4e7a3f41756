# SPDX-License-Identifier: GPL-2.0-or-later
"""Ending the builds that run in other threads: nothing else does, as a signal reaches the main thread only."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from harness.errors import HostError
from harness.store import Store

POLL = 0.05  # seconds between looks

_builds: dict[int, threading.Event] = {}  # by thread; set: the build is to end


class Interrupted(HostError):
    """The build was told to end."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What this thread does in the block is a build that :func:`interrupt` ends."""
    _builds[threading.get_ident()] = threading.Event()
    try:
        yield
    finally:
        del _builds[threading.get_ident()]


def check() -> None:
    """Raise Interrupted in a build that is to end; called wherever a build may wait or take long."""
    event = _builds.get(threading.get_ident())
    if event is not None and event.is_set():
        raise Interrupted("the kernel build was interrupted")


def interrupt() -> None:
    """End the builds that are going on in this process, and return at once.

    Each building thread soon ends its make with all that this started (SIGTERM, after five seconds SIGKILL), lets go
    of its locks and raises Interrupted.  Builds that begin later are not concerned.
    """
    for event in list(_builds.values()):
        event.set()


@contextlib.contextmanager
def lock(store: Store, name: str) -> Iterator[int]:
    """As Store.lock, but the waiting can be interrupted."""
    while True:
        check()
        with store.try_lock(name) as fd:
            if fd is not None:
                yield fd
                return
        time.sleep(POLL)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that lie in pipes (vmsplice): each has a reference more, until the pipe is drained or its last holder gone."""

from __future__ import annotations

from collections.abc import Iterable

from harness.oracle.address_space import Mm
from harness.oracle.memory import Memory, Page


class _Pipe:
    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.holders: set[Mm] = set()


class Pins:
    """Each process has a pipe from its first pin on; forks share it, exec closes it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._pipes: dict[Mm, _Pipe] = {}

    def add(self, mm: Mm, pages: Iterable[Page]) -> None:
        """Pin these."""
        pipe = self._pipes.setdefault(mm, _Pipe())
        pipe.holders.add(mm)
        for page in pages:
            page.extra_refs += 1
            page.referenced = None  # get_user_pages_fast sets it, and a second mark activates the page instead
            pipe.pages.append(page)

    def drain(self, mm: Mm) -> None:
        """Read all that is in the pipe."""
        pipe = self._pipes.get(mm)
        while pipe is not None and pipe.pages:
            self._memory.unpin(pipe.pages.pop())

    def share(self, child: Mm, parent: Mm) -> None:
        """fork."""
        if pipe := self._pipes.get(parent):
            self._pipes[child] = pipe
            pipe.holders.add(child)

    def close(self, mm: Mm) -> None:
        """exit or exec."""
        if pipe := self._pipes.get(mm):
            pipe.holders.discard(mm)
            if not pipe.holders:
                self.drain(mm)
            del self._pipes[mm]

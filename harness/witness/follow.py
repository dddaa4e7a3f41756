# SPDX-License-Identifier: GPL-2.0-or-later
"""Following the kernel's lists and trees through memory that may hold anything.

Whatever cannot be followed becomes a fault, in words; nothing raises but TooMuch, and nothing goes on for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.witness.layout import Layout, Shape
from harness.witness.memory import Memory

MOST_OBJECTS = 1 << 18  # structures read in one look
MOST_FAULTS = 100
_LEVELS = 128  # of a red-black tree; a real one has twice the logarithm of its nodes

Values = tuple[int, ...]


class TooMuch(Exception):
    """More structures than a guest of this size has: the look ends here."""


class Follower:
    """Reads structures, and counts what it reads."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self.memory = memory
        self.layout = layout
        self.faults: list[str] = []
        self._left = MOST_OBJECTS

    def fault(self, text: str) -> None:
        """Something could not be followed."""
        if len(self.faults) < MOST_FAULTS and text not in self.faults:
            self.faults.append(text)

    def get(self, shape: Shape, pointer: int, where: str, member: int = 0) -> Values | None:
        """Members of the structure that ``pointer`` leads to, or to the ``member`` of it that has this offset.

        None, and a fault that names ``where`` the pointer was, if there is nothing.
        """
        self.count()
        values = self.memory.shape(shape, pointer - member) if not pointer & 7 else None
        if values is None:
            self.fault(f"{where} is {pointer:#x}, where nothing can be")
        return values

    @contextlib.contextmanager
    def unfaulted(self) -> Iterator[None]:
        """What is found meanwhile is no fault."""
        faults, self.faults = self.faults, []
        try:
            yield
        finally:
            self.faults = faults

    def count(self) -> None:
        """Another structure is read."""
        self._left -= 1
        if self._left < 0:
            raise TooMuch(f"more than {MOST_OBJECTS} structures; the look ends here")

    def pointer(self, address: int) -> int:
        """The pointer at ``address``, 0 if that is nowhere."""
        raw = self.memory.read(address, 8)
        return int.from_bytes(raw, "little" if self.layout.order == "<" else "big") if raw else 0

    def around(self, head: int, shape: Shape, member: int, what: str) -> Iterator[tuple[int, Values]]:
        """The entries of a ``list_head`` list: their addresses, and their members.

        ``head`` is the address of the list's head; ``shape`` begins with the entry's ``next`` and ``prev``, which lie at the
        offset ``member`` in it.
        """
        return self._linked(head, head, shape, member, what, ("next of", "prev"))

    def along(self, first: int, shape: Shape, member: int, what: str) -> Iterator[tuple[int, Values]]:
        """The entries of an ``hlist`` list; ``first`` is the address of its head, and ``shape`` begins with next and pprev."""
        return self._linked(first, 0, shape, member, what, ("the pointer at", "pprev"))

    def _linked(
        self, head: int, end: int, shape: Shape, member: int, what: str, words: tuple[str, str]
    ) -> Iterator[tuple[int, Values]]:
        """From what ``head`` points to, to ``end``: both kinds of entry begin with the way on and one that leads back."""
        forth, back = words
        before, at = head, self.pointer(head)
        seen: set[int] = set()
        while at != end:
            if at in seen:
                self.fault(f"{what} comes round to {at:#x} and never to its end")
                return
            seen.add(at)
            values = self.get(shape, at, f"{forth} {before:#x} in {what}", member)
            if values is None:
                return
            if values[1] != before:
                self.fault(f"{back} of {at:#x} in {what} is {values[1]:#x}, not {before:#x}")
            yield at - member, values
            before, at = at, values[0]

    def inorder(self, root: int, shape: Shape, member: int, what: str) -> Iterator[tuple[int, Values]]:
        """A red-black tree's entries in order; ``root`` is the address of the topmost ``rb_node``, or 0.

        ``shape`` begins with __rb_parent_color, rb_right, rb_left.
        """
        path: list[tuple[int, Values]] = []
        seen: set[int] = set()
        at, above = root, 0
        while at or path:
            while at:
                if at in seen:
                    self.fault(f"{what} comes round to {at:#x}")
                    break
                if len(path) >= _LEVELS:
                    self.fault(f"{what} is deeper than {_LEVELS} levels")
                    break
                seen.add(at)
                where = f"a child of {above:#x} in {what}" if above else f"the root of {what}"
                values = self.get(shape, at, where, member)
                if values is None:
                    break
                if values[0] & ~3 != above:
                    self.fault(f"the parent of {at:#x} in {what} is {values[0] & ~3:#x}, not {above:#x}")
                path.append((at, values))
                above, at = at, values[2]
            if not path:
                return
            above, values = path.pop()
            yield above - member, values
            at = values[1]

# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's memory as its kernel addresses it."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from harness.errors import CannotJudge
from harness.guest.ram import Range
from harness.witness.layout import Shape
from harness.witness.paging import Format

Buffer = bytes | memoryview
KERNEL = 1 << 63
_TOP = 1 << 64


class Ram:
    """Physical memory: the files of the NUMA nodes, mapped here, and where they appear."""

    def __init__(self, fds: Sequence[int], ranges: Sequence[Range]) -> None:
        maps = [mmap.mmap(fd, 0, access=mmap.ACCESS_READ) for fd in fds]
        self._views = [memoryview(m) for m in maps]
        self._ranges = sorted((r.start, r.start + r.size, self._views[r.node], r.offset) for r in ranges if r.node < len(maps))

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First and last physical address + 1 of each piece."""
        return [(start, end) for start, end, _, _ in self._ranges]

    def locate(self, physical: int, size: int) -> tuple[memoryview, int] | None:
        """Where these bytes are, if all are in one place."""
        for start, end, view, offset in self._ranges:
            if start <= physical and physical + size <= end:
                at = physical - start + offset
                return (view, at) if at + size <= len(view) else None
        return None

    def read(self, physical: int, size: int) -> bytes | None:
        """The bytes, None where there is no memory."""
        if place := self.locate(physical, size):
            view, at = place
            return bytes(view[at : at + size])
        return None

    def close(self) -> None:
        """Not to be read any more."""
        self._ranges = []
        for view in self._views:
            view.release()


class Memory:
    """Reads by kernel virtual address.  Nothing raises for an address that leads nowhere.

    ``direct`` are maps that are known without page tables: (first address, last + 1, physical address of the first).
    """

    def __init__(
        self, ram: Ram, direct: Sequence[tuple[int, int, int]], paging: Format | None = None, root: int = 0, page_size: int = 4096
    ) -> None:
        self._ram = ram
        self._direct = tuple(direct)
        self._paging = paging
        self._root = root
        self._size = page_size
        self._mask = page_size - 1
        self._shift = page_size.bit_length() - 1
        self._pages: dict[int, tuple[memoryview, int] | None] = {}

    def forget(self) -> None:
        """The guest has run since: page tables may have changed."""
        self._pages.clear()

    def physical(self, address: int) -> int | None:
        """The physical address, None if there is none."""
        for start, end, base in self._direct:
            if start <= address < end:
                return address - start + base
        if self._paging is None or not KERNEL <= address < _TOP:
            return None
        return self._paging.translate(lambda at: self._ram.read(at, 8), self._root, address)

    def _page(self, number: int) -> tuple[memoryview, int] | None:
        """Where a page of virtual memory lies."""
        try:
            return self._pages[number]
        except KeyError:
            physical = self.physical(number << self._shift)
            place = self._ram.locate(physical, self._size) if physical is not None else None
            self._pages[number] = place
            return place

    def locate(self, address: int, size: int) -> tuple[Buffer, int] | None:
        """A buffer and where in it the ``size`` bytes at ``address`` are; None if some are nowhere."""
        inside = address & self._mask
        if inside + size > self._size:
            data = self.read(address, size)
            return (data, 0) if data is not None else None
        place = self._page(address >> self._shift)
        return (place[0], place[1] + inside) if place else None

    def read(self, address: int, size: int) -> bytes | None:
        """The bytes, None if some are nowhere."""
        pieces = []
        while size > 0:
            n = min(size, self._size - (address & self._mask))
            place = self._page(address >> self._shift)
            if place is None:
                return None
            view, at = place[0], place[1] + (address & self._mask)
            pieces.append(bytes(view[at : at + n]))
            address, size = address + n, size - n
        return b"".join(pieces)

    def shape(self, shape: Shape, address: int) -> tuple[int, ...] | None:
        """Members of the structure at ``address``; None if it is nowhere."""
        place = self.locate(address + shape.start, shape.size)
        return shape.unpack(*place) if place else None


def find_image(ram: Ram, banner: int, start: int, wanted: bytes, step: int = 1 << 21) -> int:
    """The physical address of the kernel's image, which is linked to ``start`` and has ``wanted`` at ``banner``.

    CannotJudge if it is nowhere: another kernel runs, or it has moved itself (KASLR).
    """
    for first, end in ram.ranges:
        for at in range(-(-first // step) * step, end, step):
            # The image need not begin at a multiple of the step, but its distance from one is the link address's.
            base = at + start % step
            if ram.read(base + banner - start, len(wanted)) == wanted:
                return base
    raise CannotJudge(
        "--witness: this vmlinux's kernel is nowhere in the guest's memory: another one runs, or it has moved itself (KASLR)"
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""A cpio archive in "newc" form, which the kernel unpacks as its initramfs.

Written by hand, since it needs device nodes without root and the same bytes each time: no times, owners or inode numbers
of the host get in.  Format: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A file, directory or device; ``mode`` with its type bits, ``device`` as (major, minor)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    """A directory that all may enter."""
    return Entry(name, stat.S_IFDIR | 0o755)


def program(name: str, data: bytes) -> Entry:
    """A file that can be executed."""
    return Entry(name, stat.S_IFREG | 0o755, data)


def character_device(name: str, major: int, minor: int) -> Entry:
    """A character device."""
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(head + name) + _padded(entry.data)


def archive(entries: Iterable[Entry]) -> bytes:
    """The entries in their order, and the trailer."""
    records = [_record(number, entry) for number, entry in enumerate(entries, 1)]
    return b"".join(records) + _record(0, Entry("TRAILER!!!", 0))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two kernels are the same program: what is loaded of two ELF files, compared.

A patch may change nothing that this config compiles, or nothing that the compiler keeps.  Line numbers and build ids differ
all the same, so they do not count: debug info is not loaded, and the tables that hold them are left out.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

_SHF_ALLOC = 2  # include/uapi/linux/elf.h
_SHT_NOBITS = 8

# __bug_table holds the line of each BUG and WARN (include/asm-generic/bug.h); the notes hold the build id, which covers the
# debug info.
_WITH_LINES = ("__bug_table", ".notes", ".note")


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int


def _sections(data: bytes) -> list[_Section]:
    """The section headers of an ELF file (elf(5)); ValueError if it is none."""
    if data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] not in (1, 2):
        raise ValueError("not an ELF file")
    order = "<" if data[5] == 1 else ">"
    wide = data[4] == 2
    word = "Q" if wide else "I"
    at = 40 if wide else 32
    (table,) = struct.unpack_from(f"{order}{word}", data, at)
    size, count, names = struct.unpack_from(f"{order}3H", data, 58 if wide else 46)
    rows = [struct.unpack_from(f"{order}2I4{word}", data, table + i * size) for i in range(count)]
    strings = rows[names][4]
    found = []
    for name, kind, flags, address, offset, length in rows:
        start = strings + name
        text = data[start : data.index(b"\0", start)].decode("ascii", "replace")
        found.append(_Section(text, kind, flags, address, offset, length))
    return found


def fingerprint(path: Path) -> str:
    """A digest of all that is loaded of an ELF file, but for line numbers and build ids; "" when it cannot be read as one."""
    try:
        data = path.read_bytes()
        loaded = [s for s in _sections(data) if s.flags & _SHF_ALLOC and not s.name.startswith(_WITH_LINES)]
    except (OSError, ValueError, struct.error, IndexError):
        return ""
    digest = hashlib.sha256()
    for section in loaded:
        digest.update(f"{section.name} {section.kind} {section.address} {section.size}\n".encode())
        if section.kind != _SHT_NOBITS:
            digest.update(memoryview(data)[section.offset : section.offset + section.size])
    return digest.hexdigest()

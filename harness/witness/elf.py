# SPDX-License-Identifier: GPL-2.0-or-later
"""The little of ELF that is needed of a vmlinux: where it is linked to, and its banner."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CannotJudge

KERNEL = 1 << 63  # addresses of the kernel's are above; x86's per-CPU segment is not
_PT_LOAD = 1
_BANNER = b"Linux version "
_MACHINES = {21: "PPC64", 62: "X86_64", 183: "AARCH64"}  # e_machine to drgn's name


@dataclass(frozen=True)
class Vmlinux:
    """What a vmlinux says of itself, ``start`` and ``end`` being kernel virtual addresses."""

    path: Path
    machine: str
    byteorder: str
    start: int  # of its first loaded segment
    end: int
    banner: bytes  # contents of linux_banner (init/version.c), which tells one build from another


def examine(path: Path) -> Vmlinux:
    """Read a vmlinux's headers.  CannotJudge if it is none."""
    try:
        with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _examine(path, data)
    except (OSError, ValueError, struct.error) as e:
        raise CannotJudge(f"--witness: cannot read {path} as a vmlinux: {e}") from e


def _examine(path: Path, data: mmap.mmap) -> Vmlinux:
    if data[:4] != b"\x7fELF" or data[4] != 2 or data[5] not in (1, 2):
        raise ValueError("not a 64-bit ELF file")
    order = "<" if data[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", data, 18)
    (phoff,) = struct.unpack_from(order + "Q", data, 32)
    phentsize, phnum = struct.unpack_from(order + "HH", data, 54)
    loaded = []
    for i in range(phnum):
        kind, _, _, vaddr, _, _, memsz, _ = struct.unpack_from(order + "IIQQQQQQ", data, phoff + i * phentsize)
        if kind == _PT_LOAD and vaddr >= KERNEL:
            loaded.append((vaddr, vaddr + memsz))
    at = data.find(_BANNER)
    if not loaded or at < 0 or machine not in _MACHINES:
        raise ValueError("not a kernel of an architecture that is known")
    banner = data[at : data.find(b"\0", at, at + 1024)]
    start, end = min(s for s, _ in loaded), max(e for _, e in loaded)
    return Vmlinux(path, _MACHINES[machine], "little" if order == "<" else "big", start, end, banner)

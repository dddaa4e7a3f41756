# SPDX-License-Identifier: GPL-2.0-or-later
"""What a ready kernel image says about itself, without running it."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

# init/version.c: linux_banner
_BANNER = re.compile(rb"Linux version ([0-9][\x21-\x7e]{0,120}) \([^()\0]{1,200}\) \(([\x20-\x7e]{1,300}?)\) ?#")


@dataclass(frozen=True)
class Banner:
    """The release and the compiler's line; "" where the image does not tell."""

    release: str = ""
    compiler: str = ""


def read_banner(image: Path) -> Banner:
    """Search linux_banner in an uncompressed image, else the version in a bzImage's setup header."""
    if image.stat().st_size < 0x212:
        return Banner()
    with image.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # Documentation/arch/x86/boot.rst: magic "HdrS" at 0x202, kernel_version at 0x20e, relative to 0x200.
        if data[0x202:0x206] == b"HdrS":
            start = int.from_bytes(data[0x20E:0x210], "little") + 0x200
            words = data[start : start + 200].split(b"\0")[0].decode("ascii", errors="replace").split()
            return Banner(words[0] if words else "")
        if found := _BANNER.search(data):
            release, tools = (group.decode("ascii") for group in found.groups())
            return Banner(release, re.split(r", (?:GNU ld|LLD)", tools)[0].removeprefix("gcc version ").strip())
    return Banner()


def release_of(image: Path) -> str:
    """The kernel release that the image names, or ""."""
    return read_banner(image).release

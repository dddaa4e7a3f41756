# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes as users write and read them: in powers of 1024."""

from __future__ import annotations

import re
from fractions import Fraction

from harness.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes from ``10G``, ``500M``, ``1.5T`` or a plain number.  UsageError otherwise."""
    found = re.fullmatch(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise UsageError(f"{text!r:.80} is not a size; write it as in 10G or 500M")
    return int(Fraction(found[1]) * _UNITS[found[2].upper()])


def in_words(size: int) -> str:
    """Bytes as ``1.5 GiB`` or ``500 MiB``."""
    return f"{size / _UNITS['G']:.1f} GiB" if size >= _UNITS["G"] else f"{size / _UNITS['M']:.0f} MiB"

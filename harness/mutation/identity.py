# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mutant's fate depends on, as one digest: while it stays, the mutant need not be run again."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import harness

FORMAT = 1
"""Counts up whenever this room judges other fates from the same input."""

# Rooms in which it is decided what a journal and a console amount to.
JUDGES = ("guest", "journal", "witness", "oracle", "verdict")


@functools.cache
def judges() -> str:
    """A digest of the code that watches guests and judges them."""
    package = Path(harness.__file__).parent
    digest = hashlib.sha256()
    for room in JUDGES:
        for path in sorted((package / room).rglob("*.py")):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(package)}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def key(patch: str, kernel: str, image: str, workloads: Sequence[str], more: Sequence[object] = ()) -> str:
    """Of a patch's digest, the unmodified kernel's key, the image's, the workloads' names, and how the guest is run."""
    parts = [FORMAT, patch, kernel, image, sorted(workloads), judges(), list(more)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports on disk: each is there as a whole or not at all."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HostError
from harness.store import write_atomically


def replace(path: Path, content: str | bytes) -> Path:
    """Make this the file's content; gives its path.  HostError if that cannot be done."""
    try:
        write_atomically(path, content)
    except OSError as e:
        raise HostError(f"cannot write {path}: {e.strerror}") from e
    return path

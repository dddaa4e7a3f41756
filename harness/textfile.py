# SPDX-License-Identifier: GPL-2.0-or-later
"""Text files that users hand in."""

from __future__ import annotations

from pathlib import Path

from harness import paths
from harness.errors import UsageError


def read(path: Path, what: str = "") -> str:
    """The file's text.  UsageError names the file, and ``what`` it is, where it cannot be read."""
    try:
        return paths.content(path).decode()
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read {what}{' ' if what else ''}{path}: {why}") from e

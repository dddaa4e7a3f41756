# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths that users name: what cannot be looked at is not there.

Path's own methods raise OSError where a name is too long, or a directory on the way may not be searched.
"""

from __future__ import annotations

from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether there is a file, or a link to one."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_directory(path: Path) -> bool:
    """Whether there is a directory, or a link to one."""
    try:
        return path.is_dir()
    except OSError:
        return False

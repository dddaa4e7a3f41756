# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths that users name: what cannot be looked at is not there.

Path's own methods raise OSError where a name is too long, or a directory on the way may not be searched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def of_user(text: str) -> Path:
    """The path that a user has written: ``~`` is a home directory, if there is one of that name."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):
        return path.expanduser()
    return path


def content(path: Path) -> bytes:
    """Of a regular file.  OSError for any other, which might not end, or be there once only."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to would be waited for
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        with os.fdopen(fd, "rb", closefd=False) as f:
            return f.read()
    finally:
        os.close(fd)


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

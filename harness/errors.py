# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong, as types: each has one exit code and one line for the user.

The codes are made for ``git bisect run``: it takes 1-127 except 125 as "bad", 125 as "cannot tell", and stops above 127.
"""

from __future__ import annotations

import difflib
import enum
import errno
from collections.abc import Collection
from pathlib import Path


class ExitCode(enum.IntEnum):
    """How the command ends."""

    GOOD = 0
    BAD = 1
    CANNOT_JUDGE = 125
    OWN_ERROR = 128
    USAGE = 129
    INTERRUPTED = 130


class HarnessError(Exception):
    """Base of all expected errors: the message is one clear line (what, where, what to do)."""

    code: ExitCode = ExitCode.OWN_ERROR


class UsageError(HarnessError):
    """Bad input: an unknown name, an unreadable file, a contradiction."""

    code = ExitCode.USAGE


def meant(name: str, known: Collection[str]) -> str:
    """What is so much like ``name`` that it may be meant, in words to put behind it; "" if nothing is."""
    near = difflib.get_close_matches(name, known, 1)
    return f" (do you mean {near[0]}?)" if near else ""


class CannotJudge(HarnessError):
    """The kernel could not be judged, which says nothing about the kernel's KSM."""

    code = ExitCode.CANNOT_JUDGE


class BuildError(CannotJudge):
    """A patch did not apply, a config option did not stick, or the kernel did not compile."""


class BootError(CannotJudge):
    """The guest gave no sign of life."""


class HostError(CannotJudge):
    """The host is at fault: a program is missing, the disk is full, QEMU was killed."""


_NO_PLACE = (
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM,
    errno.EROFS,
)  # fmt: skip


def unwritable(path: Path, error: OSError, advice: str = "") -> UsageError | HostError:
    """What to raise where a place that the user has named cannot be written.

    Bad input where the place is no place for that, the host's fault otherwise (a full disk).
    """
    kind = UsageError if error.errno in _NO_PLACE else HostError
    return kind(f"cannot write {path}: {error.strerror}{'; ' if advice else ''}{advice}")

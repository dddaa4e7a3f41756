# SPDX-License-Identifier: GPL-2.0-or-later
"""The words in which a user names a kernel: ``debian:6.1``, ``debian:6.1=VERSION``, ``tree:PATH``, ``image:PATH``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError

FORMS = "debian:6.1, debian:6.1=VERSION, tree:PATH or image:PATH"
_SERIES = re.compile(r"[0-9]+\.[0-9]+")
# Debian policy 5.6.12, without the epoch that kernels do not use.
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~-]*")


@dataclass(frozen=True)
class Spec:
    """One kernel, as named: ``value`` is a series (debian) or an absolute path, ``version`` a pinned package version."""

    kind: Literal["debian", "tree", "image"]
    value: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" + (f"={self.version}" if self.version else "")


def _debian(text: str, value: str) -> Spec:
    series, equals, version = value.partition("=")
    if not _SERIES.fullmatch(series):
        raise UsageError(f"{text}: {series!r} is not a kernel series; write debian:6.1 or debian:6.1=VERSION")
    if equals and not _VERSION.fullmatch(version):
        raise UsageError(f"{text}: {version!r} is not a Debian package version; write it as in debian:6.1=6.1.140-1")
    return Spec("debian", series, version)


def parse_spec(text: str) -> Spec:
    """Read a kernel SPEC.  UsageError when it is none, or when its path is not there."""
    kind, colon, value = text.partition(":")
    if not colon or not value:
        raise UsageError(f"{text!r} does not name a kernel; write {FORMS}")
    if kind == "debian":
        return _debian(text, value)
    path = Path(value).expanduser()
    if kind == "tree":
        if not path.is_dir():
            raise UsageError(f"{text}: there is no directory {path}")
        return Spec("tree", str(path.absolute()))
    if kind == "image":
        if not path.is_file():
            raise UsageError(f"{text}: there is no file {path}")
        return Spec("image", str(path.absolute()))
    raise UsageError(f"{text!r} does not name a kernel: {kind!r} is none of debian, tree, image; write {FORMS}")

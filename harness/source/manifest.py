# SPDX-License-Identifier: GPL-2.0-or-later
"""What a source tree contains, as data: each file's mode and the hash of its content.

A manifest maps the path (relative, ``/``-separated, in the file system's own bytes by surrogateescape) to ``MODE HASH``:
git's three modes 100644, 100755 and 120000 (symbolic link), and the SHA-256 of the content or of the link's target.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping

Manifest = Mapping[str, str]


def mode_of(st_mode: int) -> str:
    """Git's mode for a file; "" for what is no part of a source tree (directories, sockets, devices)."""
    if stat.S_ISLNK(st_mode):
        return "120000"
    if stat.S_ISREG(st_mode):
        return "100755" if st_mode & stat.S_IXUSR else "100644"
    return ""


def describe(mode: str, content: bytes) -> str:
    """The manifest's value for a file of this mode and content."""
    return f"{mode} {hashlib.sha256(content).hexdigest()}"


def read_content(path: str, mode: str) -> bytes:
    """The content of a regular file, or the target of a symbolic link."""
    if mode == "120000":
        return os.fsencode(os.readlink(path))  # noqa: PTH115
    with open(path, "rb", buffering=0) as f:  # noqa: PTH123
        return f.read()


def identity(manifest: Manifest) -> str:
    """A SHA-256 over all of it: the same for the same tree, wherever and whenever it was written."""
    lines = sorted(f"{path}\0{value}" for path, value in manifest.items())
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def dumps(manifest: Manifest) -> bytes:
    """As bytes, fit for ``loads``."""
    return "\0".join(f"{path}\0{value}" for path, value in manifest.items()).encode(errors="surrogateescape")


def loads(data: bytes) -> dict[str, str]:
    """What ``dumps`` wrote."""
    fields = data.decode(errors="surrogateescape").split("\0")
    return dict(zip(fields[0::2], fields[1::2], strict=True)) if data else {}


def difference(old: Manifest, new: Manifest) -> set[str]:
    """The paths whose mode or content differ, or that only one of the two has."""
    return {path for path, _ in old.items() ^ new.items()}

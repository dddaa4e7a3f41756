# SPDX-License-Identifier: GPL-2.0-or-later
"""Single files of a source tree: read, compared, and replaced without writing through a link of any kind."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.source.manifest import describe, mode_of, read_content


@dataclass(frozen=True)
class File:
    """Mode as git has it (100644, 100755, 120000) and content; of a symbolic link the content is its target."""

    mode: str
    content: bytes

    @property
    def value(self) -> str:
        """As a manifest has it."""
        return describe(self.mode, self.content)


def blocked_by_link(root: Path, path: str) -> str:
    """The first directory on the way to ``path`` that is a symbolic link, or "": beyond it lies another file."""
    for parent in reversed(PurePosixPath(path).parents[:-1]):
        if (root / parent).is_symlink():
            return str(parent)
    return ""


def read_file(root: Path, path: str) -> File | None:
    """The file at ``path``, or None where there is none (a directory is none)."""
    full = f"{root}/{path}"
    try:
        mode = mode_of(os.lstat(full).st_mode)
        return File(mode, read_content(full, mode)) if mode else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_file(root: Path, path: str, file: File, scratch: Path) -> None:
    """Put ``file`` at ``path`` by rename from ``scratch`` (same file system), with the present as its time."""
    full = root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch / "incoming"
    temporary.unlink(missing_ok=True)
    if file.mode == "120000":
        temporary.symlink_to(os.fsdecode(file.content))
    else:
        with temporary.open("xb") as f:
            f.write(file.content)
            os.fchmod(f.fileno(), 0o755 if file.mode == "100755" else 0o644)
    temporary.replace(full)


def remove_file(root: Path, path: str) -> None:
    """Remove the file at ``path``, and the directories that are empty without it."""
    full = root / path
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        full.unlink()
    with contextlib.suppress(OSError):
        for parent in full.relative_to(root).parents[:-1]:
            (root / parent).rmdir()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Single files of a private copy: replaced and removed without writing through a link of any kind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.source.content import File


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

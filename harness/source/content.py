# SPDX-License-Identifier: GPL-2.0-or-later
"""Single files of a source, wherever it lies: on disk or in a git repository."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

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


class Tree(Protocol):
    """A kernel's source, file by file."""

    def read(self, path: str) -> File | None:
        """The file at a path, or None where there is none (a directory is none)."""

    def read_all(self, paths: Iterable[str]) -> Iterator[tuple[str, File | None]]:
        """Many files, in any order."""


ReadText = Callable[[str], str | None]
"""The text of a tree's file by its path, None where there is none."""


def read_file(root: Path, path: str) -> File | None:
    """The file at ``path`` below a directory, or None where there is none (a directory is none)."""
    full = f"{root}/{path}"
    try:
        mode = mode_of(os.lstat(full).st_mode)
        return File(mode, read_content(full, mode)) if mode else None
    except (FileNotFoundError, NotADirectoryError):
        return None


@dataclass(frozen=True)
class Directory:
    """A tree on disk."""

    root: Path

    def read(self, path: str) -> File | None:
        """The file at a path."""
        return read_file(self.root, path)

    def read_all(self, paths: Iterable[str]) -> Iterator[tuple[str, File | None]]:
        """Many files, one after the other."""
        return ((path, self.read(path)) for path in paths)


def blocked_by_link(tree: Tree, path: str) -> str:
    """The first directory on the way to ``path`` that is a symbolic link, or "": beyond it lies another file."""
    for parent in reversed(PurePosixPath(path).parents[:-1]):
        file = tree.read(str(parent))
        if file is not None and file.mode == "120000":
            return str(parent)
    return ""

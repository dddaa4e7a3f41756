# SPDX-License-Identifier: GPL-2.0-or-later
"""What is seen in a source with patches on top: whether it carries the patch, and how its kernel behaves where kernels differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.kernel import patches
from harness.source import Source, behaviour, contains
from harness.store import Store


def _reader(source: Source, patch_files: Sequence[Path], store: Store) -> Callable[[str], str | None]:
    """The tree's files as text.  UsageError for a ready image; BuildError when a patch does not apply."""
    source.spec.need_source("whether it carries the patch is seen in")
    with store.scratch() as scratch:
        patched = patches.apply(patches.load(patch_files), source.files, scratch)

    def read(path: str) -> str | None:
        file = patched[path] if path in patched else source.files.read(path)
        return file.content.decode(errors="surrogateescape") if file else None

    return read


def contained(source: Source, patch_files: Sequence[Path], store: Store) -> contains.Answer:
    """Whether a tree carries the patch.

    UsageError for a ready image; BuildError when a patch does not apply; CannotJudge when the source cannot be followed.
    """
    return contains.examine(_reader(source, patch_files, store), store, contains.history(source.root, source.revision))


def behaves(source: Source, patch_files: Sequence[Path], store: Store) -> tuple[behaviour.Told, ...]:
    """What a tree's code says of how its kernel behaves where kernels differ.  Errors as of ``contained``."""
    return behaviour.examine(_reader(source, patch_files, store))

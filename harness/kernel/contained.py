# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a source, with patches on top, carries what this harness is about (harness.source.contains)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.kernel import patches
from harness.source import Source, contains
from harness.store import Store


def contained(source: Source, patch_files: Sequence[Path], store: Store) -> contains.Answer:
    """The answer for a tree.

    UsageError for a ready image; BuildError when a patch does not apply; CannotJudge when the source cannot be followed.
    """
    source.spec.need_source("what it contains is seen in")
    with store.scratch() as scratch:
        patched = patches.apply(patches.load(patch_files), source.files, scratch)

    def read(path: str) -> str | None:
        file = patched[path] if path in patched else source.files.read(path)
        return file.content.decode(errors="surrogateescape") if file else None

    return contains.examine(read, store, contains.history(source.root, source.revision))

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is seen in a source with patches on top: whether it carries the patch, and how its kernel behaves where kernels differ."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import CannotJudge
from harness.kernel import patches
from harness.source import Source, behaviour, contains
from harness.source.content import ReadText
from harness.store import Store


@dataclass(frozen=True)
class Reading:
    """What a source tells without being built; nothing of a ready image."""

    hold_anon_vma: str = ""  # whether it carries the patch, in one line
    behaviour: Mapping[str, tuple[bool, str]] = field(default_factory=dict)  # fields of Semantics: value, and where it is seen


def _reader(source: Source, patch_files: Sequence[Path], store: Store) -> ReadText:
    """The tree's files as text, each read once.  UsageError for a ready image; BuildError when a patch does not apply."""
    source.spec.need_source("whether it carries the patch is seen in")
    with store.scratch() as scratch:
        patched = patches.apply(patches.load(patch_files), source.files, scratch)

    @functools.cache
    def read(path: str) -> str | None:
        file = patched[path] if path in patched else source.files.read(path)
        return file.content.decode(errors="surrogateescape") if file else None

    return read


def contained(source: Source, patch_files: Sequence[Path], store: Store) -> contains.Answer:
    """Whether a tree carries the patch.

    UsageError for a ready image; BuildError when a patch does not apply; CannotJudge when the source cannot be followed.
    """
    return _examined(source, _reader(source, patch_files, store), store)


def _examined(source: Source, reader: ReadText, store: Store) -> contains.Answer:
    return contains.examine(reader, store, contains.history(source.root, source.revision))


def read_source(source: Source, patch_files: Sequence[Path], store: Store) -> Reading:
    """All that is seen.  What cannot be told is no error here: where a patch does not apply the build will say so."""
    if source.spec.ready:
        return Reading()
    behaviour_of: dict[str, tuple[bool, str]] = {}
    try:
        reader = _reader(source, patch_files, store)
        behaviour_of = {told.field: (told.value, told.place) for told in behaviour.examine(reader)}
        return Reading(_examined(source, reader, store).line, behaviour_of)
    except CannotJudge as e:
        return Reading(f"cannot be told: {e}", behaviour_of)

# SPDX-License-Identifier: GPL-2.0-or-later
"""KSM's source as one text: mm/ksm.c, the headers of mm/ that it includes, and the files that are built with it.

A part of it that a series has moved is found where it is now.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from dataclasses import dataclass

from harness.csource.tokens import line_of
from harness.source.content import ReadText

KSM = "mm/ksm.c"
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_OBJECTS = re.compile(r"^(?:obj-\$\(CONFIG_KSM\)|ksm-(?:y|objs)|ksm-\$\(CONFIG_\w+\))\s*[:+]?=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Parts:
    """Files and their texts, in the order in which they stand one behind the other in ``text``; mm/ksm.c is the first."""

    files: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """All of them."""
        return "\n".join(text for _, text in self.files)

    def place(self, offset: int) -> str:
        """Where an offset in ``text`` is: ``mm/ksm.c:197``."""
        for path, text in self.files[:-1]:
            if offset <= len(text):
                return f"{path}:{line_of(text, offset)}"
            offset -= len(text) + 1
        path, text = self.files[-1]
        return f"{path}:{line_of(text, offset)}"


def ksm_parts(read: ReadText, without: Collection[str] = ()) -> Parts | None:
    """What KSM is made of in a tree, None where there is no mm/ksm.c; ``without`` are files that are known otherwise."""
    main = read(KSM)
    if main is None:
        return None
    made = (read("mm/Makefile") or "").replace("\\\n", " ")
    objects = " ".join(found[1].split("#")[0] for found in _OBJECTS.finditer(made))
    paths = [f"mm/{name[:-2]}.c" for name in objects.split() if name.endswith(".o")]
    sources = [(path, text) for path in dict.fromkeys(paths) if path != KSM and (text := read(path)) is not None]
    included = (
        posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        for path, text in ((KSM, main), *sources)
        for name in _INCLUDE.findall(text)
    )
    headers = [(path, text) for path in dict.fromkeys(included) if path not in without and (text := read(path)) is not None]
    return Parts(((KSM, main), *sources, *headers))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A mutant: a patch that makes the kernel another one, and what the lines above the patch say of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from harness import paths
from harness.errors import UsageError

UNMODIFIED = "unmodified"
"""The name under which the kernel without a patch is tried, before any mutant."""

_BEGIN = re.compile(r"^(?:diff --git |Index: |--- \S)", re.MULTILINE)
_KEY = re.compile(r"^([A-Z][a-z]+(?:-[A-Za-z]+)*):[ \t]*(.*)$", re.MULTILINE)
_PROPERTY = re.compile(r"\bP\d+\b")


@dataclass(frozen=True)
class Mutant:
    """One patch file.

    ``expected`` are the properties of which one should be named (header line ``Property: P6``; none: any will do).
    ``benign``: the file's name begins with B; a control that no workload may flag.
    """

    name: str  # the file's name without .patch
    path: Path | None  # None: the unmodified kernel
    digest: str = ""  # SHA-256 of the file's bytes
    benign: bool = False
    expected: tuple[str, ...] = ()
    function: str = ""  # as the generator's header has it
    operator: str = ""
    line: str = ""
    description: str = ""  # first line of the header that is no "Key: value"

    @property
    def patches(self) -> tuple[Path, ...]:
        """What to build it with."""
        return (self.path,) if self.path else ()


def unmodified() -> Mutant:
    """The control of all controls."""
    return Mutant(UNMODIFIED, None, benign=True)


def parse(path: Path, data: bytes) -> Mutant:
    """The mutant of a patch file.  A header is not needed, and the patch itself is not judged here."""
    text = data.decode("utf-8", "replace")
    begin = _BEGIN.search(text)
    header = text[: begin.start()] if begin else ""
    keys = dict(reversed(_KEY.findall(header)))
    told = f"{keys.get('Property', '')} {keys.get('Properties', '')}"
    words = (line.strip() for line in header.splitlines() if line.strip() and not _KEY.match(line))
    return Mutant(
        name=path.name.removesuffix(".patch"),
        path=path,
        digest=hashlib.sha256(data).hexdigest(),
        benign=path.name.startswith("B"),
        expected=tuple(dict.fromkeys(_PROPERTY.findall(told))),
        function=keys.get("Function", ""),
        operator=keys.get("Operator", ""),
        line=keys.get("Line", ""),
        description=next(words, ""),
    )


def read(directory: Path, only: Collection[str] = ()) -> tuple[Mutant, ...]:
    """The mutants of a directory, by name; of ``only`` those, if any are named.  UsageError when there are none."""
    try:
        mutants = [parse(path.absolute(), paths.content(path)) for path in sorted(directory.glob("*.patch"))]
    except OSError as e:
        raise UsageError(f"cannot read the patch {e.filename}: {e.strerror}") from e
    if not mutants:
        raise UsageError(f"there is no *.patch in {directory}; name a directory of patches")
    names = {mutant.name for mutant in mutants}
    for name in only:
        if name not in names:
            raise UsageError(f"there is no {name}.patch in {directory}")
    return tuple(mutant for mutant in mutants if not only or mutant.name in only)

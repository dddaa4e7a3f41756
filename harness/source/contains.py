# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a tree carry "ksm: hold anon_vma in rmap_item"?

What the code is decides, by its structure (harness.source.mechanism), in the patch's own form and in later ones.  That the
patch can be taken out again proves that it is there as it was committed, and that it cannot proves nothing.  What git knows
of the commit is told as well, but does not decide: a later commit may have undone it, and a backport has another name.
"""

from __future__ import annotations

import enum
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import CannotJudge
from harness.source import git, mechanism
from harness.source.command import neutral_environment, run
from harness.source.content import ReadText
from harness.source.mechanism import Piece
from harness.source.parts import ksm_parts
from harness.store import Store

log = logging.getLogger("harness.source")

COMMIT = "db114b83ab6064d9b1d6ec5650e096c89bd95e25"
PATCH = Path(__file__).parent / "hold-anon_vma.patch"
"""The commit's part of mm/ksm.c."""


class Presence(enum.StrEnum):
    """How much of it a tree has."""

    AS_COMMITTED = "yes, as committed"
    EVOLVED = "yes, evolved"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class Answer:
    """What was found: ``history`` is what git knows of the commit, "" if there is nothing to ask."""

    presence: Presence
    pieces: tuple[Piece, ...]
    history: str = ""

    @property
    def carried(self) -> bool:
        """The tree has it."""
        return self.presence in (Presence.AS_COMMITTED, Presence.EVOLVED)

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not there."""
        return tuple(words for piece in self.pieces for words in piece.missing)

    @property
    def lines(self) -> tuple[str, ...]:
        """All that was found, a line for each place, and what is missing."""
        there = [f"{piece.name}: {', '.join(piece.places)}" for piece in self.pieces if piece.places]
        return (*there, *(f"missing: {words}" for words in self.missing))

    @property
    def line(self) -> str:
        """In one line."""
        if self.carried:
            return f"{self.presence}: {', '.join(self.pieces[-1].places)}" if self.pieces[-1].places else str(self.presence)
        return f"{self.presence}: {'; '.join(self.missing)}"


def as_committed(text: str, store: Store) -> bool:
    """Whether the patch can be taken out of this mm/ksm.c without any fuzz; False also where there is no patch(1)."""
    if not shutil.which("patch"):
        return False
    with store.scratch() as scratch:
        (scratch / "mm").mkdir()
        (scratch / mechanism.KSM).write_text(text, encoding="utf-8", errors="surrogateescape")
        argv = ["patch", "--reverse", "-p1", "--batch", "--dry-run", "--force", "--fuzz=0", "--reject-file=-"]
        argv += [f"--directory={scratch}", f"--input={PATCH}"]
        return run(argv, log=log, env=neutral_environment(), level=logging.DEBUG).status == 0


def history(repository: Path, revision: str) -> str:
    """What the repository knows of the commit, seen from a revision; "" where that is nothing."""

    if not revision or git.ask(repository, "cat-file", "-e", f"{COMMIT}^{{commit}}") is None:
        return ""
    if git.ask(repository, "rev-parse", "--is-shallow-repository") != b"false\n":
        return ""  # what leads to the commit may be cut off
    found = git.ask(repository, "rev-list", "--max-count=1", COMMIT, f"^{revision}")
    if found is None:
        return ""
    return f"commit {COMMIT[:12]} is {'no' if found else 'an'} ancestor of {revision[:12]}"


def examine(read: ReadText, store: Store, known: str = "") -> Answer:
    """Look at a tree; ``known`` is its history.  CannotJudge where mm/ksm.c cannot be followed."""
    parts = ksm_parts(read, without=mechanism.AROUND)
    files = {path: text for path in mechanism.AROUND if (text := read(path)) is not None}
    taken_out = parts is not None and as_committed(parts.files[0][1], store)
    try:
        pieces = tuple(mechanism.pieces(parts, files))
    except ValueError as e:
        if not taken_out:
            raise CannotJudge(f"whether this tree holds anon_vmas in KSM's items: the source cannot be followed: {e}") from e
        pieces = ()
    return Answer(_presence(pieces, taken_out), pieces, known)


def _presence(pieces: tuple[Piece, ...], taken_out: bool) -> Presence:
    if taken_out:
        return Presence.AS_COMMITTED
    if all(piece.whole for piece in pieces):
        return Presence.EVOLVED
    # A field alone is no mechanism.
    return Presence.PARTLY if any(piece.places for piece in pieces[1:]) else Presence.NO

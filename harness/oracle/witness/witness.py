# SPDX-License-Identifier: GPL-2.0-or-later
"""The looks of one workload: each is compared with the model, and with itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from harness.drawing import Drawing
from harness.graph import Graph
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference
from harness.oracle.model import Model
from harness.oracle.records import Fields
from harness.oracle.runs import ranges
from harness.oracle.witness.census import census
from harness.oracle.witness.draw import panel
from harness.oracle.witness.lists import compare_items, compare_slots
from harness.oracle.witness.matching import Match, Matcher
from harness.oracle.witness.mismatch import Mismatch, differences
from harness.oracle.witness.references import Name, References
from harness.oracle.witness.rmap import Isomorphism, compare_rmap
from harness.oracle.witness.tree import compare_tree

_Shown = tuple[Match, str, dict[int, Name]]

ANCESTORS = "rmap_items hold an ancestor of their vma's anon_vma, which leads to parents too (P22): other semantics, not an error"
MOST_DRAWINGS = 8  # of one workload


@dataclass(frozen=True)
class Deed:
    """An operation: what a mismatch that was not there before it is a consequence of."""

    name: str
    words: str  # ``unmergeable of P1.a[0..15] (record 41)``

    @classmethod
    def read(cls, number: int, op: Fields) -> Deed:
        """Of an ``op`` record."""
        name, data = op.text("op"), op.data
        whose = str(data.get("actor", ""))
        first, count = data.get("first"), data.get("count")
        if isinstance(data.get("area"), str):
            whose += f".{data['area']}"
            if isinstance(first, int) and isinstance(count, int) and count > 0:
                whose += ranges(range(first, first + count)) if count < 1 << 20 else ""
        elif name in ("run", "set"):
            whose = f"{data.get('file', '')}={data.get('value')}".lstrip("=")
        return cls(
            name,
            f"{name}{f' of {whose}' if whose and name not in ('run', 'set') else f' {whose}' if whose else ''} (record {number})",
        )


class Witness:
    """``notes`` gets what is not compared, and why, ``remarks`` what is remarkable and no error."""

    def __init__(self, model: Model, page_size: int, notes: list[str], remarks: list[str]) -> None:
        self.model = model
        self._adrift = ""  # why nothing can be compared with the model any more
        self._roster: Callable[[], Sequence[Mm]] | None = None
        self._notes = notes
        self._remarks = remarks
        self._matcher = Matcher(page_size)
        self._pairs = Isomorphism()
        self._references = References()
        self._told: dict[Hashable, Hashable] = {}
        self._deeds: list[Deed] = []  # since the last look
        self._last: Deed | None = None
        self._before: _Shown | None = None
        self._now: _Shown | None = None
        self._new: list[Mismatch] = []
        self.drawings: list[Drawing] = []

    def lose_track(self, why: str, roster: Callable[[], Sequence[Mm]] | None = None) -> None:
        """Nothing can be compared with the model from here on; ``roster`` tells who is there, if the model does not."""
        self._adrift = self._adrift or why
        self._roster = roster or self._roster

    def follow(self, before: Witness) -> None:
        """Go on where that one ended: it knows the names of anon_vmas, and what has been told."""
        self._references, self._told = before._references, before._told

    def did(self, deed: Deed) -> None:
        """An operation has ended."""
        self._deeds.append(deed)

    def look(self, graph: Graph, *, ahead: bool = False) -> list[Difference]:
        """What was as it must be at the look before, and is no more.

        ``ahead``: ksmd has ended a scan that nobody asked for and of which the model has not heard yet.
        """
        match = self._matcher.match(self.model, graph, self._roster() if self._roster else None)
        new: list[Mismatch] = []
        told: dict[Hashable, Hashable] = {}
        for mismatch in self._compare(match, ahead):
            key = mismatch.rule.kind, mismatch.subject
            if key not in self._told or self._told[key] != mismatch.state:
                new.append(mismatch)
            told[key] = mismatch.state
        self._told = told
        op, after = self._since()
        title = f"at the end of {after}" if op != "reset" else after
        self._new, self._before, self._now = new, self._now, (match, title, self._references.names)
        return differences(new, op, after)

    def draw(self, seq: int) -> None:
        """The last look, made after record ``seq``, and the one before it."""
        if self._now is None or len(self.drawings) >= MOST_DRAWINGS:
            return
        odd = {address for mismatch in self._new for address in mismatch.focus}
        ghosts = {where for mismatch in self._new if mismatch.rule.kind == "item-missing" for where in mismatch.places}
        before = panel(*self._before) if self._before else None
        self.drawings.append(Drawing(seq, before, panel(*self._now, odd, ghosts)))

    def _since(self) -> tuple[str, str]:
        """Kind and words of what was done since the look before, or of the last thing before it.

        What the first look of a workload shows is of the one before it, or of the reset in between: a first spawn is no deed.
        """
        if self._now is None and len(self._deeds) <= 1:
            self._last, self._deeds = next(iter(self._deeds), None), []
            return "reset", "the reset before this workload"
        deeds, self._deeds = self._deeds or [d for d in [self._last] if d], []
        if not deeds:
            return "obs", "the beginning"
        self._last = deeds[-1]
        words = deeds[-1].words
        return self._last.name, words if len(deeds) == 1 else f"{len(deeds)} operations, the last of them {words}"

    def _compare(self, match: Match, ahead: bool) -> Iterator[Mismatch]:
        yield from census(match)
        yield from self._references.judge(match)
        if self._adrift or match.unseen:
            self._note(self._adrift or f"the mm of {', '.join(mm.name for mm in match.unseen)} was not found")
            return
        yield from compare_rmap(match, self._pairs)
        if self._pairs.ancestors and ANCESTORS not in self._remarks:
            self._remarks.append(ANCESTORS)
        if ahead or self.model.memory.unsure:
            self._note(f"but for its vmas: {self.model.memory.unsure or 'ksmd made a scan that nobody asked for'}")
            return
        yield from compare_slots(match, self.model)
        yield from compare_items(match, self.model)
        yield from compare_tree(match, self.model)

    def _note(self, why: str) -> None:
        text = f"what the second witness saw is compared with itself only, not with the model: {why}"
        if text not in self._notes:
            self._notes.append(text)

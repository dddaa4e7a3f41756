# SPDX-License-Identifier: GPL-2.0-or-later
"""The looks of one workload: each is compared with the model, and with itself."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from harness.drawing import Drawing
from harness.graph import Graph
from harness.oracle.judge import Difference
from harness.oracle.model import Model
from harness.oracle.records import Fields
from harness.oracle.runs import ranges
from harness.oracle.witness.census import census
from harness.oracle.witness.draw import panel
from harness.oracle.witness.lists import compare_items, compare_slots
from harness.oracle.witness.matching import Match, Matcher
from harness.oracle.witness.mismatch import Mismatch, differences
from harness.oracle.witness.references import References
from harness.oracle.witness.rmap import Isomorphism, compare_rmap
from harness.oracle.witness.tree import compare_tree

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
    """``notes`` gets what is not compared, and why."""

    def __init__(self, model: Model, page_size: int, notes: list[str]) -> None:
        self.model = model
        self.adrift = ""  # why nothing can be compared with the model any more
        self._notes = notes
        self._matcher = Matcher(page_size)
        self._pairs = Isomorphism()
        self._references = References()
        self._told: dict[Hashable, Hashable] = {}
        self._deeds: list[Deed] = []  # since the last look
        self._last: Deed | None = None
        self._before: tuple[str, Match] | None = None
        self.drawings: list[Drawing] = []

    def did(self, deed: Deed) -> None:
        """An operation has ended."""
        self._deeds.append(deed)

    def look(self, seq: int, graph: Graph, *, draw: bool = False) -> list[Difference]:
        """What was as it must be at the look before, and is no more, after record ``seq``.

        It is drawn, and so is a look of which ``draw`` says that something else was found.
        """
        match = self._matcher.match(self.model, graph)
        new: list[Mismatch] = []
        told: dict[Hashable, Hashable] = {}
        for mismatch in self._compare(match):
            key = mismatch.kind, mismatch.subject
            if key not in self._told or self._told[key] != mismatch.state:
                new.append(mismatch)
            told[key] = mismatch.state
        self._told = told
        op, after = self._since()
        title = f"at the end of {after}" if op != "reset" else after
        if (new or draw) and len(self.drawings) < MOST_DRAWINGS:
            self._draw(seq, match, new, title)
        self._before = title, match
        return differences(new, op, after)

    def _draw(self, seq: int, match: Match, new: list[Mismatch], title: str) -> None:
        odd = {address for mismatch in new for address in mismatch.focus}
        ghosts = {where for mismatch in new if mismatch.kind == "item-missing" for where in mismatch.places}
        before = panel(self._before[1], self._before[0]) if self._before else None
        self.drawings.append(Drawing(seq, before, panel(match, title, odd, ghosts)))

    def _since(self) -> tuple[str, str]:
        """Kind and words of what was done since the look before, or of the last thing before it.

        What the first look of a workload shows is of the one before it, or of the reset in between: a first spawn is no deed.
        """
        if self._before is None and len(self._deeds) <= 1:
            self._last, self._deeds = next(iter(self._deeds), None), []
            return "reset", "the reset before this workload"
        deeds, self._deeds = self._deeds or [d for d in [self._last] if d], []
        if not deeds:
            return "obs", "the beginning"
        self._last = deeds[-1]
        words = deeds[-1].words
        return self._last.name, words if len(deeds) == 1 else f"{len(deeds)} operations, the last of them {words}"

    def _compare(self, match: Match) -> Iterator[Mismatch]:
        yield from census(match)
        yield from self._references.judge(match)
        if self.adrift or match.unseen:
            self._note(self.adrift or f"the mm of {', '.join(mm.name for mm in match.unseen)} was not found")
            return
        yield from compare_rmap(match, self.model, self._pairs)
        if self.model.memory.unsure:
            self._note(f"but for its vmas: {self.model.memory.unsure}")
            return
        yield from compare_slots(match, self.model)
        yield from compare_items(match, self.model)
        yield from compare_tree(match, self.model)

    def _note(self, why: str) -> None:
        text = f"what the second witness saw is compared with itself only, not with the model: {why}"
        if text not in self._notes:
            self._notes.append(text)

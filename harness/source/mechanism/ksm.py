# SPDX-License-Identifier: GPL-2.0-or-later
"""mm/ksm.c as far as the mechanism is concerned: its items, and what counts references to an anon_vma."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.csource.statements import Statement
from harness.csource.tokens import Function, Token, functions, structures
from harness.csource.usage import arguments, calls, has, members, parameters, variables
from harness.source.parts import KSM, Parts

__all__ = ["AROUND", "KSM", "Item", "Ksm", "Piece"]

AROUND = ("include/linux/rmap.h", "mm/internal.h", "mm/rmap.c")
"""Where references to an anon_vma are counted, besides mm/ksm.c."""

COUNT_UP = re.compile(r"(?:raw_)?(?:atomic|refcount|kref)\w*_(?:inc|get|add)\w*")
COUNT_DOWN = re.compile(r"(?:raw_)?(?:atomic|refcount|kref)\w*_(?:dec|put|sub)\w*")


@dataclass(frozen=True)
class Piece:
    """A part of the mechanism: ``places`` are where it is (``mm/ksm.c:197 struct ksm_rmap_item``), ``missing`` what is not."""

    name: str
    places: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """It is there, and nothing of it is missing."""
        return bool(self.places) and not self.missing


@dataclass(frozen=True)
class Item:
    """The structure that stands for a merged page's mapping, and its fields: anon_vma, mm, links in lists."""

    struct: str
    anon_vma: str
    mm: str
    links: frozenset[str]
    start: int


def find_item(text: str) -> Item | None:
    """The first structure that has all that an item needs."""
    for structure in structures(text):
        mms, anon_vmas = members(structure, "mm_struct", True), members(structure, "anon_vma", True)
        links = members(structure, "hlist_node", False)
        if mms and anon_vmas and links:
            return Item(structure.name, anon_vmas[0], mms[0], frozenset(links), structure.start)
    return None


def counts(tokens: Sequence[Token], anon_vmas: Iterable[str], pattern: re.Pattern[str]) -> bool:
    """Whether a counter inside one of these anon_vmas is counted by an atomic operation that the pattern names."""
    names = set(anon_vmas)
    return any(
        pattern.fullmatch(name.text) and any(has(given, "&", variable, "->") for variable in names)
        for name, given in calls(tokens)
    )


class Ksm:
    """KSM's parts and what stands around them, with the item known."""

    def __init__(self, parts: Parts, files: Mapping[str, str], item: Item) -> None:
        self.text = parts.text
        self._parts = parts
        self.item = item
        self.functions = list(functions(self.text))
        around = [f for path in AROUND if path in files for f in functions(files[path])]
        self.takers = self._counters([*around, *self.functions], COUNT_UP)
        self.droppers = self._counters([*around, *self.functions], COUNT_DOWN)

    def place(self, offset: int, words: str) -> str:
        """As reports have it."""
        return f"{self._parts.place(offset)} {words}"

    def _counters(self, all_of_them: Sequence[Function], pattern: re.Pattern[str]) -> set[str]:
        """Functions that are given an anon_vma, or an item, and count its references; and those that leave it to such a one."""
        given = []
        for function in all_of_them:
            handed = parameters(function, "anon_vma") | parameters(function, self.item.struct)
            if handed:
                given.append((function, handed))
        found = {f.name for f, _ in given if counts(f.tokens, variables(f, "anon_vma"), pattern)}
        while True:
            more = {f.name for f, handed in given if f.name not in found and self._about(f, handed, found)}
            if not more:
                return found
            found |= more

    def _about(self, function: Function, names: Iterable[str], callees: set[str]) -> list[tuple[str, int]]:
        """Calls of ``callees`` with one of these variables, with its anon_vma, or with a copy of that: (variable, offset)."""
        found = []
        for name, given in calls(function.tokens):
            if name.text in callees:
                words = arguments(given)
                found += [(v, name.start) for v in names if set(words) & self.anon_vmas(function, v)]
        return found

    def anon_vmas(self, function: Function, variable: str) -> set[str]:
        """The texts that stand for a variable, if it is an item for its anon_vma, in this function."""
        texts, own = {variable, f"{variable} -> {self.item.anon_vma}"}, ["=", variable, "->", self.item.anon_vma]
        words = [t.text for t in function.tokens]
        return texts | {words[i - 1] for i in range(1, len(words) - 3) if words[i : i + 4] == own}

    def items_of(self, function: Function) -> set[str]:
        """The function's variables that are items."""
        return variables(function, self.item.struct)

    def drops(self, function: Function) -> list[tuple[str, int]]:
        """Where the function drops the reference of an item: (variable, offset)."""
        return self._about(function, self.items_of(function), self.droppers)


def item_loop(statement: Statement, items: set[str]) -> str:
    """The item variable that a loop over a list of items goes by, or ""."""
    if statement.kind == "loop" and statement.name.startswith("hlist_for_each") and statement.head:
        first = statement.head[0].text
        return first if first in items else ""
    return ""


def clears(source: Ksm, loop: Statement, variable: str) -> bool:
    """Whether a field of the item is set in the loop, the flags in its address: it is in the stable tree no more."""
    words = [t.text for t in loop.tokens]
    return any(
        words[i : i + 2] == [variable, "->"] and words[i + 3] in ("&=", "=") and words[i + 2] != source.item.anon_vma
        for i in range(len(words) - 3)
    )

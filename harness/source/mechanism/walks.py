# SPDX-License-Identifier: GPL-2.0-or-later
"""The walks over a node's items and their anon_vmas' vmas: do they come to the owners' ptes and to those of forks?"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.csource.statements import Statement, statements
from harness.csource.tokens import Function
from harness.csource.usage import arguments, calls, has, parameter_names
from harness.source.mechanism.ksm import Ksm, Piece, clears, item_loop


@dataclass(frozen=True)
class _Walk:
    """A loop over items, and one over the vmas of an item's anon_vma: inside of it, or in a function that it calls."""

    items: Statement
    filters: tuple[_Filter, ...]
    plain: bool  # no other loop stands between


@dataclass(frozen=True)
class _Filter:
    """A comparison of an item's mm with a vma's: ``passes`` are the variables that decide which of the two is wanted."""

    offset: int
    passes: frozenset[str]
    owner: bool  # without such a variable: vmas of the owner are looked at, or those of others


def find(source: Ksm) -> Piece:
    """All functions that go over items and the vmas of their anon_vmas."""
    places, missing, plain = [], [], False
    for function in source.functions:
        items = source.items_of(function)
        body = statements(function)
        inner: list[_Walk] = []
        for loop in body.walk():
            if not (variable := item_loop(loop, items)):
                continue
            if found := [*_own(source, function, loop, variable), *_called(source, loop, variable)]:
                inner += found
            elif _uses_mm(source, loop, variable) and not clears(source, loop, variable):
                missing.append(source.place(loop.start, f"{function.name}() searches the items' own mms and no anon_vma"))
        if inner:
            where = source.place(function.start, f"{function.name}()")
            if fault := _fault(source, function, body, inner):
                missing.append(f"{where} {fault}")
            else:
                plain = plain or any(walk.plain for walk in inner)
                places.append(where)
    if not plain and not missing:
        missing.append("no walk over the items' anon_vmas was recognised")
    return Piece("walk over owners and forks", tuple(places), tuple(missing))


def _own(source: Ksm, function: Function, loop: Statement, variable: str) -> Iterator[_Walk]:
    """The walks whose loop over vmas is inside a loop over items."""
    for vmas in _vma_loops(source, function, loop, variable):
        yield _Walk(loop, tuple(_filters(source, function, vmas, variable)), not _between(loop, vmas))


def _called(source: Ksm, loop: Statement, variable: str) -> Iterator[_Walk]:
    """The walks whose loop over vmas is in a function of KSM's that is handed the item."""
    for name, given in calls(loop.tokens):
        words = arguments(given)
        for function in source.functions if variable in words else ():
            handed = parameter_names(function)
            if function.name != name.text or len(handed) != len(words):
                continue
            body, item = statements(function), handed[words.index(variable)]
            if item not in source.items_of(function):
                continue
            for vmas in _vma_loops(source, function, body, item):
                callers = dict(zip(handed, words, strict=True))
                filters = tuple(_as_called(one, callers) for one in _filters(source, function, vmas, item))
                yield _Walk(loop, filters, not _between(body, vmas))


def _as_called(one: _Filter, words: Mapping[str, str]) -> _Filter:
    """A filter with the caller's words for its parameters."""
    names = frozenset(name for p in one.passes for name in re.findall(r"[A-Za-z_]\w*", words.get(p, p)))
    return dataclasses.replace(one, passes=names)


def _vma_loops(source: Ksm, function: Function, loop: Statement, variable: str) -> list[Statement]:
    """The loops inside a loop over items that go over the vmas of the item's anon_vma."""
    texts = source.anon_vmas(function, variable) - {variable}
    found = []
    for inner in loop.walk():
        if inner is not loop and inner.kind == "loop":
            words = " ".join(t.text for t in inner.head)
            if any(re.search(rf"(?<![\w>.] )\b{re.escape(text)}\b", words) for text in texts):
                found.append(inner)
    return found


def _between(outer: Statement, inner: Statement) -> bool:
    """Whether another loop stands between two: one over processes, as in collect_procs_ksm()."""
    return any(
        s.kind in ("loop", "while") and outer.start < s.start < inner.start and s.end >= inner.end
        for s in outer.walk()
        if s is not outer
    )


def _uses_mm(source: Ksm, loop: Statement, variable: str) -> bool:
    """Whether the item's mm itself is used, and not only something in it, or what it is compared with."""
    words = [t.text for t in loop.tokens]
    want = [variable, "->", source.item.mm]
    compared = ("->", "==", "!=")
    return any(
        words[i : i + 3] == want and words[i + 3] not in compared and words[i - 1] not in compared for i in range(len(words) - 3)
    )


def _filters(source: Ksm, function: Function, vma_loop: Statement, variable: str) -> Iterator[_Filter]:
    own = f"{variable} -> {source.item.mm}"
    for statement in vma_loop.walk():
        if statement.kind != "if":
            continue
        words = " ".join(t.text for t in statement.head)
        found = re.search(rf"{re.escape(own)} (==|!=) \w+ -> vm_mm\b|\w+ -> vm_mm (==|!=) {re.escape(own)}(?! ->)", words)
        if not found:
            continue
        rest = words[: found.start()] + words[found.end() :]
        if _leaves_to_owner(source, rest):
            continue
        names = {t.text for t in statement.head if t.kind == "name"}
        free = set(re.findall(r"(?<!-> )\b[A-Za-z_]\w*\b(?! (?:->|\())", rest)) & names & _changing(function)
        equal, skips = (found[1] or found[2]) == "==", statement.inner[0].kind == "jump"
        yield _Filter(statement.start, frozenset(free), equal != skips)


def _leaves_to_owner(source: Ksm, rest: str) -> bool:
    """Whether only vmas are left out that have an item of their own, for which a function looks: all are come to in one pass."""
    asked = re.match(r"\s*&& (\w+) \(.*-> vm_mm\b", rest)
    for function in source.functions if asked is not None else ():
        if asked is not None and function.name == asked[1]:
            loops = ((loop, item_loop(loop, source.items_of(function))) for loop in statements(function).walk())
            return any(
                has(loop.tokens, variable, "->", source.item.mm, "==") or has(loop.tokens, "==", variable, "->", source.item.mm)
                for loop, variable in loops
                if variable
            )
    return False


_NUMBERS = frozenset({"int", "bool", "unsigned", "long", "char", "u8"})


def _changing(function: Function) -> set[str]:
    """Names that may be variables with numbers: what stands behind a number's type or a comma, and the parameters."""
    body = function.tokens
    found = {b.text for a, b in itertools.pairwise(body) if b.kind == "name" and (a.text in _NUMBERS or a.text == ",")}
    return found | {t.text for t in function.parameters if t.kind == "name"}


def _fault(source: Ksm, function: Function, body: Statement, inner: Sequence[_Walk]) -> str:
    """Why a walk does not come to owners and forks, or ""."""
    reached: set[bool] = set()
    for walk in inner:
        if not walk.filters:
            return ""
        for one in walk.filters:
            if not one.passes:
                reached.add(one.owner)
            elif any(_repeats(source, function, body, walk.items, name) for name in one.passes):
                return ""
    if reached == {True, False}:
        return ""
    if reached == {False}:
        return "never searches the items' own mms"
    return (
        "never searches other mms than the items' own: forks are not found"
        if reached
        else ("has no second pass: forks are not found")
    )


def _repeats(source: Ksm, function: Function, body: Statement, loop: Statement, name: str) -> bool:
    """Whether the loop over items is gone through again with another value of a variable."""
    parameters = parameter_names(function)
    if name in parameters:
        index = parameters.index(name)
        given = [arguments(a) for f in source.functions for n, a in calls(f.tokens) if n.text == function.name]
        values = {words[index] for words in given if len(words) > index}
        return len(values) > 1 or any(not re.fullmatch(r"\d+|true|false", value) for value in values)
    changes = [
        s for s in body.walk()
        if s.kind in ("expression", "if", "while", "loop")
        and any(has(s.head or s.tokens, *words) for words in ((name, "++"), ("++", name), (name, "="), (name, "^=")))
    ]  # fmt: skip
    if not changes:
        return False
    labels = {s.tokens[0].text for s in body.walk() if s.kind == "label" and s.start < loop.start}
    back = (s for s in body.walk() if s.kind == "jump" and s.tokens[0].text == "goto" and s.start > loop.end)
    around = (s for s in body.walk() if s.kind in ("loop", "while") and s.start < loop.start and s.end >= loop.end)
    return any(s.tokens[1].text in labels for s in back) or any(around)

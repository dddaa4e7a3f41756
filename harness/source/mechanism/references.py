# SPDX-License-Identifier: GPL-2.0-or-later
"""An item's reference to its anon_vma: taken when it is merged, dropped wherever the item leaves the stable tree."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.csource.statements import statements
from harness.csource.tokens import Function, Token
from harness.csource.usage import arguments, calls, parameters, variables
from harness.source.mechanism.ksm import COUNT_UP, KSM, Ksm, Piece, clears, counts, item_loop


def taken(source: Ksm) -> Piece:
    """Where an item's anon_vma is set."""
    places, missing = [], []
    called = {name.text for f in source.functions for name, _ in calls(f.tokens)}
    for function in source.functions:
        words = [t.text for t in function.tokens]
        for variable in source.items_of(function):
            set_here = [variable, "->", source.item.anon_vma, "="]
            for index in range(len(words) - 4):
                if words[index : index + 4] != set_here or words[index + 4] == "NULL":
                    continue
                offset = function.tokens[index].start
                where = source.place(offset, f"{function.name}()")
                counted = counts(function.tokens, variables(function, "anon_vma"), COUNT_UP)
                if not counted and not any(name.text in source.takers for name, _ in calls(function.tokens)):
                    missing.append(f"{where} sets the item's anon_vma and takes no reference to it")
                elif function.name not in called:
                    missing.append(f"{where} takes the reference, and nothing in {KSM} calls it")
                else:
                    places.append(where)
    if not places and not missing:
        missing.append("nothing sets an item's anon_vma")
    return Piece("reference taken when merged", tuple(places), tuple(missing))


def dropped_by_item(source: Ksm) -> Piece:
    """Where an item is taken off its node's list."""
    places, missing = [], []
    for function in source.functions:
        items, drops = source.items_of(function), source.drops(function)
        for name, given in calls(function.tokens):
            words = [t.text for t in given]
            if not name.text.startswith("hlist_del") or len(words) != 4:  # & item -> link
                continue
            if words[1] in items and words[3] in source.item.links:
                where = source.place(name.start, f"{function.name}()")
                if any(variable == words[1] for variable, _ in drops):
                    places.append(where)
                else:
                    missing.append(f"{where} takes an item off its list and keeps its reference")
    if not places and not missing:
        missing.append("no function takes an item off its list")
    return Piece("reference dropped by an item", tuple(places), tuple(missing))


def dropped_with_node(source: Ksm) -> Piece:
    """Where a node goes with all its items.  At first there was no such place."""
    places, missing = [], []
    for function in source.functions:
        items, drops = source.items_of(function), source.drops(function)
        for loop in statements(function).walk():
            variable = item_loop(loop, items)
            if variable and clears(source, loop, variable):
                where = source.place(loop.start, f"{function.name}()")
                if any(name == variable and loop.start < at < loop.end for name, at in drops):
                    places.append(where)
                else:
                    missing.append(f"{where} lets all items of a node go and keeps their references")
    return Piece("references dropped with a node", tuple(places), tuple(missing))


def dropped_when_undone(source: Ksm) -> Piece:
    """Where a merge is undone, by the function that undoes it or by its callers."""
    places, missing = [], []
    for function in source.functions:
        if _is_undo(source, function):
            if source.drops(function):
                places.append(source.place(function.start, f"{function.name}()"))
            else:
                good, bad = _undone_by_callers(source, function)
                places += good
                missing += bad
    if not places and not missing:
        places = _undone_in_place(source)
    if not places and not missing:
        missing.append("no function that undoes a merge was recognised")
    return Piece("reference dropped when a merge is undone", tuple(places), tuple(missing))


def _is_undo(source: Ksm, function: Function) -> bool:
    """``static void f(struct ITEM *)`` that reads the mm's page tables under its lock: break_cow()."""
    handed = parameters(function, source.item.struct)
    if len(handed) != 1 or any(t.text == "," for t in function.parameters):
        return False
    if not re.search(r"\bvoid\s+$", source.text[: function.start]):
        return False
    return any(_locks(name.text, given) for name, given in calls(function.tokens))


def _locks(name: str, given: Sequence[Token]) -> bool:
    """A call that takes an mm's lock for page tables, or does so for as long as a scope lasts: guard(mmap_read_lock)(mm)."""
    if name in ("guard", "scoped_guard", "CLASS"):
        return bool(given) and "mmap" in given[0].text
    return name in ("mmap_read_lock", "down_read")


def _undone_in_place(source: Ksm) -> list[str]:
    """Where no function undoes a merge: those that drop an item's reference, and take the mm's lock for page tables behind it."""
    found = []
    for function in source.functions:
        locked = [name.start for name, given in calls(function.tokens) if _locks(name.text, given)]
        found += [source.place(at, f"{function.name}()") for _, at in source.drops(function) if any(at < lock for lock in locked)]
    return found


def _undone_by_callers(source: Ksm, undo: Function) -> tuple[list[str], list[str]]:
    """The calls of a function that undoes a merge, each of which must stand behind a drop in the same block."""
    good, bad = [], []
    for function in source.functions:
        drops, body = source.drops(function), list(statements(function).walk())
        for statement in body:
            if statement.kind != "expression" or statement.name != undo.name:
                continue
            blocks = [s for s in body if s.kind == "compound" and s.start < statement.start < s.end]
            block = max(blocks, key=lambda s: s.start)
            argument = arguments(next(calls(statement.tokens))[1])
            where = source.place(statement.start, f"{function.name}()")
            if any([variable] == argument and block.start < at < statement.start for variable, at in drops):
                good.append(where)
            else:
                bad.append(f"{where} undoes a merge and keeps the reference")
    return good, bad

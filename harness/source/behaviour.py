# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tree's own code says of how its kernel behaves where kernels differ and no file of the running one tells.

By functions and by the order of calls, whatever the version is: a backport is known, and a bug inside such a function is none
of it.  Fields are those of harness.oracle.Semantics.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.csource.statements import Statement, statements
from harness.csource.tokens import Function, functions, line_of
from harness.source.content import ReadText
from harness.source.mechanism import KSM

_COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.DOTALL)


@dataclass(frozen=True)
class Told:
    """A field's value, and where that is seen: ``mm/ksm.c:2102 cmp_and_merge_page``."""

    field: str
    value: bool
    place: str


# The field, and where there is what makes it true: an identifier that stands there, behind which a parenthesis may be wanted.
_THERE = (
    ("has_merge_any", "kernel/sys.c", "PR_SET_MEMORY_MERGE", ""),
    ("swap_ptes_keep_exclusive", "mm/rmap.c", "pte_swp_mkexclusive", "("),
    ("mlock_marks_ksm", "mm/mlock.c", "mlock_pte_range", "("),
    ("split_maps_zeros", "mm/migrate.c", "try_to_map_unused_to_zeropage", "("),
    ("hwpoison_takes_ksm", "mm/memory-failure.c", "collect_procs_ksm", "("),
)


def examine(read: ReadText) -> tuple[Told, ...]:
    """What can be told; a file that is not there, or code that has another form, tells nothing."""
    found = [told for row in _THERE if (told := _there(read, *row)) is not None]
    if (text := read(KSM)) is not None:
        with contextlib.suppress(ValueError):  # no C that can be followed: then it is measured
            found += _of_ksm(text)
    return tuple(found)


def _there(read: ReadText, field: str, path: str, name: str, behind: str) -> Told | None:
    text = read(path)
    if text is None:
        return None
    bare = _COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    found = re.search(rf"\b{name}\b\s*{re.escape(behind)}", bare)
    return Told(field, found is not None, f"{path}:{line_of(text, found.start())} {name}" if found else f"no {name} in {path}")


def _of_ksm(text: str) -> Iterator[Told]:
    known = {function.name: function for function in functions(text)}

    def place(function: Function, offset: int) -> str:
        return f"{KSM}:{line_of(text, offset)} {function.name}"

    if (merge := known.get("cmp_and_merge_page")) is not None:
        checksum, search = (_first(merge, name) for name in ("calc_checksum", "stable_tree_search"))
        if checksum is not None and search is not None:
            yield Told("cksum_first", checksum < search, place(merge, checksum))
    if (hash_ := known.get("calc_checksum")) is not None:
        first = _first(hash_, "xxhash")
        yield Told("xxh64_checksum", first is not None, place(hash_, hash_.start if first is None else first))
    if (walk := known.get("stable_tree_search")) is not None:
        for found in _gives_up(statements(walk)):
            yield Told("stale_node_ends_search", found.tokens[0].text == "return", place(walk, found.start))
    if (dup := known.get("stable_node_dup")) is not None:
        for head in _collapses(statements(dup)):
            words = {token.text for token in head.head}
            clock = "prune_stale_stable_nodes" in words
            if clock != ("hlist_is_singular_node" in words):
                yield Told("single_dup_leaves_chain", not clock, place(dup, head.start))
    else:
        yield Told("single_dup_leaves_chain", False, f"no stable_node_dup in {KSM}")


def _first(function: Function, name: str) -> int | None:
    """Offset of the first token of this name in a function."""
    return next((token.start for token in function.tokens if token.text == name), None)


def _gives_up(body: Statement) -> Iterator[Statement]:
    """What is done in a walk down the tree where there is no page: the first jump behind a mere ``if (!page)``."""
    loop = next((s for s in body.walk() if s.kind == "while"), body)
    for statement in loop.walk():
        if statement.kind == "if" and len(statement.head) == 2 and statement.head[0].text == "!":
            then = statement.inner[0]
            only = then.inner[0] if then.kind == "compound" and len(then.inner) == 1 else then
            if only.kind == "jump":
                yield only
                return


def _collapses(body: Statement) -> Iterator[Statement]:
    """The if whose first branch puts a dup in its chain's place."""
    for statement in body.walk():
        inside = statement.inner[0].inner if statement.kind == "if" else ()
        if any(inner.name == "rb_replace_node" for inner in inside):
            yield statement

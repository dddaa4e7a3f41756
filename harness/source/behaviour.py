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
    ("unmerging_empties_tree", KSM, "remove_all_stable_nodes", "("),
    ("split_maps_zeros", "mm/migrate.c", "try_to_map_unused_to_zeropage", "("),
    ("hwpoison_takes_ksm", "mm/memory-failure.c", "collect_procs_ksm", "("),
    ("cow_frees_swap_cache", "mm/memory.c", "free_swap_cache", "("),
)


def examine(read: ReadText) -> tuple[Told, ...]:
    """What can be told; a file that is not there, or code that has another form, tells nothing."""
    found = [told for row in _THERE if (told := _there(read, *row)) is not None]
    if (text := read(KSM)) is not None:
        with contextlib.suppress(ValueError):  # no C that can be followed: then it is measured
            found += _of_ksm(text)
    found += _of_pages(read)
    return tuple(found)


def _there(read: ReadText, field: str, path: str, name: str, behind: str) -> Told | None:
    text = read(path)
    if text is None:
        return None
    bare = _COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    found = re.search(rf"\b{name}\b\s*{re.escape(behind)}", bare)
    if found is None:
        return Told(field, False, f"no {name} in {path}")
    return Told(field, True, f"{path}:{line_of(text, found.start())} {found[0].rstrip('( ')}")


def _known(read: ReadText, path: str) -> dict[str, Function]:
    """A file's functions by name, the first of a name; none where it is not there, or no C that can be followed."""
    known: dict[str, Function] = {}
    with contextlib.suppress(ValueError):
        for function in functions(read(path) or ""):
            known.setdefault(function.name, function)
    return known


# The field, names of which one makes it true, and where they are looked for: in the first of these functions that is there.
_CALLS = (
    ("wp_counts_users", ("reuse_swap_page",), (("mm/memory.c", "do_wp_page"),)),
    ("wp_reuses_ksm", ("reuse_ksm_page",), (("mm/memory.c", "do_wp_page"),)),
    ("swap_cache_by_root", ("root",), ((KSM, "ksm_might_need_to_copy"), ("include/linux/ksm.h", "ksm_might_need_to_copy"))),
    ("merge_forgets_checksum", ("linear_page_index",), ((KSM, "remove_rmap_item_from_tree"),)),
    ("unmap_stops_at_young", ("TTU_IGNORE_ACCESS",), (("mm/rmap.c", "try_to_unmap_one"),)),
    ("reuses_anon_vmas", ("num_active_vmas", "degree", "maybe_reuse_anon_vma"), (("mm/rmap.c", "anon_vma_clone"),)),
)


def _of_pages(read: ReadText) -> Iterator[Told]:
    files = {path: _known(read, path) for path in ("mm/memory.c", "mm/migrate.c", "mm/rmap.c", KSM, "include/linux/ksm.h")}

    def told(field: str, found: bool, path: str, function: Function, at: int | None) -> Told:
        return Told(field, found, _place(path, read(path) or "", function, at))

    for field, names, places in _CALLS:
        for path, where in places:
            if (function := files[path].get(where)) is not None:
                at = next((at for name in names if (at := _first(function, name)) is not None), None)
                yield told(field, at is not None, path, function, at)
                break
    # One commit resets the child's numbers and counts its pages of zeros.  Where ksm_fork has none of it, dup_mm may have.
    if (fork := files["include/linux/ksm.h"].get("ksm_fork")) is not None:
        names = ("ksm_merging_pages", "ksm_rmap_items", "ksm_zero_pages")
        at = next((at for name in names if (at := _first(fork, name)) is not None), None)
        if at is not None:
            yield told("merging_inherited_at_fork", False, "include/linux/ksm.h", fork, at)
    advice = _known(read, "mm/madvise.c")
    if (function := advice.get("madvise_hwpoison") or advice.get("madvise_inject_error")) is not None:
        words = " ".join(token.text for token in function.tokens)
        yield Told("madvise_tells_offline", words.count("int ret") < 2, f"mm/madvise.c {function.name}")
        yield Told("madvise_tells_poison", "ret = memory_failure (" in words, f"mm/madvise.c {function.name}")
    if files["mm/migrate.c"]:
        for moves in files["mm/migrate.c"].values():
            at = _refuses_ksm(moves)
            if at is not None:
                yield told("migrates_ksm", False, "mm/migrate.c", moves, at)
                break
        else:
            yield Told("migrates_ksm", True, "nothing in mm/migrate.c refuses a KSM page unless memory goes")


def _refuses_ksm(function: Function) -> int | None:
    """Offset of ``PageKsm(page) && !offlining``."""
    words = [token.text for token in function.tokens]
    for i, word in enumerate(words):
        if word == "PageKsm" and words[i + 4 : i + 7] == ["&&", "!", "offlining"]:
            return function.tokens[i].start
    return None


def _place(path: str, text: str, function: Function, at: int | None) -> str:
    """Where in a function something is seen; None: in all of it."""
    return f"{path}:{line_of(text, function.start if at is None else at)} {function.name}"


def _of_ksm(text: str) -> Iterator[Told]:
    known = {function.name: function for function in functions(text)}

    def place(function: Function, at: int | None) -> str:
        return _place(KSM, text, function, at)

    if (merge := known.get("cmp_and_merge_page")) is not None:
        checksum, search = (_first(merge, name) for name in ("calc_checksum", "stable_tree_search"))
        if checksum is not None and search is not None:
            yield Told("cksum_first", checksum < search, place(merge, checksum))
    if (hash_ := known.get("calc_checksum")) is not None:
        first = _first(hash_, "xxhash")
        yield Told("xxh64_checksum", first is not None, place(hash_, first))
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

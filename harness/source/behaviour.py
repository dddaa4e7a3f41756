# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tree's own code says of how its kernel behaves where kernels differ and no file of the running one tells.

By functions and by the order of calls, whatever the version is: a backport is known, and a bug inside such a function is none
of it.  What a function does it may leave to another of its file, and what KSM does may be in another file of it
(harness.source.parts).  Fields are those of harness.oracle.Semantics.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.csource.statements import Statement, statements
from harness.csource.tokens import Function, Token, functions, line_of
from harness.csource.usage import arguments, calls, parameter_names
from harness.source.content import ReadText
from harness.source.parts import KSM, Parts, ksm_parts

_COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', re.DOTALL)


@dataclass(frozen=True)
class Told:
    """A field's value, and where that is seen: ``mm/ksm.c:2102 cmp_and_merge_page``."""

    field: str
    value: bool
    place: str


# The field, and where there is what makes it true: an identifier that stands in the first file or in one of mm's headers where
# parts of it may have gone.  What a series may call otherwise is known by what it alone calls.
_SWAPPED = ("include/linux/swapops.h", "mm/internal.h", "mm/swap.h")
_THERE = (
    ("has_merge_any", ("kernel/sys.c",), r"PR_SET_MEMORY_MERGE\b"),
    ("swap_ptes_keep_exclusive", ("mm/rmap.c", *_SWAPPED), r"pte_swp_mkexclusive\s*\("),
    ("mlock_marks_ksm", ("mm/mlock.c",), r"(?:mlock_pte_range|walk_page_range\w*)\s*\("),
    ("split_maps_zeros", ("mm/migrate.c",), r"(?:try_to_map_unused_to_zeropage|pages_identical)\s*\("),
    ("hwpoison_takes_ksm", ("mm/memory-failure.c",), r"collect_procs_ksm\s*\("),
    ("cow_frees_swap_cache", ("mm/memory.c", *_SWAPPED), r"free_swap_cache\s*\("),
)


def examine(read: ReadText) -> tuple[Told, ...]:
    """What can be told; a file that is not there, or code that has another form, tells nothing."""
    found = [told for row in _THERE if (told := _there(read, *row)) is not None]
    parts = ksm_parts(read)
    ksm, whole = _by_name(parts.text) if parts is not None else ({}, False)
    if parts is not None and whole:
        with contextlib.suppress(ValueError):  # no C that can be followed: then it is measured
            found += _of_ksm(parts, ksm)
    found += _of_pages(read, parts, ksm)
    better = {told.field: told for told in found}  # the last of a field
    return tuple(better.values())


def _there(read: ReadText, field: str, paths: tuple[str, ...], pattern: str) -> Told | None:
    texts = [(path, text) for path in paths if (text := read(path)) is not None]
    if not texts or texts[0][0] != paths[0]:
        return None
    for path, text in texts:
        bare = _COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
        if (found := re.search(rf"\b{pattern}", bare)) is not None:
            return Told(field, True, f"{path}:{line_of(text, found.start())} {found[0].rstrip('( ')}")
    return Told(field, False, f"no {_first_name(pattern)} in {paths[0]}")


def _first_name(pattern: str) -> str:
    return str(re.findall(r"\w{4,}", pattern)[0])


def _by_name(text: str) -> tuple[dict[str, Function], bool]:
    """Functions by name, the first of a name, as far as the text is C that can be followed; and whether it is to its end."""
    known: dict[str, Function] = {}
    with contextlib.suppress(ValueError):
        for function in functions(text):
            known.setdefault(function.name, function)
        return known, True
    return known, False


def _known(read: ReadText, path: str) -> dict[str, Function]:
    """A file's functions by name; none where it is not there."""
    return _by_name(read(path) or "")[0]


def _closure(function: Function, known: Mapping[str, Function]) -> list[Function]:
    """A function, and those of its file that it calls: it may have been split."""
    called = (known[name.text] for name, _ in calls(function.tokens) if name.text in known and name.text != function.name)
    return [function, *{f.name: f for f in called}.values()]


# The field, names of which one makes it true, and where they are looked for: in the first of these functions that is there, and
# in what it calls.
_CALLS = (
    ("wp_counts_users", ("reuse_swap_page",), (("mm/memory.c", "do_wp_page"),)),
    ("wp_reuses_ksm", ("reuse_ksm_page",), (("mm/memory.c", "do_wp_page"),)),
    ("swap_cache_by_root", ("-> root",), ((KSM, "ksm_might_need_to_copy"), ("include/linux/ksm.h", "ksm_might_need_to_copy"))),
    ("unmap_stops_at_young", ("TTU_IGNORE_ACCESS",), (("mm/rmap.c", "try_to_unmap_one"),)),
    ("reuses_anon_vmas", ("num_active_vmas", "degree", "maybe_reuse_anon_vma"), (("mm/rmap.c", "anon_vma_clone"),)),
)


def _of_pages(read: ReadText, parts: Parts | None, ksm: dict[str, Function]) -> Iterator[Told]:
    files = {path: _known(read, path) for path in ("mm/memory.c", "mm/migrate.c", "mm/rmap.c", "include/linux/ksm.h")}
    files[KSM] = ksm

    def place(path: str, function: Function, at: int | None) -> str:
        if path == KSM and parts is not None:
            return _ksm_place(parts, function, at)
        return _place(path, read(path) or "", function, at)

    for field, names, places in _CALLS:
        for path, where in places:
            if (first := files[path].get(where)) is not None:
                found = ((f, at) for f in _closure(first, files[path]) for n in names if (at := _first(f, n)) is not None)
                function, at = next(found, (first, None))
                yield Told(field, at is not None, place(path, function, at))
                break
    yield from _freed_after_copy(files["mm/memory.c"], place)
    yield from _reset_at_fork(files["include/linux/ksm.h"], place)
    yield from _advice(_known(read, "mm/madvise.c"))
    yield from _poison(read)
    if files["mm/migrate.c"]:
        for moves in files["mm/migrate.c"].values():
            at = _refuses_ksm(moves)
            if at is not None:
                yield Told("migrates_ksm", False, place("mm/migrate.c", moves, at))
                break
        else:
            yield Told("migrates_ksm", True, "nothing in mm/migrate.c refuses a KSM page unless memory goes")


_Place = Callable[[str, Function, "int | None"], str]


def _freed_after_copy(memory: Mapping[str, Function], place: _Place) -> Iterator[Told]:
    """What comes behind the copy frees the swap cache and drops the page in one."""
    for function in memory.values():
        if function.name.startswith(("do_wp_", "wp_")):
            for name in ("free_page_and_swap_cache", "free_folio_and_swap_cache"):
                if (at := _first(function, name)) is not None:
                    yield Told("cow_frees_swap_cache", True, place("mm/memory.c", function, at))


def _reset_at_fork(known: Mapping[str, Function], place: _Place) -> Iterator[Told]:
    """One commit resets the child's numbers and counts its pages of zeros.  Where ksm_fork has none of it, dup_mm may have."""
    if (fork := known.get("ksm_fork")) is None:
        return
    counters = {"ksm_merging_pages", "ksm_rmap_items", "ksm_zero_pages"}
    for token, after in itertools.pairwise(fork.tokens):
        if token.text in counters and after.text == "=":
            yield Told("merging_inherited_at_fork", False, place("include/linux/ksm.h", fork, token.start))
            return
    for name, given in calls(fork.tokens):
        changes = re.search(r"_(?:set|add|sub|inc|dec)(?:_|$)", name.text)
        if changes and any(words.startswith("&") and words.split()[-1] in counters for words in arguments(given)):
            yield Told("merging_inherited_at_fork", False, place("include/linux/ksm.h", fork, name.start))
            return


def _advice(known: Mapping[str, Function]) -> Iterator[Told]:
    """madvise's errors: whether any is lost."""
    function = known.get("madvise_hwpoison") or known.get("madvise_inject_error")
    if function is None:
        return
    words = " ".join(token.text for token in function.tokens)
    yield Told("madvise_tells_offline", words.count("int ret") < 2, f"mm/madvise.c {function.name}")
    for one in _closure(function, known):
        if any(name.text in _POISONS for name, _ in calls(one.tokens)):
            with contextlib.suppress(ValueError):
                lost = any(s.kind == "expression" and s.name in _POISONS for s in statements(one).walk())
                yield Told("madvise_tells_poison", not lost, f"mm/madvise.c {one.name}")
            return


_POISONS = ("memory_failure", "__memory_failure")


def _poison(read: ReadText) -> Iterator[Told]:
    """A KSM page with a memory error is taken away, or refused: the branch for KSM pages returns."""
    path = "mm/memory-failure.c"
    if (text := read(path)) is None:
        return
    known = _known(read, path)
    if any(_first(function, "collect_procs_ksm") is not None for function in known.values()):
        return  # as it is called everywhere so far
    asks = ("PageKsm", "folio_test_ksm")
    for function in known.values():
        if not any(token.text in asks for token in function.tokens):
            continue
        with contextlib.suppress(ValueError):
            for statement in statements(function).walk():
                if statement.kind == "if" and any(token.text in asks for token in statement.head):
                    inside = list(statement.inner[0].walk())
                    takes = not any(s.kind == "jump" for s in inside) and any(s.name for s in inside)
                    yield Told("hwpoison_takes_ksm", takes, _place(path, text, function, statement.start))
                    return


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


def _ksm_place(parts: Parts, function: Function, at: int | None) -> str:
    """The same in KSM's parts."""
    return f"{parts.place(function.start if at is None else at)} {function.name}"


def _of_ksm(parts: Parts, known: Mapping[str, Function]) -> Iterator[Told]:
    place = functools.partial(_ksm_place, parts)
    if (merge := known.get("cmp_and_merge_page")) is not None:
        checksum, search = _compared(merge, known), _first(merge, "stable_tree_search")
        if checksum is not None and search is not None:
            yield Told("cksum_first", checksum < search, place(merge, checksum))
    yield from _stays(known, place)
    yield from _checksum(known, place)
    if known:
        forgets = next(((f, at) for f in known.values() if (at := _first(f, "-> linear_page_index = 0")) is not None), None)
        where = place(*forgets) if forgets is not None else f"nothing in {KSM} resets linear_page_index"
        yield Told("merge_forgets_checksum", forgets is not None, where)
    if (walk := known.get("stable_tree_search")) is not None:
        for found in _gives_up(statements(walk)):
            ends = [token.text for token in found.tokens[:3]] == ["return", "NULL", ";"]
            yield Told("stale_node_ends_search", ends, place(walk, found.start))
    late = (n.start for f in known.values() for n, _ in calls(f.tokens) if n.text in _AFTER_GRACE)
    at = next(late, None)
    where = f"nothing in {KSM} is freed after a grace period" if at is None else parts.place(at)
    yield Told("frees_after_grace", at is not None, where)
    yield from _chains(parts, known, place)
    yield from _empties_tree(known, place)


_AFTER_GRACE = ("call_rcu", "call_rcu_hurry", "kfree_rcu", "kvfree_rcu", "kfree_rcu_mightsleep", "kvfree_rcu_mightsleep")
_KsmPlace = Callable[[Function, "int | None"], str]


_COMPARES = ("oldchecksum !=", "oldchecksum ==", "!= rmap_item -> oldchecksum", "== rmap_item -> oldchecksum")


def _compared(merge: Function, known: Mapping[str, Function]) -> int | None:
    """Offset of where the checksum is compared with the last one, here or in what is called; else of where it is made."""
    own = _first(merge, *_COMPARES)
    for name, _ in calls(merge.tokens):
        called = known.get(name.text)
        if called is not None and _first(called, *_COMPARES) is not None:
            return name.start if own is None else min(own, name.start)
    return _first(merge, "calc_checksum") if own is None else own


def _stays(known: Mapping[str, Function], place: _KsmPlace) -> Iterator[Told]:
    """Of two pages that are merged, is the one that becomes the KSM page, without another, the one that ksmd is at?

    ``try_to_merge_two_pages`` calls the same function twice, first with NULL for the KSM page, then with the first page; what
    ksmd is at are parameters of its caller.
    """
    for merge in known.values():
        for name, item, page in _made_first(merge):
            for of_item, of_page in _handed(merge, item, page, known):
                if of_item == of_page:
                    yield Told("met_last_stays", of_page, place(merge, name.start))
                    return


def _made_first(merge: Function) -> Iterator[tuple[Token, str, str]]:
    """A call with an item, a page and NULL, of which another call has the page for the KSM page; both are parameters."""
    merges = [(name, words) for name, given in calls(merge.tokens) if len(words := arguments(given)) == 3]
    for name, (item, page, kpage) in merges:
        again = any(other.text == name.text and words[2] == page for other, words in merges)
        if kpage == "NULL" and again and {item, page} <= set(parameter_names(merge)):
            yield name, item, page


def _handed(merge: Function, item: str, page: str, known: Mapping[str, Function]) -> Iterator[tuple[bool, bool]]:
    """For each call of a function: whether what it gets for an item and for a page are its caller's own parameters."""
    its = parameter_names(merge)
    for caller in known.values():
        met = parameter_names(caller)
        for called, given in calls(caller.tokens):
            handed = arguments(given)
            if called.text == merge.name and len(handed) == len(its):
                yield handed[its.index(item)] in met, handed[its.index(page)] in met


def _checksum(known: Mapping[str, Function], place: _KsmPlace) -> Iterator[Told]:
    """xxh64 as workloads/lib/contents.c knows it: with no seed.  How many of its bits are kept makes no difference."""
    for function in known.values():
        for name, given in calls(function.tokens):
            if name.text in ("xxhash", "xxh64"):
                yield Told("xxh64_checksum", arguments(given)[-1:] == ["0"], place(function, name.start))
                return
    for function in known.values():
        if "checksum" in function.name:
            yield Told("xxh64_checksum", False, place(function, None))
            return


def _chains(parts: Parts, known: Mapping[str, Function], place: _KsmPlace) -> Iterator[Told]:
    for function in known.values():
        if _first(function, "rb_replace_node") is None:
            continue
        for head in _collapses(statements(function)):
            asked = [known[t.text].tokens for t in head.head if t.text in known]
            words = {token.text for tokens in (head.head, *asked) for token in tokens}
            clock = "prune_stale_stable_nodes" in words
            if clock != ("hlist_is_singular_node" in words):
                yield Told("single_dup_leaves_chain", not clock, place(function, head.start))
                return
    if not re.search(r"\bksm_max_page_sharing\b|\bstable_node_dup\b", parts.text):
        yield Told("single_dup_leaves_chain", False, f"no chains in {KSM}")


def _empties_tree(known: Mapping[str, Function], place: _KsmPlace) -> Iterator[Told]:
    """By its name, or by its use: the trees' knobs ask ``ksm_pages_shared || remove_all_stable_nodes()``."""
    if (function := known.get("remove_all_stable_nodes")) is not None:
        yield Told("unmerging_empties_tree", True, place(function, None))
        return
    for asks in known.values():
        words = " ".join(token.text for token in asks.tokens)
        asked = re.search(r"\bksm_pages_shared \|\| (\w+) \( \)", words)
        if asked is not None and asked[1] in known:
            yield Told("unmerging_empties_tree", True, place(known[asked[1]], None))
            return
    yield Told("unmerging_empties_tree", False, f"no remove_all_stable_nodes in {KSM}")


def _first(function: Function, *texts: str) -> int | None:
    """Offset of the first place in a function where such tokens follow one another; None if there is none."""
    words = [token.text for token in function.tokens]
    for want in (text.split() for text in texts):
        for i in range(len(words) - len(want) + 1):
            if words[i] == want[0] and words[i : i + len(want)] == want:
                return function.tokens[i].start
    return None


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

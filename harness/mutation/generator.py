# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants from a kernel's source: every operator on every statement of the functions that KSM's rmap lives in."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.csource.statements import Statement, statements
from harness.csource.tokens import functions
from harness.mutation.operators import OPERATORS, Edit, is_arid

# File, and the functions in it of which mutants are made; patterns as in a shell.
FUNCTIONS: Mapping[str, Sequence[str]] = {
    "mm/ksm.c": (
        "rmap_walk_ksm", "stable_tree_append", "remove_rmap_item_from_tree", "remove_node_from_stable_tree", "break_cow",
        "try_to_merge_*", "stable_tree_search", "stable_tree_insert", "unstable_tree_search_insert", "cmp_and_merge_page",
        "scan_get_next_rmap_item", "ksm_might_need_to_copy", "folio_migrate_ksm", "ksm_migrate_page", "ksm_madvise",
        "__ksm_enter", "__ksm_exit", "unmerge_*",
    ),
    "mm/rmap.c": ("folio_referenced_one", "page_referenced_one", "try_to_unmap_one"),
    "include/linux/ksm.h": ("ksm_fork",),
}  # fmt: skip

FILES = tuple(FUNCTIONS)


@dataclass(frozen=True)
class Made:
    """One mutant: ``name`` stays the same while the statement does, wherever the function moves in its file."""

    name: str
    function: str
    operator: str
    path: str
    line: int  # of the statement's first changed character, from 1
    words: str
    patch: str

    @property
    def file(self) -> str:
        """Content of its patch file: what it is, then the unified diff."""
        head = f"{self.words}\n\nFunction: {self.function}\nOperator: {self.operator}\nLine: {self.path}:{self.line}\n\n"
        return head + self.patch


def wanted(path: str, name: str, chosen: Sequence[str]) -> bool:
    """Whether mutants are made of a function; ``chosen`` are patterns of names, none: those of FUNCTIONS."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in (chosen or FUNCTIONS.get(path, ())))


def mutants(path: str, text: str, chosen: Sequence[str] = ()) -> list[Made]:
    """All mutants of one file, in the order of its text; no two have the same effect on it.

    Of a function that is defined twice (for another config) the first definition counts.  ValueError where the source
    cannot be followed.
    """
    found: list[Made] = []
    seen_functions: set[str] = set()
    texts = {text}
    for function in functions(text):
        if not wanted(path, function.name, chosen) or function.name in seen_functions:
            continue
        seen_functions.add(function.name)
        twins: Counter[str] = Counter()
        for operator, edit in _edits(text, statements(function)):
            fresh = text[: edit.start] + edit.text + text[edit.end :]
            if fresh in texts:
                continue
            texts.add(fresh)
            kin = f"{operator} {edit.words}"
            twins[kin] += 1
            found.append(_made(path, text, fresh, function.name, operator, edit, twins[kin]))
    return found


def _edits(text: str, body: Statement) -> Iterator[tuple[str, Edit]]:
    last = body.inner[-1] if body.inner else None
    for statement in body.walk():
        if is_arid(statement):
            continue
        for name, operator in OPERATORS.items():
            if name == "jump" and statement is last:
                continue  # the function would run over its end
            for edit in operator(text, statement):
                yield name, edit


def _made(path: str, text: str, fresh: str, function: str, operator: str, edit: Edit, number: int) -> Made:
    digest = hashlib.sha256(f"{path}\0{function}\0{operator}\0{edit.words}\0{number}".encode()).hexdigest()[:6]
    diff = difflib.unified_diff(text.splitlines(keepends=True), fresh.splitlines(keepends=True), f"a/{path}", f"b/{path}")
    line = text.count("\n", 0, edit.start) + 1
    return Made(f"{function}.{operator}.{digest}", function, operator, path, line, f"{edit.words}, in {function}", "".join(diff))


def choose(made: Sequence[Made], count: int, seed: int) -> list[Made]:
    """``count`` of the mutants, the same for the same seed, from all functions and operators in turn; in their order."""
    if count >= len(made):
        return list(made)
    groups: dict[tuple[str, str], list[Made]] = defaultdict(list)
    for one in sorted(made, key=lambda m: hashlib.sha256(f"{seed}\0{m.name}".encode()).digest()):
        groups[one.function, one.operator].append(one)
    rounds = itertools.zip_longest(*groups.values())
    picked = {one.name for one in itertools.islice((m for turn in rounds for m in turn if m is not None), count)}
    return [one for one in made if one.name in picked]

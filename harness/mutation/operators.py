# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done to a statement to make a mutant of it: each operator gives edits of the text.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.csource.statements import Statement
from harness.csource.tokens import Token

# Statements that are not mutated: assertions of the kernel's own and what only yields the processor.
ARID = ("VM_BUG_ON", "VM_WARN", "BUG", "WARN", "BUILD_BUG", "DEFINE_", "DECLARE_", "VMA_ITERATOR", "cond_resched", "cpu_relax",
        "pr_", "lockdep_assert", "might_sleep")  # fmt: skip

# Halves of pairs, by what the called function's name has in it.
PAIRS = ("get_page", "put_page", "folio_get", "folio_put", "get_anon_vma", "put_anon_vma", "mmgrab", "mmdrop", "lock", "unlock",
         "swap_free", "swap_duplicate", "invalidate_range_start", "invalidate_range_end")  # fmt: skip

# Counters that are mixed up easily.
COUNTERS = {
    "ksm_pages_sharing": "ksm_pages_shared", "ksm_pages_shared": "ksm_pages_sharing", "ksm_pages_unshared": "ksm_pages_shared",
    "ksm_merging_pages": "ksm_rmap_items", "ksm_rmap_items": "ksm_merging_pages", "MM_ANONPAGES": "MM_SWAPENTS",
    "MM_SWAPENTS": "MM_ANONPAGES", "ksm_stable_node_chains": "ksm_stable_node_dups",
    "ksm_stable_node_dups": "ksm_stable_node_chains",
}  # fmt: skip

_BOUNDARY = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_STEP = {"++": "--", "--": "++"}
_FLIP = {"true": "false", "false": "true"}


@dataclass(frozen=True)
class Edit:
    """Characters ``start`` to ``end`` of the text become ``text``; ``words`` say what that does."""

    start: int
    end: int
    text: str
    words: str


Operator = Callable[[str, Statement], Iterator[Edit]]


def is_arid(statement: Statement) -> bool:
    """Nothing in the kernel's behaviour hangs on it."""
    return statement.name.startswith(ARID)


def is_half(statement: Statement) -> bool:
    """One half of a get/put or lock pair."""
    return any(half in statement.name for half in PAIRS)


def _source(text: str, tokens: Sequence[Token]) -> str:
    return text[tokens[0].start : tokens[-1].end]


def short(text: str) -> str:
    """Source on one line, without comments that stand in it."""
    return " ".join(text.split())


def _gone(text: str, statement: Statement) -> Edit:
    """The statement replaced by an empty one; the lines below keep their numbers."""
    old = text[statement.start : statement.end]
    return Edit(statement.start, statement.end, ";" + "\n" * old.count("\n"), f'drop "{short(old)}"')


def drop(text: str, statement: Statement) -> Iterator[Edit]:
    """An expression statement is gone."""
    if statement.kind == "expression" and not is_half(statement):
        yield _gone(text, statement)


def unpair(text: str, statement: Statement) -> Iterator[Edit]:
    """One half of a get/put or lock pair is gone."""
    if statement.kind == "expression" and is_half(statement):
        yield _gone(text, statement)


def double(text: str, statement: Statement) -> Iterator[Edit]:
    """A reference is taken or put twice."""
    if statement.kind == "expression" and is_half(statement) and "lock" not in statement.name:
        old = text[statement.start : statement.end]
        yield Edit(statement.start, statement.end, f"{{ {old} {old} }}", f'"{short(old)}" twice')


def jump(text: str, statement: Statement) -> Iterator[Edit]:
    """A break, continue, goto or return is gone."""
    if statement.kind == "jump":
        yield _gone(text, statement)


def negate(text: str, statement: Statement) -> Iterator[Edit]:
    """A condition is turned round."""
    if statement.kind in ("if", "while") and statement.head:
        old = _source(text, statement.head)
        yield Edit(statement.head[0].start, statement.head[-1].end, f"!({old})", f'negate "{short(old)}"')


def weaken(text: str, statement: Statement) -> Iterator[Edit]:
    """A condition loses one of its terms, of those that && or || joins at its top."""
    if statement.kind not in ("if", "while"):
        return
    terms = _terms(statement.head)
    for gone in range(len(terms) if len(terms) > 1 else 0):
        old = _source(text, statement.head)
        # With its && or ||: the one before it, or of the first term the one behind it.
        first, last = terms[gone]
        start = statement.head[first - 1].start if gone else statement.head[first].start
        end = statement.head[last - 1].end if gone else statement.head[last].end
        lost = _source(text, statement.head[first:last])
        yield Edit(start, end, "", f'"{short(old)}" without "{short(lost)}"')


def _terms(head: Sequence[Token]) -> list[tuple[int, int]]:
    """Index ranges of what && or || joins outside of parentheses; one range if both are mixed there."""
    depth, cuts, marks = 0, [], set()
    for index, token in enumerate(head):
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if depth == 0 and token.text in ("&&", "||"):
            cuts.append(index)
            marks.add(token.text)
    if len(marks) > 1 or any(token.text == "?" for token in head):
        return []
    starts = [0, *(cut + 1 for cut in cuts)]
    return list(zip(starts, [*cuts, len(head)], strict=True))


def _own(statement: Statement) -> Sequence[Token]:
    """Tokens that are of no statement inside it."""
    if statement.kind in ("expression", "jump"):
        return statement.tokens
    return statement.head if statement.kind in ("if", "while", "loop") else ()


def shift(text: str, statement: Statement) -> Iterator[Edit]:
    """Off by one: a bound that is met or not, a number that is one more, a step in the other direction, true for false."""
    for token in _own(statement):
        new = (_BOUNDARY | _STEP | _FLIP).get(token.text, "")
        if token.kind == "number" and token.text.isdigit():
            new = str(int(token.text) + 1)
        if new:
            where = short(_source(text, _own(statement)))
            yield Edit(token.start, token.end, new, f'{token.text} becomes {new} in "{where}"')


def swap(text: str, statement: Statement) -> Iterator[Edit]:
    """Another counter is counted."""
    for token in _own(statement):
        if new := COUNTERS.get(token.text, ""):
            where = short(_source(text, _own(statement)))
            yield Edit(token.start, token.end, new, f'{token.text} becomes {new} in "{where}"')


OPERATORS: dict[str, Operator] = {
    "drop": drop, "unpair": unpair, "double": double, "jump": jump, "negate": negate, "weaken": weaken, "shift": shift,
    "swap": swap,
}  # fmt: skip

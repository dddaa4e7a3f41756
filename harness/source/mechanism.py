# SPDX-License-Identifier: GPL-2.0-or-later
"""Does mm/ksm.c hold anon_vmas in its items, and search forks by them?  Told by the code's structure, whatever it is called.

What is looked for is what commit db114b83ab60 ("ksm: hold anon_vma in rmap_item", 2.6.33) brought, in its own form and in those
that it has taken since:

- the item, a structure with an mm, an anon_vma and a link in a list (struct rmap_item, later struct ksm_rmap_item);
- the reference, taken where the item's anon_vma is set, by whatever counts references to an anon_vma up (hold_anon_vma() at
  first, get_anon_vma() since 2.6.38);
- the reference, dropped wherever an item leaves the stable tree: as it is taken off its node's list, as a node goes with all
  its items (since 2.6.33's remove_node_from_stable_tree()), and as a merge is undone (break_cow(), or its callers at first);
- the walks over a node's items and their anon_vmas' vmas: in the owners' mms first, then in others, which are forks (in
  page_referenced_ksm(), try_to_unmap_ksm(), rmap_walk_ksm(); since 3.13 in the last alone).  A walk that makes no difference
  between the two, as collect_procs_ksm() of 6.x, finds forks too.

Functions, structures and variables are known by what they are and do; the fields vm_mm of a vma, and kernel-wide names such as
hlist_del and atomic_dec_and_test, by name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.csource.statements import Statement, statements
from harness.csource.tokens import Function, Structure, Token, closing, functions, line_of, structures

KSM = "mm/ksm.c"
AROUND = ("include/linux/rmap.h", "mm/internal.h", "mm/rmap.c")
"""Where references to an anon_vma are counted, besides mm/ksm.c."""

_COUNT_UP = re.compile(r"(?:raw_)?(?:atomic|refcount|kref)\w*_(?:inc|get|add)\w*")
_COUNT_DOWN = re.compile(r"(?:raw_)?(?:atomic|refcount|kref)\w*_(?:dec|put|sub)\w*")


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
class _Item:
    """The structure that stands for a merged page's mapping, and its fields: anon_vma, mm, links in lists."""

    struct: str
    anon_vma: str
    mm: str
    links: frozenset[str]
    start: int


def _members(structure: Structure, kind: str, pointer: bool) -> list[str]:
    """Names of the members ``struct kind *name`` (or without the star) at any depth."""
    words, found = [t.text for t in structure.tokens], []
    want = ["struct", kind, *(["*"] if pointer else [])]
    for index in range(len(words) - len(want) - 1):
        end = index + len(want)
        if words[index:end] == want and words[end + 1] == ";":
            found.append(words[end])
    return found


def _item(text: str) -> _Item | None:
    for structure in structures(text):
        mms, anon_vmas = _members(structure, "mm_struct", True), _members(structure, "anon_vma", True)
        links = _members(structure, "hlist_node", False)
        if mms and anon_vmas and links:
            return _Item(structure.name, anon_vmas[0], mms[0], frozenset(links), structure.start)
    return None


def _variables(function: Function, struct: str) -> set[str]:
    """Names that the function declares as pointers to a structure, its parameters among them."""
    found: set[str] = set()
    for tokens in (function.parameters, function.tokens):
        words = [t.text for t in tokens]
        for index in range(len(words) - 3):
            if words[index : index + 3] == ["struct", struct, "*"]:
                at = index + 2
                while at + 1 < len(words) and words[at] == "*" and tokens[at + 1].kind == "name":
                    found.add(words[at + 1])
                    at += 2
                    while at < len(words) and words[at] not in (",", ";", ")"):  # an initial value
                        at = closing(tokens, at) + 1 if words[at] in ("(", "[", "{") else at + 1
                    at += 1
    return found


def _calls(tokens: Sequence[Token]) -> Iterator[tuple[Token, Sequence[Token]]]:
    """All calls: the name's token, and the tokens between the parentheses."""
    for index in range(len(tokens) - 1):
        if tokens[index].kind == "name" and tokens[index + 1].text == "(":
            yield tokens[index], tokens[index + 2 : closing(tokens, index + 1)]


def _arguments(tokens: Sequence[Token]) -> list[str]:
    """A call's arguments as texts."""
    found, depth, begin = [], 0, 0
    for index, token in enumerate(tokens):
        depth += (token.text in "([{") - (token.text in ")]}")
        if token.text == "," and not depth:
            found.append(" ".join(t.text for t in tokens[begin:index]))
            begin = index + 1
    return [*found, " ".join(t.text for t in tokens[begin:])] if tokens else []


def _has(tokens: Sequence[Token], *words: str) -> bool:
    """Whether these tokens follow one another somewhere."""
    texts = [t.text for t in tokens]
    return any(texts[i : i + len(words)] == list(words) for i in range(len(texts) - len(words) + 1))


def _counts(tokens: Sequence[Token], anon_vmas: Iterable[str], pattern: re.Pattern[str]) -> bool:
    """Whether a counter inside one of these anon_vmas is counted by an atomic operation that the pattern names."""
    names = set(anon_vmas)
    return any(
        pattern.fullmatch(name.text) and any(_has(arguments, "&", variable, "->") for variable in names)
        for name, arguments in _calls(tokens)
    )


class _Source:
    """mm/ksm.c and what stands around it, with the item known."""

    def __init__(self, files: Mapping[str, str], item: _Item) -> None:
        self.text = files[KSM]
        self.item = item
        self.functions = list(functions(self.text))
        around = [f for path in AROUND if path in files for f in functions(files[path])]
        self.takers = self._counters([*around, *self.functions], _COUNT_UP)
        self.droppers = self._counters([*around, *self.functions], _COUNT_DOWN)

    def place(self, offset: int, words: str) -> str:
        """As reports have it."""
        return f"{KSM}:{line_of(self.text, offset)} {words}"

    def _counters(self, all_of_them: Sequence[Function], pattern: re.Pattern[str]) -> set[str]:
        """Functions that are given an anon_vma, or an item, and count its references; and those that leave it to such a one."""
        given = []
        for function in all_of_them:
            handed = _parameters(function, "anon_vma") | _parameters(function, self.item.struct)
            if handed:
                given.append((function, handed))
        found = {f.name for f, _ in given if _counts(f.tokens, _variables(f, "anon_vma"), pattern)}
        while True:
            more = {f.name for f, handed in given if f.name not in found and self._about(f, handed, found)}
            if not more:
                return found
            found |= more

    def _about(self, function: Function, names: Iterable[str], callees: set[str]) -> list[tuple[str, int]]:
        """Calls of ``callees`` with one of these variables, with its anon_vma, or with a copy of that: (variable, offset)."""
        found = []
        for name, arguments in _calls(function.tokens):
            if name.text in callees:
                words = _arguments(arguments)
                found += [(v, name.start) for v in names if set(words) & self.anon_vmas(function, v)]
        return found

    def anon_vmas(self, function: Function, variable: str) -> set[str]:
        """The texts that stand for a variable, if it is an item for its anon_vma, in this function."""
        texts, own = {variable, f"{variable} -> {self.item.anon_vma}"}, ["=", variable, "->", self.item.anon_vma]
        words = [t.text for t in function.tokens]
        return texts | {words[i - 1] for i in range(1, len(words) - 3) if words[i : i + 4] == own}

    def items_of(self, function: Function) -> set[str]:
        """The function's variables that are items."""
        return _variables(function, self.item.struct)

    def drops(self, function: Function) -> list[tuple[str, int]]:
        """Where the function drops the reference of an item: (variable, offset)."""
        return self._about(function, self.items_of(function), self.droppers)


def _parameters(function: Function, struct: str) -> set[str]:
    """The parameters that are pointers to a structure."""
    return _variables(Function(function.name, (), function.parameters), struct)


def _taken(source: _Source) -> Piece:
    places, missing = [], []
    called = {name.text for f in source.functions for name, _ in _calls(f.tokens)}
    for function in source.functions:
        words = [t.text for t in function.tokens]
        for variable in source.items_of(function):
            set_here = [variable, "->", source.item.anon_vma, "="]
            for index in range(len(words) - 4):
                if words[index : index + 4] != set_here or words[index + 4] == "NULL":
                    continue
                offset = function.tokens[index].start
                where = source.place(offset, f"{function.name}()")
                counts = _counts(function.tokens, _variables(function, "anon_vma"), _COUNT_UP)
                if not counts and not any(name.text in source.takers for name, _ in _calls(function.tokens)):
                    missing.append(f"{where} sets the item's anon_vma and takes no reference to it")
                elif function.name not in called:
                    missing.append(f"{where} takes the reference, and nothing in {KSM} calls it")
                else:
                    places.append(where)
    if not places and not missing:
        missing.append("nothing sets an item's anon_vma")
    return Piece("reference taken when merged", tuple(places), tuple(missing))


def _is_item_loop(statement: Statement, items: set[str]) -> str:
    """The item variable that a loop over a list of items goes by, or ""."""
    if statement.kind == "loop" and statement.name.startswith("hlist_for_each") and statement.head:
        first = statement.head[0].text
        return first if first in items else ""
    return ""


def _dropped_by_item(source: _Source) -> Piece:
    """Where an item is taken off its node's list."""
    places, missing = [], []
    for function in source.functions:
        items, drops = source.items_of(function), source.drops(function)
        for name, arguments in _calls(function.tokens):
            words = [t.text for t in arguments]
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


def _dropped_with_node(source: _Source) -> Piece:
    """Where a node goes with all its items.  At first there was no such place."""
    places, missing = [], []
    for function in source.functions:
        items, drops = source.items_of(function), source.drops(function)
        for loop in statements(function).walk():
            variable = _is_item_loop(loop, items)
            if variable and _clears(source, loop, variable):
                where = source.place(loop.start, f"{function.name}()")
                if any(name == variable and loop.start < at < loop.end for name, at in drops):
                    places.append(where)
                else:
                    missing.append(f"{where} lets all items of a node go and keeps their references")
    return Piece("references dropped with a node", tuple(places), tuple(missing))


def _dropped_when_undone(source: _Source) -> Piece:
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
        missing.append("no function that undoes a merge was recognised")
    return Piece("reference dropped when a merge is undone", tuple(places), tuple(missing))


def _clears(source: _Source, loop: Statement, variable: str) -> bool:
    """Whether a field of the item is set in the loop, the flags in its address: it is in the stable tree no more."""
    words = [t.text for t in loop.tokens]
    return any(
        words[i : i + 2] == [variable, "->"] and words[i + 3] in ("&=", "=") and words[i + 2] != source.item.anon_vma
        for i in range(len(words) - 3)
    )


def _is_undo(source: _Source, function: Function) -> bool:
    """``static void f(struct ITEM *)`` that reads the mm's page tables under its lock: break_cow()."""
    handed = _parameters(function, source.item.struct)
    if len(handed) != 1 or any(t.text == "," for t in function.parameters):
        return False
    if not re.search(r"\bvoid\s+$", source.text[: function.start]):
        return False
    return any(name.text in ("mmap_read_lock", "down_read") for name, _ in _calls(function.tokens))


def _undone_by_callers(source: _Source, undo: Function) -> tuple[list[str], list[str]]:
    """The calls of a function that undoes a merge, each of which must stand behind a drop in the same block."""
    good, bad = [], []
    for function in source.functions:
        drops, body = source.drops(function), list(statements(function).walk())
        for statement in body:
            if statement.kind != "expression" or statement.name != undo.name:
                continue
            blocks = [s for s in body if s.kind == "compound" and s.start < statement.start < s.end]
            block = max(blocks, key=lambda s: s.start)
            argument = _arguments(next(_calls(statement.tokens))[1])
            where = source.place(statement.start, f"{function.name}()")
            if any([variable] == argument and block.start < at < statement.start for variable, at in drops):
                good.append(where)
            else:
                bad.append(f"{where} undoes a merge and keeps the reference")
    return good, bad


@dataclass(frozen=True)
class _Filter:
    """A comparison of an item's mm with a vma's: ``passes`` are the variables that decide which of the two is wanted."""

    offset: int
    passes: frozenset[str]
    owner: bool  # without such a variable: vmas of the owner are looked at, or those of others


def _walks(source: _Source) -> Piece:
    places, missing, plain = [], [], False
    for function in source.functions:
        items = source.items_of(function)
        body = statements(function)
        inner: list[tuple[Statement, Statement, str]] = []
        for loop in body.walk():
            if not (variable := _is_item_loop(loop, items)):
                continue
            if vmas := _vma_loops(source, function, loop, variable):
                inner += [(loop, vma_loop, variable) for vma_loop in vmas]
            elif _uses_mm(source, loop, variable) and not _clears(source, loop, variable):
                missing.append(source.place(loop.start, f"{function.name}() searches the items' own mms and no anon_vma"))
        if inner:
            where = source.place(function.start, f"{function.name}()")
            if fault := _fault(source, function, body, inner):
                missing.append(f"{where} {fault}")
            else:
                plain = plain or any(not _between(loop, vma_loop) for loop, vma_loop, _ in inner)
                places.append(where)
    if not plain and not missing:
        missing.append("no walk over the items' anon_vmas was recognised")
    return Piece("walk over owners and forks", tuple(places), tuple(missing))


def _vma_loops(source: _Source, function: Function, loop: Statement, variable: str) -> list[Statement]:
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


def _uses_mm(source: _Source, loop: Statement, variable: str) -> bool:
    """Whether the item's mm itself is used, and not only something in it."""
    words = [t.text for t in loop.tokens]
    want = [variable, "->", source.item.mm]
    return any(words[i : i + 3] == want and words[i + 3] != "->" for i in range(len(words) - 3))


def _filters(source: _Source, function: Function, vma_loop: Statement, variable: str) -> Iterator[_Filter]:
    own = f"{variable} -> {source.item.mm}"
    for statement in vma_loop.walk():
        if statement.kind != "if":
            continue
        words = " ".join(t.text for t in statement.head)
        found = re.search(rf"{re.escape(own)} (==|!=) \w+ -> vm_mm\b|\w+ -> vm_mm (==|!=) {re.escape(own)}(?! ->)", words)
        if not found:
            continue
        rest = words[: found.start()] + words[found.end() :]
        names = {t.text for t in statement.head if t.kind == "name"}
        free = set(re.findall(r"(?<!-> )\b[A-Za-z_]\w*\b(?! (?:->|\())", rest)) & names & _changing(function)
        equal, skips = (found[1] or found[2]) == "==", statement.inner[0].kind == "jump"
        yield _Filter(statement.start, frozenset(free), equal != skips)


_NUMBERS = frozenset({"int", "bool", "unsigned", "long", "char", "u8"})


def _changing(function: Function) -> set[str]:
    """Names that may be variables with numbers: what stands behind a number's type or a comma, and the parameters."""
    body = function.tokens
    found = {b.text for a, b in itertools.pairwise(body) if b.kind == "name" and (a.text in _NUMBERS or a.text == ",")}
    return found | {t.text for t in function.parameters if t.kind == "name"}


def _fault(source: _Source, function: Function, body: Statement, inner: Sequence[tuple[Statement, Statement, str]]) -> str:
    """Why a walk does not come to owners and forks, or ""."""
    reached: set[bool] = set()
    for loop, vma_loop, variable in inner:
        filters = list(_filters(source, function, vma_loop, variable))
        if not filters:
            return ""
        for one in filters:
            if not one.passes:
                reached.add(one.owner)
            elif any(_repeats(source, function, body, loop, name) for name in one.passes):
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


def _repeats(source: _Source, function: Function, body: Statement, loop: Statement, name: str) -> bool:
    """Whether the loop over items is gone through again with another value of a variable."""
    parameters = [words.split()[-1] for words in _arguments(function.parameters) if words]
    if name in parameters:
        index = parameters.index(name)
        calls = [_arguments(a) for f in source.functions for n, a in _calls(f.tokens) if n.text == function.name]
        values = {call[index] for call in calls if len(call) > index}
        return len(values) > 1 or any(not re.fullmatch(r"\d+|true|false", value) for value in values)
    changes = [
        s for s in body.walk()
        if s.kind in ("expression", "if", "while", "loop")
        and any(_has(s.head or s.tokens, *words) for words in ((name, "++"), ("++", name), (name, "="), (name, "^=")))
    ]  # fmt: skip
    if not changes:
        return False
    labels = {s.tokens[0].text for s in body.walk() if s.kind == "label" and s.start < loop.start}
    back = (s for s in body.walk() if s.kind == "jump" and s.tokens[0].text == "goto" and s.start > loop.end)
    around = (s for s in body.walk() if s.kind in ("loop", "while") and s.start < loop.start and s.end >= loop.end)
    return any(s.tokens[1].text in labels for s in back) or any(around)


def pieces(files: Mapping[str, str]) -> list[Piece]:
    """All parts of the mechanism in a tree's files (KSM, and those of AROUND that there are).

    The first is the item; without one nothing else can be.  ValueError where the source cannot be followed.
    """
    text = files.get(KSM)
    if text is None:
        return [Piece("item holds its anon_vma", missing=(f"there is no {KSM}",))]
    item = _item(text)
    if item is None:
        return [Piece("item holds its anon_vma", missing=(f"no structure of {KSM} has an mm, an anon_vma and a link in a list",))]
    source = _Source(files, item)
    held = Piece("item holds its anon_vma", (source.place(item.start, f"struct {item.struct}, {item.anon_vma}"),))
    with_node = _dropped_with_node(source)
    optional = [with_node] if with_node.places or with_node.missing else []
    return [held, _taken(source), _dropped_by_item(source), *optional, _dropped_when_undone(source), _walks(source)]

# SPDX-License-Identifier: GPL-2.0-or-later
"""A function's body as statements: what a mutation needs to know of where one begins, ends, and what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.csource.tokens import Function, Token, closing

_TYPES = frozenset({
    "struct", "union", "enum", "const", "volatile", "static", "unsigned", "signed", "void", "char", "short", "int", "long",
    "bool", "extern", "register",
})  # fmt: skip
_JUMPS = frozenset({"return", "break", "continue", "goto"})
_CONTROL = frozenset({"if", "for", "while", "do", "switch", "case", "default", "else"}) | _JUMPS


@dataclass(frozen=True)
class Statement:
    """One statement.

    ``kind`` is compound, if, while (also do), loop (for, switch, and macros that stand before a statement), expression,
    declaration, jump, label or directive; ``tokens`` are all of it, ``head`` those between the parentheses of its head,
    ``inner`` the statements inside it.
    """

    kind: str
    tokens: tuple[Token, ...]
    head: tuple[Token, ...] = ()
    inner: tuple[Statement, ...] = ()

    @property
    def start(self) -> int:
        """Offset of its first character."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """Offset behind its last character."""
        return self.tokens[-1].end

    @property
    def name(self) -> str:
        """The function or macro that the statement calls, "" if it is no call."""
        first = self.tokens[0]
        is_call = first.kind == "name" and len(self.tokens) > 1 and self.tokens[1].text == "("
        return first.text if is_call else ""

    def walk(self) -> Iterator[Statement]:
        """It and all inside it, in the order of the text."""
        yield self
        for statement in self.inner:
            yield from statement.walk()


def statements(function: Function) -> Statement:
    """The body of a function.  ValueError where it cannot be followed."""
    body, end = _Reader(function.tokens).statement(0)
    if end != len(function.tokens):
        raise ValueError(f"{function.name}: its body does not end where its brace closes")
    return body


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens

    def _text(self, index: int) -> str:
        return self.tokens[index].text if index < len(self.tokens) else ""

    def _made(self, kind: str, start: int, end: int, head: tuple[int, int] = (0, 0), *inner: Statement) -> Statement:
        return Statement(kind, tuple(self.tokens[start:end]), tuple(self.tokens[head[0] : head[1]]), inner)

    def statement(self, at: int) -> tuple[Statement, int]:
        """The statement at an index, and the index behind it."""
        token = self.tokens[at]
        if token.kind == "directive":
            return self._made("directive", at, at + 1), at + 1
        if token.text == "{":
            return self._compound(at)
        if token.text == "if":
            return self._if(at)
        if token.text == "do":
            return self._do(at)
        if token.text in ("for", "while", "switch"):
            return self._headed("while" if token.text == "while" else "loop", at)
        if token.text in ("case", "default"):
            end = self._until(at, ":")
            return self._made("label", at, end), end
        if token.kind == "name" and self._text(at + 1) == ":" and token.text not in _CONTROL:
            return self._made("label", at, at + 2), at + 2
        if self._is_macro_loop(at):
            return self._headed("loop", at)
        end = self._until(at, ";")
        return self._made(self._simple(at, end), at, end), end

    def _compound(self, at: int) -> tuple[Statement, int]:
        last, index, inner = closing(self.tokens, at), at + 1, []
        while index < last:
            statement, index = self.statement(index)
            inner.append(statement)
        return self._made("compound", at, last + 1, (0, 0), *inner), last + 1

    def _head(self, at: int) -> int:
        if self._text(at) != "(":
            raise ValueError(f"a parenthesis is wanted at offset {self.tokens[at].start}")
        return closing(self.tokens, at)

    def _if(self, at: int) -> tuple[Statement, int]:
        close = self._head(at + 1)
        then, end = self.statement(close + 1)
        inner = [then]
        if self._text(end) == "else":
            other, end = self.statement(end + 1)
            inner.append(other)
        return self._made("if", at, end, (at + 2, close), *inner), end

    def _do(self, at: int) -> tuple[Statement, int]:
        body, end = self.statement(at + 1)
        close = self._head(end + 1)
        return self._made("while", at, close + 2, (end + 2, close), body), close + 2

    def _headed(self, kind: str, at: int) -> tuple[Statement, int]:
        close = self._head(at + 1)
        body, end = self.statement(close + 1)
        return self._made(kind, at, end, (at + 2, close), body), end

    def _is_macro_loop(self, at: int) -> bool:
        """``list_for_each_entry(…) statement``: a call that no operator and no semicolon follows."""
        if self.tokens[at].kind != "name" or self._text(at + 1) != "(" or self.tokens[at].text in _CONTROL:
            return False
        after = closing(self.tokens, at + 1) + 1
        return after < len(self.tokens) and (self.tokens[after].kind == "name" or self._text(after) == "{")

    def _until(self, at: int, mark: str) -> int:
        """The index behind the next ``mark`` that is in no bracket."""
        index = at
        while self._text(index) != mark:
            if index >= len(self.tokens):
                raise ValueError(f"no {mark} ends the statement at offset {self.tokens[at].start}")
            index = closing(self.tokens, index) + 1 if self._text(index) in ("(", "[", "{") else index + 1
        return index + 1

    def _simple(self, at: int, end: int) -> str:
        first, second, third = self.tokens[at], self._text(at + 1), self._text(at + 2)
        if first.text in _JUMPS:
            return "jump"
        if first.text == ";":
            return "empty"
        if first.text in _TYPES:
            return "declaration"
        named = first.kind == "name" and end > at + 2
        if named and (self.tokens[at + 1].kind == "name" or (second == "*" and third.isidentifier())):
            return "declaration"
        return "expression"

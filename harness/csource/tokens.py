# SPDX-License-Identifier: GPL-2.0-or-later
"""C source as tokens, and the functions and structures in it.

As much C as the kernel's own style needs; nothing is preprocessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|/\*.*?\*/|//[^\n]*)
  | (?P<directive>^[ \t]*\#(?:[^\n\\]|\\\n|\\.)*)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<name>[A-Za-z_]\w*)
  | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
  | (?P<mark><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\#\#|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)

_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Token:
    """One token: ``kind`` is directive, string, name, number or mark; ``start`` and ``end`` are offsets in the text."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Function:
    """A function with a body.

    ``tokens`` are those of the body, from its brace to its brace; ``parameters`` those between the parentheses; ``start``
    is the offset of its name in the text.
    """

    name: str
    tokens: tuple[Token, ...]
    parameters: tuple[Token, ...] = ()
    start: int = 0


@dataclass(frozen=True)
class Structure:
    """A structure; ``tokens`` are those of its body, from its brace to its brace; ``start`` is the offset of its name."""

    name: str
    tokens: tuple[Token, ...]
    start: int


def tokenize(text: str) -> list[Token]:
    """All tokens but white space and comments.  ValueError where the text is no C."""
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"no C token at line {text.count(chr(10), 0, at) + 1}: {text[at : at + 20]!r}")
        kind = str(found.lastgroup)
        if kind != "space":
            tokens.append(Token(kind, found[0], at, found.end()))
        at = found.end()
    return tokens


def closing(tokens: Sequence[Token], opening: int) -> int:
    """The index of the bracket that closes the one at ``opening``.  ValueError when none does."""
    want, depth = _CLOSING[tokens[opening].text], 0
    for index in range(opening, len(tokens)):
        text = tokens[index].text
        if text == tokens[opening].text:
            depth += 1
        elif text == want:
            depth -= 1
            if depth == 0:
                return index
    raise ValueError(f"no {want} closes the {tokens[opening].text} at offset {tokens[opening].start}")


def functions(text: str) -> Iterator[Function]:
    """The function definitions of a file, in order."""
    tokens = tokenize(text)
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.text == "{":
            index = closing(tokens, index) + 1
            continue
        if token.kind == "name" and index + 1 < len(tokens) and tokens[index + 1].text == "(":
            end = past = closing(tokens, index + 1)
            while [t.text for t in tokens[past + 2 : past + 3]] == ["("] and tokens[past + 1].text.startswith("__"):
                past = closing(tokens, past + 2)  # __releases(ptl) and the like
            if past + 1 < len(tokens) and tokens[past + 1].text == "{":
                last = closing(tokens, past + 1)
                yield Function(token.text, tuple(tokens[past + 1 : last + 1]), tuple(tokens[index + 2 : end]), token.start)
                index = last + 1
                continue
            index = past + 1
            continue
        index += 1


def structures(text: str) -> Iterator[Structure]:
    """The structures that a file defines, in order; not those inside others."""
    tokens = tokenize(text)
    index = 0
    while index + 2 < len(tokens):
        if tokens[index].text == "{":
            index = closing(tokens, index) + 1
        elif tokens[index].text == "struct" and tokens[index + 1].kind == "name" and tokens[index + 2].text == "{":
            last = closing(tokens, index + 2)
            yield Structure(tokens[index + 1].text, tuple(tokens[index + 2 : last + 1]), tokens[index + 1].start)
            index = last + 1
        else:
            index += 1


def line_of(text: str, offset: int) -> int:
    """The line of an offset, from 1."""
    return text.count("\n", 0, offset) + 1

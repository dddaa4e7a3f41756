# SPDX-License-Identifier: GPL-2.0-or-later
"""What a function does with its variables: declarations, calls and their arguments, as far as tokens tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.csource.tokens import Function, Structure, Token, closing


def members(structure: Structure, kind: str, pointer: bool) -> list[str]:
    """Names of the members ``struct kind *name`` (or without the star) at any depth."""
    words, found = [t.text for t in structure.tokens], []
    want = ["struct", kind, *(["*"] if pointer else [])]
    for index in range(len(words) - len(want) - 1):
        end = index + len(want)
        if words[index:end] == want and words[end + 1] == ";":
            found.append(words[end])
    return found


def variables(function: Function, struct: str) -> set[str]:
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


def calls(tokens: Sequence[Token]) -> Iterator[tuple[Token, Sequence[Token]]]:
    """All calls: the name's token, and the tokens between the parentheses."""
    for index in range(len(tokens) - 1):
        if tokens[index].kind == "name" and tokens[index + 1].text == "(":
            yield tokens[index], tokens[index + 2 : closing(tokens, index + 1)]


def arguments(tokens: Sequence[Token]) -> list[str]:
    """A call's arguments as texts."""
    found, depth, begin = [], 0, 0
    for index, token in enumerate(tokens):
        depth += (token.text in "([{") - (token.text in ")]}")
        if token.text == "," and not depth:
            found.append(" ".join(t.text for t in tokens[begin:index]))
            begin = index + 1
    return [*found, " ".join(t.text for t in tokens[begin:])] if tokens else []


def has(tokens: Sequence[Token], *words: str) -> bool:
    """Whether these tokens follow one another somewhere."""
    texts = [t.text for t in tokens]
    return any(texts[i : i + len(words)] == list(words) for i in range(len(texts) - len(words) + 1))


def parameters(function: Function, struct: str) -> set[str]:
    """The parameters that are pointers to a structure."""
    return variables(Function(function.name, (), function.parameters), struct)


def parameter_names(function: Function) -> list[str]:
    """Names of a function's parameters, in their order."""
    return [words.split()[-1] for words in arguments(function.parameters) if words]

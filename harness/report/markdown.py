# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of Markdown files that commands write between markers, and the tables in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness import textfile
from harness.errors import UsageError, unwritable
from harness.report.text import line
from harness.store import write_atomically


def check(path: Path) -> None:
    """UsageError where a part of this file cannot be replaced: known before there is anything to write."""
    if os.path.lexists(path):
        textfile.read(path)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: {path.parent} is no directory that can be written")


def write_part(path: Path, title: str, fresh: str) -> None:
    """Replace the part ``title`` of the file, or add it.  UsageError if that is no file to do it with."""
    check(path)
    old = textfile.read(path) if path.exists() else ""
    try:
        write_atomically(path, replaced(old, title, fresh))
    except OSError as e:
        raise unwritable(path, e) from e


def replaced(text: str, title: str, fresh: str) -> str:
    """``text`` with the part of this title replaced; at its end if there is none yet."""
    begin, end = f"<!-- begin: {title} -->\n", f"<!-- end: {title} -->\n"
    whole = f"{begin}{fresh}{end}"
    head, found, rest = text.partition(begin)
    if found:
        _, closed, tail = rest.partition(end)
        if closed:
            return head + whole + tail
    gap = "\n" if text and not text.endswith("\n\n") else ""
    return f"{text}{gap}{whole}"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, a line for each row."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(escaped(str(word)) for word in row) + " |\n" for row in lines)


def escaped(text: str) -> str:
    """On one line, with nothing in it that Markdown takes for a table or HTML."""
    return line(text, 400).replace("|", "\\|").replace("<", "&lt;")

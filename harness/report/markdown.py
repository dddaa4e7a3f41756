# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of Markdown files that commands write between markers, and the tables in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness import textfile
from harness.errors import HostError
from harness.report.text import line
from harness.store import write_atomically


def write_part(path: Path, title: str, fresh: str) -> None:
    """Replace the part ``title`` of the file, or add it.  UsageError if the file cannot be read, HostError if not written."""
    old = textfile.read(path) if path.exists() else ""
    try:
        write_atomically(path, replaced(old, title, fresh))
    except OSError as e:
        raise HostError(f"cannot write {path}: {e.strerror}") from e


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of an observation as rows of spans, from records that are not trusted to make sense."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.findings import Finding
from harness.journal.reader import Record

MAX_PAGES = 1 << 20  # of one area; more is not drawn
MAX_ROWS = 1024

# Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h, fs/proc/page.c).
_UNEVICTABLE, _KSM, _MLOCKED = 18, 21, 33


@dataclass(frozen=True)
class Span:
    """Consecutive pages in one state.  ``place`` is the page frame or swap offset of the first, ``stride`` the step."""

    first: int
    count: int
    kind: str  # "ksm", "plain", "swap", "special", "none"
    locked: bool = False
    place: int | None = None
    stride: int = 0
    mapcount: int | None = None

    @property
    def end(self) -> int:
        """The page after the last."""
        return self.first + self.count

    def at(self, page: int) -> int | None:
        """Where a page of the span is."""
        return None if self.place is None else self.place + (page - self.first) * self.stride


@dataclass(frozen=True)
class Row:
    """One area of one process."""

    actor: str
    area: str
    spans: tuple[Span, ...]

    @property
    def name(self) -> str:
        """As findings have it: ``C.a``."""
        return f"{self.actor}.{self.area}"

    @property
    def pages(self) -> int:
        """Size of the area in pages."""
        return self.spans[-1].end if self.spans else 0


def rows_of(record: Record) -> tuple[Row, ...]:
    """All areas of an ``obs`` record; what cannot be understood of it is left out."""
    procs = record.get("procs")
    if not isinstance(procs, dict):
        return ()
    rows: list[Row] = []
    for actor, proc in procs.items():
        areas = proc.get("areas") if isinstance(proc, dict) else None
        for area, runs in areas.items() if isinstance(areas, dict) else ():
            if isinstance(runs, list) and len(rows) < MAX_ROWS:
                rows.append(Row(str(actor), str(area), tuple(_spans(runs))))
    return tuple(rows)


def _spans(runs: Iterable[object]) -> Iterator[Span]:
    first = 0
    for run in runs:
        span = _span(run, first) if isinstance(run, list) else None
        if span is None or span.end > MAX_PAGES:
            return
        yield span
        first = span.end


def _span(run: list[object], first: int) -> Span | None:
    match run:
        case [int(count), "P", int(pfn), int(stride), flags, mapcount, *_] if count > 0:
            bits = _hex(flags)
            return Span(
                first, count, "ksm" if bits >> _KSM & 1 else "plain", bool(bits >> _UNEVICTABLE & 1 or bits >> _MLOCKED & 1),
                pfn, stride, mapcount if isinstance(mapcount, int) else None,
            )  # fmt: skip
        case [int(count), "S", int(offset), int(stride), *_] if count > 0:
            return Span(first, count, "swap", place=offset, stride=stride)
        case [int(count), "X", int(value), int(stride), *_] if count > 0:
            return Span(first, count, "special", place=value, stride=stride)
        case [int(count), "N", *_] if count > 0:
            return Span(first, count, "none")
    return None


def _hex(text: object) -> int:
    try:
        return int(str(text)[:20], 16)
    except ValueError:
        return 0


def blocks(row: Row) -> list[tuple[Span, int]]:
    """Neighbouring spans that look alike as one, with how many they were."""
    merged: list[tuple[Span, int]] = []
    for span in row.spans:
        if merged:
            last, parts = merged[-1]
            if (last.kind, last.locked) == (span.kind, span.locked):
                one = Span(last.first, last.count + span.count, last.kind, last.locked, last.place, last.stride, last.mapcount)
                merged[-1] = (one, parts + 1)
                continue
        merged.append((span, 1))
    return merged


def ties(upper: Row, lower: Row) -> list[tuple[int, int, str]]:
    """Ranges ``(first, count, kind)`` of pages that are the same page frame, or the same place in swap, in both rows."""
    found: list[tuple[int, int, str]] = []
    i = j = 0
    while i < len(upper.spans) and j < len(lower.spans):
        a, b = upper.spans[i], lower.spans[j]
        first, end = max(a.first, b.first), min(a.end, b.end)
        if first < end and a.kind == b.kind and a.place is not None and a.at(first) == b.at(first):
            same = a.stride == b.stride
            found.append((first, end - first if same else 1, a.kind))
        i, j = (i + 1, j) if a.end <= b.end else (i, j + 1)
    return _joined(found)


def _joined(ranges: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    joined: list[tuple[int, int, str]] = []
    for first, count, kind in ranges:
        if joined and joined[-1][0] + joined[-1][1] == first and joined[-1][2] == kind:
            joined[-1] = (joined[-1][0], joined[-1][1] + count, kind)
        else:
            joined.append((first, count, kind))
    return joined


_PAGES = re.compile(r"([\w-]+\.[\w-]+)\[(\d{1,9})(?:\.\.(\d{1,9}))?\]")


def unexpected(findings: Iterable[Finding]) -> dict[str, list[tuple[int, int]]]:
    """Pages that findings name, by row: ``(first, count)``."""
    named: dict[str, list[tuple[int, int]]] = {}
    for finding in findings:
        for row, first, last in _PAGES.findall(finding.pages):
            span = (int(first), int(last or first) - int(first) + 1)
            if span[1] > 0 and span not in named.setdefault(row, []):
                named[row].append(span)
    return named

# SPDX-License-Identifier: GPL-2.0-or-later
"""Page maps as SVG: rows are areas of processes, columns pages; before and after side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.pagestate import Row, Span, blocks, ties
from harness.report.text import line
from harness.report.trace import Pair, State

LABEL = 92.0  # px, of the column with the rows' names
PANEL = 500.0
GUTTER = 28.0
ROW = 13.0
GAP = 5.0
HEAD = 34.0
CELL = 20.0  # at most, of one page
CONTROL = "Z.z"  # the positive control, of another kind than the rest: last, and with a scale of its own if it is larger
MAX_BLOCKS = 2500  # rectangles in one map: a guest may not make the report endless
MAX_SHOWN = 36  # rows
RAGGED = 24  # blocks of a row that are drawn each for itself

WORDS = {
    "ksm": "KSM",
    "plain": "present, not KSM",
    "swap": "swapped",
    "special": "hwpoison or migration entry",
    "none": "not mapped",
}

Marks = Mapping[str, Sequence[tuple[int, int]]]


@dataclass(frozen=True)
class Lane:
    """A row to draw, and how many further ones look the same."""

    name: str
    before: Row | None
    after: Row | None
    alike: int = 0


def page_map(pair: Pair, marks: Marks) -> Markup:
    """The map of two observations; ``marks`` are the pages to outline in the later one."""
    lanes, hidden = _lanes(pair, marks)
    rows = [row for lane in lanes for row in (lane.before, lane.after) if row]
    pages = max((row.pages for row in rows if row.name != CONTROL), default=0) or max((row.pages for row in rows), default=0)
    if not pages:
        return Markup("")
    if sum(len(blocks(row)) for row in rows) > MAX_BLOCKS:
        return Markup('<p class="quiet">This map is too ragged to be drawn; the journal has it.</p>')
    scale = min(CELL, PANEL / pages)
    width, height = LABEL + 2 * PANEL + GUTTER, HEAD + len(lanes) * (ROW + GAP) + 18
    right = LABEL + PANEL + GUTTER
    parts = [
        _head(LABEL, "before", pair.before),
        _head(right, "after", pair.after),
        *(_labels(lanes, marks)),
        *_panel([lane.before for lane in lanes], LABEL, scale),
        *_panel([lane.after for lane in lanes], right, scale),
        *_outlines(lanes, marks, right, scale),
        *_axis(LABEL, pages, scale, height),
        *_axis(right, pages, scale, height),
    ]
    more = Markup('<p class="quiet">{} more rows are in the journal.</p>').format(hidden) if hidden else Markup("")
    return Markup('<svg class="map" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>{}').format(
        width, height, _spoken(pair, marks), Markup("\n").join(parts), more
    )


def _spoken(pair: Pair, marks: Marks) -> str:
    named = ", ".join(f"{row}[{f}..{f + n - 1}]" for row, spans in marks.items() for f, n in spans[:1])
    text = f"Page map before ({pair.before.label}) and after ({pair.after.label})"
    return line(text + (f"; unexpected: {named}" if named else ""))


def _lanes(pair: Pair, marks: Marks) -> tuple[list[Lane], int]:
    before = {row.name: row for row in pair.before.rows}
    after = {row.name: row for row in pair.after.rows}
    names = list(dict.fromkeys([*before, *after]))
    names.sort(key=lambda n: n == CONTROL)
    lanes: list[Lane] = []
    for name in names:
        lane = Lane(name, before.get(name), after.get(name))
        marked = name in marks or (lanes and lanes[-1].name in marks)
        if len(names) > MAX_SHOWN // 2 and lanes and not marked and _alike(lanes[-1], lane):
            lanes[-1] = Lane(lanes[-1].name, lanes[-1].before, lanes[-1].after, lanes[-1].alike + 1)
        else:
            lanes.append(lane)
    return lanes[:MAX_SHOWN], max(0, len(lanes) - MAX_SHOWN)


def _alike(one: Lane, other: Lane) -> bool:
    return _look(one.before) == _look(other.before) and _look(one.after) == _look(other.after)


def _look(row: Row | None) -> list[tuple[int, str, bool]] | None:
    return [(s.count, s.kind, s.locked) for s, _ in blocks(row)] if row else None


def _head(x: float, word: str, state: State) -> Markup:
    label = state.label if state.label.lower().startswith(word) else f"{word}: {state.label}"
    return Markup('<text x="{:.1f}" y="12" class="h">{}</text><text x="{:.1f}" y="26" class="q">record {}</text>').format(
        x, line(label, 60), x, state.seq
    )


def _top(index: int) -> float:
    return HEAD + index * (ROW + GAP)


def _labels(lanes: Sequence[Lane], marks: Marks) -> Iterable[Markup]:
    for i, lane in enumerate(lanes):
        text = line(lane.name, 14) + (f" ×{lane.alike + 1}" if lane.alike else "")
        yield Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="end">{}</text>').format(
            LABEL - 10, _top(i) + ROW - 2.5, "r bad" if lane.name in marks else "r", text
        )


def _panel(rows: Sequence[Row | None], x: float, unit: float) -> Iterable[Markup]:
    """All rows of one observation, and what ties neighbouring ones together."""
    for i, row in enumerate(rows):
        if row is None:
            yield Markup('<text x="{:.1f}" y="{:.1f}" class="q">no such process</text>').format(x, _top(i) + ROW - 2.5)
            continue
        merged = blocks(row)
        below = rows[i + 1] if i + 1 < len(rows) else None
        tied = ties(row, below) if below else []
        scale = min(unit, PANEL / max(1, row.pages))
        if len(merged) <= RAGGED:
            yield from (_block(row, span, parts, x, _top(i), scale) for span, parts in merged)
        else:
            yield from _ragged(row, [span for span, _ in merged], x, _top(i), scale)
        for kind in dict.fromkeys(kind for _, _, kind in tied):
            areas = [(first, count) for first, count, k in tied if k == kind]
            yield _path(areas, f"{kind} tie", "", x, _top(i) + ROW, GAP, scale)


def _ragged(row: Row, spans: Sequence[Span], x: float, y: float, scale: float) -> Iterable[Markup]:
    """A row of very many blocks: one path for all that look alike."""
    for kind, locked in dict.fromkeys((s.kind, s.locked) for s in spans):
        alike = [(s.first, s.count) for s in spans if (s.kind, s.locked) == (kind, locked)]
        pages = sum(count for _, count in alike)
        title = line(f"{row.name}: {pages} of {row.pages} pages {WORDS[kind]}{', locked' * locked}")
        yield _path(alike, kind, title, x, y, ROW, scale)
        if locked:
            yield _path(alike, "lock", "", x, y + ROW / 2, 2, scale)


def _path(areas: Sequence[tuple[int, int]], css: str, title: str, x: float, y: float, height: float, scale: float) -> Markup:
    """Areas ``(first, count)`` as strokes of a line one unit thick, a unit being a page: the shortest there is."""
    drawn, at = ["M0 .5"], 0
    for first, count in areas:
        drawn.append(f"m{first - at} 0h{count}" if first > at else f"h{count}")
        at = first + count
    spoken = Markup("<title>{}</title>").format(title) if title else Markup("")
    return Markup('<path class="{}" transform="translate({:.1f} {:.0f}) scale({:.3f} {:.0f})" d="{}">{}</path>').format(
        css, x, y, scale, height, "".join(drawn), spoken
    )


def _block(row: Row, span: Span, parts: int, x: float, y: float, scale: float) -> Markup:
    area = Markup('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.0f}"').format(
        x + span.first * scale, y, max(1.0, span.count * scale), ROW
    )
    rect = Markup('<rect {} class="{}"><title>{}</title></rect>').format(area, span.kind, _title(row, span, parts))
    return rect + Markup('<rect {} class="lock"/>').format(area) if span.locked else rect


def _title(row: Row, span: Span, parts: int) -> str:
    text = f"{row.name}[{span.first}..{span.end - 1}] {WORDS[span.kind]}"
    if span.locked:
        text += ", locked"
    if span.place is not None:
        text += (
            f", {'swap offset' if span.kind == 'swap' else 'entry' if span.kind == 'special' else 'page frame'} {span.place:#x}"
        )
        text += f" and on, in {parts} runs" if parts > 1 else " and on" if span.count > 1 else ""
    if span.mapcount is not None and parts == 1:
        text += f", mapcount {span.mapcount}"
    return line(text)


def _outlines(lanes: Sequence[Lane], marks: Marks, x: float, scale: float) -> Iterable[Markup]:
    for i, lane in enumerate(lanes):
        limit = lane.after.pages if lane.after else 0
        for first, count in marks.get(lane.name, ())[:200]:
            if first < limit:
                count = min(count, limit - first)
                yield Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="odd"/>').format(
                    x + first * scale - 1.5, _top(i) - 1.5, count * scale + 3, ROW + 3
                )


def _axis(x: float, pages: int, scale: float, height: float) -> Iterable[Markup]:
    yield Markup('<text x="{:.1f}" y="{:.1f}" class="q">page 0</text>').format(x, height - 3)
    if pages > 1:
        yield Markup('<text x="{:.1f}" y="{:.1f}" class="q" text-anchor="end">{}</text>').format(
            x + max(pages * scale, 70), height - 3, pages - 1
        )

# SPDX-License-Identifier: GPL-2.0-or-later
"""Drawings of looks into the kernel's memory as SVG: four columns, from stable nodes to vmas; before above after."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from harness.drawing import COLUMNS, Box, Drawing, Link, Panel
from harness.report.text import line

WIDTH = 1120.0
BOX = 216.0
HIGH = 34.0
GAP = 8.0
HEAD = 40.0  # of a panel: its title, and the columns' names
BETWEEN = 26.0


def graph(drawing: Drawing) -> Markup:
    """The look at which something was found, under the one before it."""
    panels = [p for p in (drawing.before, drawing.after) if p is not None]
    parts, y = [], 0.0
    for word, panel in zip(("before", "after")[-len(panels) :], panels, strict=True):
        parts += list(_panel(word, panel, y))
        y += _height(panel) + BETWEEN
    spoken = line("; ".join(f"{b.title}: {b.text}" for b in drawing.after.boxes if b.odd) or "nothing in the graph is wrong", 300)
    label = Markup('viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}"').format(
        WIDTH, y, f"Kernel structures; marked: {spoken}"
    )
    return Markup('<svg class="graph" {}>{}</svg>').format(label, Markup("\n").join(parts))


def _height(panel: Panel) -> float:
    lowest = max((y for _, y in _places(panel, 0.0)), default=0.0)
    return HEAD + lowest + HIGH + GAP + (14 if panel.left_out else 0)


def _panel(word: str, panel: Panel, y: float) -> Iterator[Markup]:
    yield Markup('<text x="0" y="{:.0f}" class="h">{}</text>').format(y + 12, line(f"{word}: {panel.title}", 160))
    for column, name in enumerate(COLUMNS):
        yield Markup('<text x="{:.0f}" y="{:.0f}" class="q">{}</text>').format(_x(column), y + 30, name)
    places = _places(panel, y + HEAD)
    for link in panel.links:
        yield _link(
            places[link.left],
            places[link.right],
            strong=link.strong,
            odd=panel.boxes[link.left].odd and panel.boxes[link.right].odd,
        )
    for box, (x, top) in zip(panel.boxes, places, strict=True):
        yield _box(box, x, top)
    if panel.left_out:
        yield Markup('<text x="0" y="{:.0f}" class="q">{} more boxes would not fit; witness.jsonl.gz has all.</text>').format(
            y + _height(panel) - 2, panel.left_out
        )


def _x(column: int) -> float:
    return column * (WIDTH - BOX) / (len(COLUMNS) - 1)


def _places(panel: Panel, y: float) -> list[tuple[float, float]]:
    """Items one under another; all else as near as there is room to the middle of what it is linked with."""
    tops: dict[int, float] = {}
    for column in (1, 0, 2, 3):
        free = 0.0
        for number, box in enumerate(panel.boxes):
            if box.column == column:
                links = [link for link in panel.links if number in (link.left, link.right)]
                links = [link for link in links if link.strong] or links
                linked = [tops[o] for link in links for o in _other(link, number) if o in tops]
                tops[number] = max(free, sum(linked) / len(linked)) if linked and column != 1 else free
                free = tops[number] + HIGH + GAP
    return [(_x(box.column), y + tops[number]) for number, box in enumerate(panel.boxes)]


def _other(link: Link, number: int) -> tuple[int, ...]:
    """What the link leads to from here."""
    return (link.right,) if link.left == number else (link.left,) if link.right == number else ()


def _box(box: Box, x: float, y: float) -> Markup:
    count = f"{box.count} × " if box.count > 1 else ""
    title = Markup("<title>{}</title>").format(line(f"{count}{box.title}: {box.text}"))
    frame = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.0f}" height="{:.0f}" rx="3" class="b{}{}">{}</rect>').format(
        x, y, BOX, HIGH, box.column, " odd" if box.odd else "", title
    )
    words = Markup('<text x="{:.1f}" y="{:.1f}" class="r{}">{}</text><text x="{:.1f}" y="{:.1f}" class="q">{}</text>').format(
        x + 7, y + 14, " bad" if box.odd else "", line(count + box.title, 32), x + 7, y + 27, line(box.text, 42)
    )
    return frame + words


def _link(left: tuple[float, float], right: tuple[float, float], *, strong: bool, odd: bool) -> Markup:
    x1, y1, x2, y2 = left[0] + BOX, left[1] + HIGH / 2, right[0], right[1] + HIGH / 2
    bend = (x2 - x1) / 2
    css = " ".join(["link", *["strong"] * strong, *["odd"] * odd])
    return Markup('<path class="{}" d="M{:.1f} {:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}"/>').format(
        css, x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2
    )

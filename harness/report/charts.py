# SPDX-License-Identifier: GPL-2.0-or-later
"""Small line charts and bars as SVG, without anything from outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.text import line, seconds

WIDTH, HEIGHT = 520.0, 92.0
MAX_DOTS = 24  # observations; beyond, dots are a blur and weigh more than all else
LEFT, RIGHT, TOP, BOTTOM = 52.0, 8.0, 10.0, 16.0


@dataclass(frozen=True)
class Series:
    """One line: a value per observation, None where there is none."""

    name: str
    values: tuple[int | None, ...]


@dataclass(frozen=True)
class Chart:
    """Lines over the same observations.  ``bands`` are stretches ``(first, count, name)`` of them, one per workload."""

    title: str
    series: tuple[Series, ...]
    labels: tuple[str, ...]
    bands: tuple[tuple[int, int, str], ...] = ()
    unit: str = ""
    from_zero: bool = True


def _bounds(chart: Chart) -> tuple[int, int]:
    values = [v for s in chart.series for v in s.values if v is not None]
    low = 0 if chart.from_zero else min(values, default=0)
    high = max(values, default=0)
    return low, high if high > low else low + 1


def draw(chart: Chart, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """The chart; nothing if there is no value."""
    count = max((len(s.values) for s in chart.series), default=0)
    if not any(v is not None for s in chart.series for v in s.values):
        return Markup("")
    low, high = _bounds(chart)
    step = (width - LEFT - RIGHT) / max(1, count - 1)

    def x(index: int) -> float:
        return LEFT + index * step

    def y(value: int) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    parts = [*_bands(chart, step, height), *_grid(low, high, y(high), y(low), width)]
    for number, series in enumerate(chart.series):
        parts += [
            Markup('<polyline class="l{}" points="{}"/>').format(number, " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in piece))
            for piece in _pieces(series.values, {first for first, _, _ in chart.bands})
        ]
    if count <= MAX_DOTS:
        seen = [(n, i, v) for n, s in enumerate(chart.series) for i, v in enumerate(s.values) if v is not None]
        parts += [_dot(chart, i, x(i), y(v), n) for n, i, v in seen]
    return Markup('<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, chart.title, Markup("").join(parts)
    )


def _pieces(values: Sequence[int | None], cuts: Collection[int]) -> list[list[tuple[int, int]]]:
    """Stretches without a gap or a cut; within one, points on a level line between equal ones are left out."""
    pieces: list[list[tuple[int, int]]] = [[]]
    for i, value in enumerate(values):
        if i in cuts:
            pieces.append([])
        if value is None:
            pieces.append([])
            continue
        piece = pieces[-1]
        if len(piece) >= 2 and piece[-1][1] == piece[-2][1] == value:
            piece[-1] = (i, value)
        else:
            piece.append((i, value))
    return [p + p if len(p) == 1 else p for p in pieces if p]


def _dot(chart: Chart, index: int, x: float, y: float, number: int) -> Markup:
    label = chart.labels[index] if index < len(chart.labels) else ""
    series = chart.series[number]
    text = line(f"{label}: {series.name} {series.values[index]}{chart.unit}", 120)
    # By "%", which escapes as format() does, but in a quarter of its time: there are thousands of dots.
    return Markup('<circle cx="%.1f" cy="%.1f" r="2" class="d%d"><title>%s</title></circle>') % (x, y, number, text)


def _bands(chart: Chart, step: float, height: float) -> list[Markup]:
    bands = []
    for number, (first, count, name) in enumerate(chart.bands):
        left, wide = LEFT + (first - 0.5) * step, count * step
        css = "band" if number % 2 == 0 else "band odd-band"
        bands.append(
            Markup('<rect x="{:.1f}" y="{:.0f}" width="{:.1f}" height="{:.1f}" class="{}"><title>{}</title></rect>').format(
                left, TOP, wide, height - TOP - BOTTOM, css, line(name, 60)
            )
        )
        if wide > 5.6 * len(name):
            bands.append(Markup('<text x="{:.1f}" y="{:.1f}" class="q" text-anchor="middle">{}</text>').format(
                left + wide / 2, height - 4, line(name, 40)
            ))  # fmt: skip
    return bands


def _grid(low: int, high: int, top: float, bottom: float, width: float) -> list[Markup]:
    parts = []
    for value, at in ((high, top), (low, bottom)):
        rule = Markup('<line x1="{:.0f}" x2="{:.0f}" y1="{:.1f}" y2="{:.1f}" class="grid"/>')
        parts.append(rule.format(LEFT, width - RIGHT, at, at))
        parts.append(
            Markup('<text x="{:.0f}" y="{:.1f}" class="q" text-anchor="end">{}</text>').format(LEFT - 6, at + 3.5, _short(value))
        )
    return parts


def _short(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f") if value < 10_000_000 else f"{value / 1e6:.0f}M"


def bar(parts: Sequence[tuple[str, float]], width: float = 1120.0) -> Markup:
    """Durations end to end, with a legend below."""
    total = sum(v for _, v in parts if v > 0)
    if total <= 0:
        return Markup("")
    x, blocks, legend, at = 0.0, [], [], 0.0
    for number, (name, value) in enumerate(parts):
        if value <= 0:
            continue
        wide = width * value / total
        text = f"{line(name, 24)} {seconds(value)}"
        blocks.append(Markup('<rect x="{:.1f}" y="0" width="{:.1f}" height="14" class="s{}"><title>{}</title></rect>').format(
            x, max(wide - 1.5, 0.8), number % 6, text
        ))  # fmt: skip
        key = Markup('<rect x="{:.1f}" y="24" width="9" height="9" class="s{}"/><text x="{:.1f}" y="32.5" class="r0">{}</text>')
        legend.append(key.format(at, number % 6, at + 14, text))
        x, at = x + wide, at + 34 + 7.2 * len(text)
    return Markup('<svg class="bar" viewBox="0 0 {:.0f} 38" role="img" aria-label="timings">{}</svg>').format(
        width, Markup("").join(blocks + legend)
    )

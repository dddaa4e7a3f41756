# SPDX-License-Identifier: GPL-2.0-or-later
"""A look into the kernel's memory as it is drawn: what is alike is one box, and a line says how many hang together."""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = ("stable nodes", "rmap_items", "anon_vmas", "vmas")


@dataclass(frozen=True)
class Box:
    """``count`` things that are alike, in one of the columns."""

    column: int
    title: str  # whose they are: "P1.a[0..255]"
    text: str  # what is to be said of each
    count: int = 1
    odd: bool = False  # what a finding is about


@dataclass(frozen=True)
class Link:
    """Things of one box lead to things of the next column's: by number in ``Panel.boxes``."""

    left: int
    right: int
    strong: bool = False  # vma->anon_vma, not merely linked


@dataclass(frozen=True)
class Panel:
    """One look."""

    title: str
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    left_out: int = 0  # boxes for which there was no room


@dataclass(frozen=True)
class Drawing:
    """Two looks, the later of which shows something that it should not, right after the record ``seq``."""

    seq: int
    before: Panel | None
    after: Panel

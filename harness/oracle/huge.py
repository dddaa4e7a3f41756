# SPDX-License-Identifier: GPL-2.0-or-later
"""Transparent huge pages: pages that are parts of one compound page until it is split (mm/huge_memory.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.oracle.memory import Page


class Compound:
    """A huge page, mapped by a pmd.  Its parts are ordinary pages to the rest of the model."""

    def __init__(self) -> None:
        self.parts: list[Page] = []

    def add(self, page: Page) -> None:
        """One of its parts."""
        page.compound = self
        self.parts.append(page)

    def split(self) -> None:
        """split_huge_page: the parts stay where they are, mapped by ptes."""
        for page in self.parts:
            page.compound = None
        self.parts.clear()

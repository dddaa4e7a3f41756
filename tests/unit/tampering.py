# SPDX-License-Identifier: GPL-2.0-or-later
"""Stories to tamper with, and ways to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.unit.oracle_story import N, Record, Story, attempt


def forked(p: str = "P1") -> Story:
    """P1 and P2 merged, C forked from P1, ksmd has not met it."""
    story = Story(p=p)
    story.merged("P1", "P2")
    story.fork("P1", "C")
    assert story.observe() == []
    return story


def swapped(p: str = "P16") -> Story:
    story = forked(p)
    assert story.reclaim() == []
    assert story.observe() == []
    return story


def states(story: Story, **letters: str) -> list[Record]:
    """The predicted attempt, but for some actors: one letter for each page, or for all."""
    made = story.predicted_attempts()[0]["states"]
    for actor, pages in letters.items():
        made[actor]["a"] = [[1, x] for x in (pages if len(pages) > 1 else pages * N)]
    return [attempt(made)]


def area(record: Record, actor: str) -> list[list[Any]]:
    runs: list[list[Any]] = record["procs"][actor]["areas"]["a"]
    return runs


def flip(actor: str, bits: int) -> Callable[[Record], None]:
    def tamper(record: Record) -> None:
        for run in area(record, actor):
            run[4] = f"{int(run[4], 16) ^ bits:x}"

    return tamper


def counter(name: str, by: int, where: str = "ksm") -> Callable[[Record], None]:
    def tamper(record: Record) -> None:
        record[where][name] = str(int(record[where][name]) + by)

    return tamper


def after_merge() -> Story:
    story = Story(p="P1")
    story.filled("P1", "P2")
    story.observe()
    story.scan(2)
    return story


def after_fork_scan() -> Story:
    story = forked("P3")
    story.scan()
    return story

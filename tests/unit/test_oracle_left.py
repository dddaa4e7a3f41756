# SPDX-License-Identifier: GPL-2.0-or-later
"""Page frames that nobody maps any more and nobody has freed."""

from __future__ import annotations

from harness.findings import Tier
from tests.unit.oracle_story import Record, Story, Tamper


def left(count: int) -> Tamper:
    def tamper(record: Record) -> None:
        record["left"] = count

    return tamper


def gone() -> Story:
    """P1 and P2 were merged, and P2 has exited."""
    story = Story(p="P14")
    story.merged("P1", "P2")
    story.exit("P2")
    return story


def test_a_page_that_was_not_freed() -> None:
    story = gone()
    story.scan()
    (finding,) = story.observe(left(3))
    assert finding.signature == "P6:page-leak:scan"
    assert finding.tier is Tier.SAFETY
    assert finding.summary == "not freed, though nobody maps them any more: 3 pages"
    story.scan()
    assert story.observe(left(3)) == []


def test_before_a_scan_pagevecs_may_hold_pages() -> None:
    story = gone()
    assert story.observe(left(3)) == []
    story.scan()
    story.verify("P1")
    assert story.observe(left(3)) == []


def test_the_rest_of_a_scan_drains_nothing() -> None:
    story = gone()
    now = story.model.ksmd.full_scans
    story.op("batch", {"from": now, "to": now}, pages=1)
    story.exit("P1")
    story.scan()
    assert story.observe(left(3)) == []
    story.scan()
    (finding,) = story.observe(left(3))
    assert finding.signature == "P6:page-leak:scan"


def test_a_pipe_holds_pages() -> None:
    story = gone()
    story.on("pin", "P1", count=2)
    story.on("munmap", "P1")
    story.scan()
    assert story.observe() == []
    (finding,) = story.observe(left(3))
    assert finding.summary == "not freed, though nobody maps them any more: 1 page"


def test_a_merge_that_fails_may_leave_its_page_in_a_pagevec() -> None:
    story = Story(p="P7")
    story.filled("P1", "P2")
    story.on("pin", "P1")
    story.scan(3)
    assert story.observe(left(16)) == []


def test_a_journal_that_does_not_tell_is_not_judged() -> None:
    story = gone()
    story.scan()

    def silent(record: Record) -> None:
        del record["left"]

    assert story.observe(silent) == []

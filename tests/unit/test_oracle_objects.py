# SPDX-License-Identifier: GPL-2.0-or-later
"""KSM's objects, counted by their slab caches."""

from __future__ import annotations

import pytest

from harness.oracle import Semantics

from .oracle_story import N, Record, Story


@pytest.mark.parametrize("cache", ["ksm_rmap_item", "ksm_stable_node", "ksm_mm_slot"])
@pytest.mark.parametrize("number", [-1, 1])
def test_an_object_too_many_or_too_few_is_a_finding(cache: str, number: int) -> None:
    def tamper(record: Record) -> None:
        record["slab"][cache] += number

    story = Story(p="P14")
    story.merged()
    assert story.observe(slab=True) == []
    story.fork("P1", "C")
    story.scan()
    story.exit("P2")
    story.scan()
    (finding,) = story.observe(tamper, slab=True)
    assert finding.signature == "P6:reference-leak:scan"
    assert f"the {cache} slab cache has {number:+d} objects" in finding.summary


def test_a_cache_that_is_merged_with_others_says_nothing() -> None:
    def tamper(record: Record) -> None:
        record["slab"]["ksm_mm_slot"] = None

    story = Story(p="P14")
    story.observe(tamper, slab=True)
    story.merged()
    assert story.observe(tamper, slab=True) == []


def test_objects_that_are_freed_after_a_grace_period_say_nothing() -> None:
    def tamper(record: Record) -> None:
        record["slab"]["ksm_rmap_item"] += 1

    story = Story(p="P14", semantics=Semantics(frees_after_grace=True))
    story.merged()
    story.observe(slab=True)
    story.exit("P2")
    story.scan()
    assert story.observe(tamper, slab=True) == []


def test_a_node_whose_page_is_gone_may_be_gone_too() -> None:
    """A search that passes by removes it; as long as P maps the page it must be there."""

    def tamper(record: Record) -> None:
        record["slab"]["ksm_stable_node"] -= N

    for gone, signatures in ((False, ["P6:reference-leak:exit"]), (True, [])):
        story = Story(p="P14")
        story.observe(slab=True)
        story.filled("P", mergeable=False)
        story.filled("O")
        story.fork("P", "C")
        story.on("mergeable", "C")
        story.scan(2)
        story.exit("C", "O")
        story.scan()
        story.exit(*("P",) * gone)
        story.observe(tamper, slab=True)
        assert [s.rpartition(":")[0] for s in story.signatures] == [s.rpartition(":")[0] for s in signatures]

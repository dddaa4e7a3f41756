# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations that a kernel refused, and processes that died of them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.findings import Finding, Tier
from harness.oracle import JournalContradiction

from .oracle_story import HELLO, N, Record, Story


def refuse(story: Story, op: str, errno: str, results: Record | None = None, **arguments: Any) -> list[Finding]:
    """The operation is told, and that it failed."""
    return story.op(op, {"rc": -1, "errno": errno, **(results or {})}, **arguments)


@pytest.mark.parametrize(
    ("op", "errno", "arguments", "signature", "tier"),
    [
        ("mergeable", "EINVAL", {"actor": "P1", "area": "a", "first": 0, "count": N}, "P14:refused:mergeable", Tier.ACCOUNTING),
        (
            "unmergeable",
            "EFAULT",
            {"actor": "P1", "area": "a", "first": 0, "count": N},
            "P18:refused:unmergeable",
            Tier.ACCOUNTING,
        ),
        ("run", "EFAULT", {"value": "2"}, "P18:refused:run", Tier.ACCOUNTING),
        ("fork", "EINVAL", {"actor": "P1", "child": "C"}, "P15:refused:fork", Tier.SAFETY),
        ("read", "EHWPOISON", {"actor": "P1", "area": "a", "first": 0, "count": N}, "P16:refused:read", Tier.SAFETY),
        ("pageout", "EFAULT", {"actor": "P1", "area": "a", "first": 0, "count": N}, "P3:refused:pageout", Tier.SAFETY),
        ("scan", "ETIME", {"scans": 1}, "P14:refused:scan", Tier.ACCOUNTING),
    ],
)
def test_what_a_kernel_must_do_and_did_not_is_a_finding(
    op: str, errno: str, arguments: Record, signature: str, tier: Tier
) -> None:
    story = Story(p="P3")
    story.merged()
    (finding,) = refuse(story, op, errno, **arguments)
    assert (finding.signature, finding.tier, finding.seen) == (signature, tier, errno)
    assert finding.actors == ((arguments["actor"],) if "actor" in arguments else ())


@pytest.mark.parametrize("errno", ["ENOMEM", "EAGAIN", "ENOSYS"])
def test_what_may_fail_for_the_guests_sake_is_none(errno: str) -> None:
    story = Story()
    story.merged()
    assert refuse(story, "run", errno, value="2") == []
    assert any("run failed" in n for n in story.oracle.notes)
    assert story.model.memory.unsure


@pytest.mark.parametrize(("available", "told"), [(100_000, False), (200_000, True)])
@pytest.mark.parametrize(
    ("op", "errno", "arguments", "signature"),
    [
        ("fork", "ENOMEM", {"child": "C"}, "P15:refused:fork"),
        ("mergeable", "EAGAIN", {"area": "a", "first": 0, "count": N}, "P14:refused:mergeable"),
    ],
)
def test_memory_is_not_short_where_much_is_available(
    op: str, errno: str, arguments: Record, signature: str, available: int, told: bool
) -> None:
    """copy_mm says ENOMEM whatever dup_mm failed with; madvise says EAGAIN for ENOMEM."""
    story = Story(hello={**HELLO, "mem_kb": 500_000})
    story.merged()
    found = refuse(story, op, errno, {"available_kb": available}, actor="P1", **arguments)
    assert [f.signature for f in found] == [signature] * told


def test_a_tunable_that_takes_any_number_must_take_it() -> None:
    story = Story()
    assert refuse(story, "set", "ENOENT", file="use_zero_pages", value="1") == []
    (finding,) = refuse(Story(), "set", "EINVAL", file="use_zero_pages", value="1")
    assert finding.signature == "P23:tunable:set"
    (finding,) = refuse(Story(), "set", "EBUSY", file="stable_node_chains_prune_millisecs", value="0")
    assert finding.signature == "P20:tunable:set"


def test_a_process_that_dies_is_a_finding() -> None:
    story = Story()
    story.merged()
    (finding,) = refuse(story, "read", "ESRCH", {"died": ["P1", 11, -1]}, actor="P1", area="a", first=0, count=N)
    assert finding.signature == "P16:killed:read"
    assert finding.summary == "P1 died of signal 11"


def test_a_process_that_the_oom_killer_took_is_none() -> None:
    story = Story()
    story.merged()
    assert refuse(story, "fill", "ESRCH", {"died": ["P1", 9, -1]}, actor="P1", area="a", first=0, count=N, tag=1, step=1) == []


def test_a_death_of_nobody_contradicts_the_journal() -> None:
    story = Story()
    with pytest.raises(JournalContradiction, match="no death"):
        refuse(story, "churn", "ESRCH", {"died": ["P1"]}, rounds=1)


@pytest.mark.parametrize(
    ("file", "signature"), [("run", "P18:counter-run:run"), ("max_page_sharing", "P18:counter-max_page_sharing:run")]
)
def test_what_was_written_is_read_again(file: str, signature: str) -> None:
    def tamper(record: Record) -> None:
        record["ksm"][file] = "0"

    story = Story(p="P18")
    story.merged()
    story.run(2)
    assert [f.signature for f in story.observe(tamper)] == [signature]

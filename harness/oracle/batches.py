# SPDX-License-Identifier: GPL-2.0-or-later
"""ksmd woken for so many pages: whether it comes to its list's end tells what it has met on the way."""

from __future__ import annotations

from harness.findings import Tier
from harness.oracle.judge import Difference
from harness.oracle.model import Model
from harness.oracle.records import Fields

_WHERE = {True: "at the end of its list", False: "still in the middle of its list"}


def judge_batch(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """Let the model's ksmd go as far, and compare."""
    ksmd = model.ksmd
    asked, ends = op.number("pages", 0), ret.number("to", 0) - ret.number("from", 0)
    before = ksmd.pages_scanned
    if "failing" in op.data:
        ksmd.failing = op.number("failing", 1)
    ended = ksmd.batch(asked)
    failed, ksmd.failing = ksmd.failing is None, None
    if "failing" in op.data and failed != ret.flag("failed"):
        model.memory.doubt("ksmd's allocations are not those that the model has")
        return []
    if ends == ended:
        return []
    ksmd.full_scans = ret.number("to")
    model.memory.doubt("ksmd is elsewhere than the model has it")
    return [
        Difference(
            kind="cursor", op="batch", tier=Tier.ACCOUNTING, prop="P14",
            summary=f"after a batch of {asked} pages ksmd is {_WHERE[ends > 0]}, and should be {_WHERE[ended]}",
            expected=f"{ksmd.pages_scanned - before} pages met, and ksmd {_WHERE[ended]}", seen=_WHERE[ends > 0],
            why="ksmd goes on where it stopped, and meets each page once (scan_get_next_rmap_item, __ksm_enter, __ksm_exit)",
        )
    ]  # fmt: skip

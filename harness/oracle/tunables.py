# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes to ksmd's tunables, which the kernel may refuse (mm/ksm.c: max_page_sharing_store, merge_across_nodes_store)."""

from __future__ import annotations

from harness.findings import Tier
from harness.oracle.judge import Difference
from harness.oracle.ksmd import Ksmd
from harness.oracle.model import Model
from harness.oracle.records import Fields, decimal
from harness.oracle.refusals import EXCUSED

_ANY_VALUE = {
    "stable_node_chains_prune_millisecs": "P20",
    "use_zero_pages": "P23",
    "smart_scan": "P14",
}  # files, and what they belong to
_WHY = "is only changed while no stable node is in use (pages_shared, remove_all_stable_nodes)"


def refusal(ksmd: Ksmd, file: str, value: int) -> str | None:
    """The error that a write must fail with, by name; "" if it must succeed, None where this module has no opinion.

    Neither knob can be turned while a stable node has an item or its page is mapped (remove_stable_node).
    """
    tree = ksmd.tree
    if file == "max_page_sharing":
        valid, changes = value >= 2, value != tree.max_page_sharing
    elif file == "merge_across_nodes":
        valid, changes = value in (0, 1), bool(value) != tree.merge_across_nodes
    elif file == "run":  # written as a tunable only to be refused (run_store: flags > KSM_RUN_UNMERGE)
        return "" if value in (0, 1, 2) else "EINVAL"
    else:
        return "" if file in _ANY_VALUE else None
    if not valid:
        return "EINVAL"
    busy = tree.pages_shared or any(node.in_use for node in tree.nodes())
    return "EBUSY" if changes and busy else ""


def judge_set(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """Compare the outcome of a write, and let the model have what was written."""
    value = decimal(op.data.get("value"))
    if value is None:  # advisor_mode and the like are words
        return []
    file = op.text("file")
    expected = refusal(model.ksmd, file, value)
    seen = ret.text("errno") if ret.number("rc") < 0 else ""
    if not seen:
        model.set_tunable(file, value)
    elif expected is not None and not model.ksmd.tree.pages_shared:
        model.ksmd.tree.remove_unmapped()  # as far as it came
    elif expected is None:
        model.memory.doubt(f"{file} could not be written")
    if expected is None or model.memory.unsure or seen == expected or seen in EXCUSED:
        return []
    return [_difference(file, value, expected, seen)]


def _difference(file: str, value: int, expected: str, seen: str) -> Difference:
    what = {"": "be accepted", "EBUSY": "be refused, as pages are merged", "EINVAL": "be refused as invalid"}
    return Difference(
        kind="tunable", op="set", tier=Tier.ACCOUNTING, prop="P18" if file == "run" else _ANY_VALUE.get(file, "P20"),
        summary=f"{value} written to {file} {'failed with ' + seen if seen else 'was accepted'}, and was to {what[expected]}",
        expected=expected or "success", seen=seen or "success",
        why="run is 0, 1 or 2" if file == "run" else f"{file} {'takes any number' if file in _ANY_VALUE else _WHY}",
    )  # fmt: skip

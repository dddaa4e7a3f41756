# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations of which an allocation was made to fail (fault injection), and what they leave when they are refused."""

from __future__ import annotations

from collections.abc import Callable

from harness.findings import Tier
from harness.oracle.judge import Difference
from harness.oracle.model import Model
from harness.oracle.operations import pages_of
from harness.oracle.records import Fields
from harness.oracle.special import merge_none_refused

_ERRORS = ("ENOMEM", "EAGAIN")  # of which madvise makes the second of the first (mm/madvise.c)


def was_refused(ret: Fields) -> bool:
    """The operation was not done, as an allocation was made to fail."""
    return ret.number("rc") < 0 and ret.data.get("failed") is True


def apply_refusal(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """What was done before the allocation failed; the error must say that memory was short."""
    left = _LEFT.get(op.text("op"))
    if left is None:
        raise ret.fail(f"no allocation of {op.text('op')} is made to fail")
    found = left(model, op, ret)
    error = ret.text("errno")
    if error in _ERRORS:
        return found
    return [
        *found,
        Difference(
            kind="refused", op=op.text("op"), tier=Tier.ACCOUNTING,
            summary=f"{op.text('op')} failed with {error or 'no reason'} when memory was refused to it",
            expected=" or ".join(_ERRORS), seen=error, why="an allocation that fails is ENOMEM, whoever asked for it",
        ),
    ]  # fmt: skip


def _nothing(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """mergeable: __ksm_enter comes before vm_flags.  fork: dup_mm gives back all that it took."""
    return []


def _unmergeable(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """ksm_madvise: VM_MERGEABLE stays "while any such pages might remain in the area" (break_ksm)."""
    model.unmerge_short(*pages_of(model, op), op.number("failing", 1))
    return []


def _run(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """run_store: what was unmerged is, and run is 0."""
    model.unmerge_all_short(op.number("failing", 1))
    return []


_LEFT: dict[str, Callable[[Model, Fields, Fields], list[Difference]]] = {
    "mergeable": _nothing, "fork": _nothing, "unmergeable": _unmergeable, "run": _run, "merge_any": merge_none_refused,
}  # fmt: skip

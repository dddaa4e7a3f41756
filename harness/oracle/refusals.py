# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations that the kernel did not do, and of which a correct kernel does every one."""

from __future__ import annotations

from dataclasses import dataclass

from harness.findings import Tier
from harness.oracle.judge import Difference
from harness.oracle.records import Fields, decimal

# What may fail for the sake of the guest's memory, its limits, or what this kernel was built without.
EXCUSED = frozenset({"ENOMEM", "EAGAIN", "EINTR", "ENOSPC", "EMFILE", "ENFILE", "ENOSYS", "EOPNOTSUPP", "ENOENT"})
_AMPLE = 4  # of the guest's memory such a part: where so much is available nothing is short of it
_MADVISE = frozenset({"mergeable", "unmergeable", "hugepage"})  # which says EAGAIN for ENOMEM (mm/madvise.c)
_SIGKILL = 9  # of the guest's OOM killer, most likely


@dataclass(frozen=True)
class _Duty:
    """What an operation shows by being done."""

    prop: str  # "": the one in progress
    why: str
    tier: Tier = Tier.SAFETY


_FAULT = "each access to the process's own memory is served (do_anonymous_page, do_swap_page, do_wp_page)"
_SYSCALL = "the arguments are valid, and memory is not short"
_DUTIES = {
    "mergeable": _Duty("P14", "any private anonymous area can be made mergeable (ksm_madvise, __ksm_enter)", Tier.ACCOUNTING),
    "unmergeable": _Duty("P18", "each KSM page of the range can be broken (unmerge_ksm_pages, break_ksm)", Tier.ACCOUNTING),
    "run": _Duty("P18", "a hole, or a page that is no KSM page, is passed over (run_store, break_ksm)", Tier.ACCOUNTING),
    "scan": _Duty("P14", "ksmd scans at run=1 while an mm is on its list (ksmd_should_run, __ksm_enter)", Tier.ACCOUNTING),
    "fork": _Duty("P15", "a fork is registered with ksmd as its parent is (ksm_fork), and that needs memory only"),
    "mprotect": _Duty("P8", _SYSCALL),
    "mlock": _Duty("P9", _SYSCALL),
    "munlock": _Duty("P9", _SYSCALL),
    "munmap": _Duty("P11", _SYSCALL),
    "mremap": _Duty("P11", "KSM pages are broken before they are moved (move_vma: ksm_madvise), which needs memory only"),
    "resize": _Duty("P11", _SYSCALL),
    "renew": _Duty("P11", _SYSCALL),
    "putback": _Duty("P19", "a page with a reference too many is isolated, cannot be migrated (EBUSY), and is put back"),
    "read": _Duty("P16", _FAULT),
    "touch": _Duty("P16", _FAULT),
    "verify": _Duty("P16", _FAULT),
    "write": _Duty("P17", _FAULT),
    "fill": _Duty("P17", _FAULT),
    "grab": _Duty("P17", _FAULT),
}  # fmt: skip
_OTHER = _Duty("", _SYSCALL)


def short_of_memory(ret: Fields, total_kb: int | None) -> bool:
    """Whether ENOMEM may be true: it is said of other failures too (kernel/fork.c: copy_mm, of all that dup_mm fails with)."""
    available = decimal(ret.data.get("available_kb"))
    return available is None or not total_kb or available < total_kb // _AMPLE


def judge_refusal(op: Fields, ret: Fields, prop: str, *, total_kb: int | None, poisoned: bool) -> list[Difference]:
    """What it means that ``op`` ended with rc -1.

    ``prop`` is in progress; ``total_kb`` is the guest's memory; ``poisoned``: there are pages that nobody can read.
    """
    name, error = op.text("op"), ret.text("errno")
    duty = _DUTIES.get(name, _OTHER)
    if ret.data.get("died") is not None:
        return _death(name, ret, poisoned=poisoned)
    of_memory = error == "ENOMEM" or (error == "EAGAIN" and name in _MADVISE)
    needless = of_memory and not short_of_memory(ret, total_kb)
    if (error in EXCUSED and not needless) or (error == "EHWPOISON" and poisoned):
        return []
    seen = "did not happen" if error == "ETIME" else f"failed with {error or 'no reason'}"
    seen += f", with {ret.data.get('available_kb')} kB available" if needless else ""
    seen = "ended in SIGBUS" if error == "EHWPOISON" else seen
    return [
        Difference(
            kind="refused", op=name, tier=duty.tier, prop=duty.prop or prop, actors=_actor(op),
            summary=f"{name}{''.join(f' in {a}' for a in _actor(op))} {seen}",
            expected="success", seen=error, why=duty.why,
        )
    ]  # fmt: skip


def _actor(op: Fields) -> tuple[str, ...]:
    actor = op.data.get("actor")
    return (actor,) if isinstance(actor, str) else ()


def _death(name: str, ret: Fields, *, poisoned: bool) -> list[Difference]:
    """A process that died, by what it did or while nothing was asked of it."""
    raw = ret.items("died")
    if len(raw) != 3 or not isinstance(raw[0], str):
        raise ret.fail(f"no death: {raw!r}")
    actor, signal, status = raw[0], ret.whole(raw[1], "died", 0), ret.whole(raw[2], "died")
    if signal == _SIGKILL or poisoned:
        return []
    how = f"signal {signal}" if signal else f"exit status {status}"
    return [
        Difference(
            kind="killed", op=name, tier=Tier.SAFETY, prop="P16", actors=(actor,),
            summary=f"{actor} died of {how}", expected=f"{actor} lives", seen=how,
            why="each pte leads to a page or a swap slot with the process's own bytes (do_swap_page, do_wp_page)",
        )
    ]  # fmt: skip

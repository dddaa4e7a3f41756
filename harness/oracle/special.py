# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that KSM is to leave alone, processes that are merged as a whole, and what smaps says of both."""

from __future__ import annotations

from dataclasses import replace

from harness.findings import Tier
from harness.oracle.address_space import Mm
from harness.oracle.huge import Compound
from harness.oracle.judge import Difference, pages, who
from harness.oracle.model import Model
from harness.oracle.records import Fields, decimal

_IGNORED = "ksm_madvise accepts private anonymous memory only, and ignores the advice for all else, with success"


def judge_smaps(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """VM_MERGEABLE ("mg" of VmFlags) and, where there is one, the line ``KSM:``, of an area."""
    mm = model.actor(op.text("actor"))
    area = op.text("area")
    start, _ = model.span(mm, area, 0, 0)
    end = start + mm.areas[area].npages
    mergeable = sum(min(end, v.end) - max(start, v.start) for v in mm.vmas_in(start, end) if v.flags.mergeable)
    found = []
    if ret.number("mergeable", 0) != mergeable:
        found.append(_flags(op, mm, area, ret.number("mergeable"), mergeable))
    ksm = sum(1 for p in mm.ptes_in(start, end) if p.page is not None and p.page.ksm)
    seen = decimal(ret.data.get("ksm"))
    if seen is not None and seen != ksm and not model.memory.unsure:
        found.append(_ksm_line(mm, area, seen, ksm))
    return found


def _flags(op: Fields, mm: Mm, area: str, seen: int, expected: int) -> Difference:
    return Difference(
        kind="vm-flags", op=op.text("op"), tier=Tier.ACCOUNTING, actors=(mm.name,),
        summary=f"{pages(seen)} of {mm.name}.{area} are VM_MERGEABLE where {expected} are expected",
        expected=f"{expected} in vmas with VM_MERGEABLE", seen=str(seen), why=f"{_IGNORED}; mremap keeps the flag",
    )  # fmt: skip


def _ksm_line(mm: Mm, area: str, seen: int, expected: int) -> Difference:
    return Difference(
        kind="counter-smaps-ksm", op="smaps", tier=Tier.ACCOUNTING, actors=(mm.name,),
        summary=f"smaps has {pages(seen)} of {mm.name}.{area} as KSM where {expected} are expected",
        expected=str(expected), seen=str(seen), why="each pte that maps a KSM page counts (fs/proc/task_mmu.c: smaps_account)",
    )  # fmt: skip


def judge_strange(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """MADV_MERGEABLE on memory that is no area: a VM_PFNMAP mapping, a shared file, memory that may be dropped.

    It is ignored.  A heap, which nobody advised, is mergeable where all of the process is (mm/mmap.c: do_brk_flags).
    """
    mm, mapping = model.actor(op.text("actor")), str(op.data.get("mapping", "vvar"))
    expected = ret.number("pages", 1) if mapping == "heap" and mm.merge_any else 0
    if ret.number("mergeable", 0) == expected:
        return []
    return [_flags(op, mm, f"[{mapping}]", ret.number("mergeable"), expected)]


def judge_merge_any(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """prctl(PR_SET_MEMORY_MERGE): what the whole process has becomes mergeable, or is unmerged."""
    mm = model.actor(op.text("actor"))
    seen = ret.text("errno") if ret.number("rc") < 0 else ""
    expected = "" if model.semantics.has_merge_any else "EINVAL"
    if not seen:
        _merge_any(model, mm, on=op.flag("on"))
        told = decimal(ret.data.get("told"))
        if told is not None and told != op.flag("on"):
            return [_told(mm, told, on=op.flag("on"))]
    if seen == expected:
        return []
    return [
        Difference(
            kind="prctl", op="merge_any", tier=Tier.ACCOUNTING, actors=(mm.name,),
            summary=f"prctl(PR_SET_MEMORY_MERGE) of {who([mm])} ended with {seen or 'success'}, not {expected or 'success'}",
            expected=expected or "success", seen=seen or "success", why="kernel/sys.c: prctl; 6.4 and later",
        )
    ]  # fmt: skip


def _told(mm: Mm, told: int, *, on: bool) -> Difference:
    return Difference(
        kind="prctl", op="merge_any", tier=Tier.ACCOUNTING, actors=(mm.name,),
        summary=f"prctl(PR_GET_MEMORY_MERGE) of {who([mm])} tells {told} where {int(on)} was set",
        expected=str(int(on)), seen=str(told), why="kernel/sys.c: prctl (MMF_VM_MERGE_ANY); 6.4 and later",
    )  # fmt: skip


def merge_none_refused(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """ksm_disable_merge_any that gets no page for one of its copies: what was unmerged is, and the process is as it was."""
    mm = model.actor(op.text("actor"))
    start, end = mm.vmas[0].start, mm.vmas[-1].end
    model.unmerge_short(mm, start, end, op.number("failing", 1))
    mm.change(start, end, lambda f: replace(f, mergeable=not f.shared))
    told = decimal(ret.data.get("told"))
    return [_told(mm, told, on=True)] if told is not None and told != 1 else []


def _merge_any(model: Model, mm: Mm, *, on: bool) -> None:
    """ksm_enable_merge_any, ksm_disable_merge_any."""
    if on == mm.merge_any:
        return
    mm.merge_any = on
    if on:
        model.ksmd.enter(mm)
    for vma in list(mm.vmas):
        if not on and vma.flags.mergeable and vma.anon_vma is not None:
            model.ksmd.break_ksm(vma, vma.start, vma.end)
    if mm.vmas:
        mm.change(mm.vmas[0].start, mm.vmas[-1].end, lambda f: replace(f, mergeable=on and not f.shared))


def apply_hugepage(model: Model, op: Fields) -> None:
    """MADV_HUGEPAGE.  Whether huge pages were to be had is seen at the next observation."""
    mm = model.actor(op.text("actor"))
    start, end = model.span(mm, op.text("area"), op.number("first", 0), op.number("count", 0))
    mm.change(start, end, lambda f: replace(f, huge=True))
    model.huge_pages = op.number("pages", 1)


def apply_collapse(model: Model, mm: Mm, start: int, end: int) -> None:
    """MADV_COLLAPSE: a huge page takes the place of all small ones, ksmd's pages of zeros among them (collapse_huge_page)."""
    memory, compound = model.memory, Compound()
    vma = mm.vma_at(start)
    assert vma is not None
    for addr, content in zip(range(start, end), model.contents(mm, start, end), strict=True):
        pte = memory.pte(mm, addr)
        memory.unmap(pte)
        compound.add(memory.new_page(pte, vma, content))

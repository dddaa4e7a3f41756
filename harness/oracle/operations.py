# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's operations, applied to the model.  Those whose results are judged are in ``oracle``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.oracle import ageing, faults
from harness.oracle.address_space import Mm
from harness.oracle.model import MASK, Model
from harness.oracle.records import Fields, decimal
from harness.oracle.remap import apply_move, apply_resize, page_number, page_size, renew
from harness.oracle.special import apply_collapse, apply_hugepage

Apply = Callable[[Model, Fields, Fields], None]


def pages_of(model: Model, op: Fields) -> tuple[Mm, int, int]:
    """The pages that an operation names: mm and addresses [start, end)."""
    mm = model.actor(op.text("actor"))
    start, end = model.span(mm, op.text("area"), op.number("first", 0), op.number("count", 0))
    return mm, start, end


def _spawn(model: Model, op: Fields, ret: Fields) -> None:
    model.spawn(op.text("actor"), op.text("memcg"), ret.number("pid", 0))


def _map(model: Model, op: Fields, ret: Fields) -> None:
    size, length = page_size(op), op.number("bytes", 1)
    if length % size:
        raise op.fail(f"{length} bytes are not whole pages of {size}")
    shared = bool(op.data.get("shared"))
    model.map(model.actor(op.text("actor")), op.text("area"), page_number(op, "addr"), length // size, shared=shared)


def _write(model: Model, op: Fields, ret: Fields) -> None:
    mm, start, end = pages_of(model, op)
    model.write(mm, start, end, op.number("tag") & MASK, op.number("step"))


def _read(model: Model, op: Fields, ret: Fields) -> None:
    model.read(*pages_of(model, op))


def _grab(model: Model, op: Fields, ret: Fields) -> None:
    """A write fault without a write: get_user_pages_fast with FOLL_WRITE, which marks the page as accessed."""
    mm, start, end = pages_of(model, op)
    for addr in range(start, end):
        faults.write(model.memory, mm, addr).referenced = None


def _mergeable(model: Model, op: Fields, ret: Fields) -> None:
    model.mergeable(*pages_of(model, op))


def _unmergeable(model: Model, op: Fields, ret: Fields) -> None:
    model.unmergeable(*pages_of(model, op))


def _pageout(model: Model, op: Fields, ret: Fields) -> None:
    """What it should take out is taken out; its KSM page may well stay in the swap cache, being written."""
    mm, start, end = pages_of(model, op)
    for page, ptes in model.plan_pageout(mm, start, end).items():
        page.referenced = None  # folio_clear_referenced, and what comes back from the swap cache
        model.memory.swap_out(page, ptes)
        for pte in ptes:
            if pte.entry is not None:
                pte.entry.unsure = page.ksm and not page.extra_refs  # a pinned one does stay


def _lazyfree(model: Model, op: Fields, ret: Fields) -> None:
    """MADV_FREE: a page of one process is clean and old until it is written or merged; a KSM page that others map stays as it is.

    Not followed is what reclaim may do to pages that are neither (mm/madvise.c: madvise_free_pte_range).
    """
    mm, start, end = pages_of(model, op)
    for pte in mm.ptes_in(start, end):
        page = pte.page
        if page is None or (page.ksm and page.mapcount > 1):
            continue
        if page.ksm or page.mapcount > 1:
            raise op.fail(f"{mm.name} gives up pages that are not only its own and not merged")
        model.memory.uncache(page)
        pte.dirty = pte.young = page.young = page.referenced = False


def _fork(model: Model, op: Fields, ret: Fields) -> None:
    """Where the slot's allocation was made to fail, and the fork succeeded, ksmd has not heard of it ("best effort")."""
    slot = ret.data.get("failed") is not True
    model.fork(model.actor(op.text("actor")), op.text("child"), ret.number("pid", 0), slot=slot)


def _failing_forks(model: Model, op: Fields, ret: Fields) -> None:
    """All but the last fail somewhere, and leave what a child leaves that has exited."""
    name = f"a child of {op.text('actor')}"
    model.fork(model.actor(op.text("actor")), name)
    model.exit(name)


def _exit(model: Model, op: Fields, ret: Fields) -> None:
    model.exit(op.text("actor"))


def _exec(model: Model, op: Fields, ret: Fields) -> None:
    model.exec(op.text("actor"))


def _munmap(model: Model, op: Fields, ret: Fields) -> None:
    model.munmap(*pages_of(model, op))


def _mprotect(model: Model, op: Fields, ret: Fields) -> None:
    prot = op.text("prot")
    if prot not in ("r", "rw", "rwx", "none"):
        raise op.fail(f"no protection: {prot!r}")
    model.mprotect(*pages_of(model, op), "" if prot == "none" else prot)


def _mlock(model: Model, op: Fields, ret: Fields) -> None:
    model.mlock(*pages_of(model, op), onfault=op.flag("onfault"))


def _munlock(model: Model, op: Fields, ret: Fields) -> None:
    model.munlock(*pages_of(model, op))


def _pin(model: Model, op: Fields, ret: Fields) -> None:
    model.pin(*pages_of(model, op))


def _unpin(model: Model, op: Fields, ret: Fields) -> None:
    model.unpin(model.actor(op.text("actor")))


def _value(op: Fields) -> int:
    value = decimal(op.data.get("value"))
    if value is None:
        raise op.fail(f"no number: {op.data.get('value')!r}")
    return value


def _run(model: Model, op: Fields, ret: Fields) -> None:
    if _value(op) not in (0, 1, 2):
        raise op.fail(f"run is 0, 1 or 2, not {_value(op)}")
    model.set_run(_value(op))


def _mremap(model: Model, op: Fields, ret: Fields) -> None:
    apply_move(model, op)


def _compact(model: Model, op: Fields, ret: Fields) -> None:
    """Any page may have moved; that all its mappers went along is seen at the next observation."""


def _resize(model: Model, op: Fields, ret: Fields) -> None:
    apply_resize(model, op)


def _renew(model: Model, op: Fields, ret: Fields) -> None:
    renew(model, *pages_of(model, op))


def _bind(model: Model, op: Fields, ret: Fields) -> None:
    """mbind(MPOL_BIND): pages that come from now on are of that node; a policy of its own also keeps vmas apart."""
    mm, start, end = pages_of(model, op)
    node = op.number("node", 0)
    mm.change(start, end, lambda f: replace(f, bound=node))


def _hugepage(model: Model, op: Fields, ret: Fields) -> None:
    apply_hugepage(model, op)


def _collapse(model: Model, op: Fields, ret: Fields) -> None:
    if not ret.text("error"):
        apply_collapse(model, *pages_of(model, op))


def _nothing(model: Model, op: Fields, ret: Fields) -> None:
    """Nothing that the model knows of is changed: churn, thp, twin."""


def _move(model: Model, op: Fields, ret: Fields) -> None:
    """What the process has touched stays charged to where it was."""
    model.actor(op.text("actor")).memcg = op.text("memcg")


def _clear_refs(model: Model, op: Fields, ret: Fields) -> None:
    ageing.clear_refs(model.actor(op.text("actor")))


def _touch(model: Model, op: Fields, ret: Fields) -> None:
    ageing.touch(model, *pages_of(model, op))


def _putback(model: Model, op: Fields, ret: Fields) -> None:
    ageing.putback(*pages_of(model, op))


def _idle_set(model: Model, op: Fields, ret: Fields) -> None:
    ageing.idle_set(*pages_of(model, op))


def _swapoff(model: Model, op: Fields, ret: Fields) -> None:
    model.swap_off()


def _hand_over(model: Model, op: Fields, ret: Fields) -> None:
    """A process exits whose mm another one has too (mmput: mm_users is not 0): nothing is gone."""
    model.actor(op.text("actor")).pid = ret.number("pid", 0)


OPERATIONS: dict[str, Apply] = {
    "spawn": _spawn, "map": _map, "fill": _write, "write": _write, "read": _read, "mergeable": _mergeable,
    "unmergeable": _unmergeable, "pageout": _pageout, "fork": _fork, "exit": _exit, "exec": _exec, "munmap": _munmap,
    "mprotect": _mprotect, "mlock": _mlock, "munlock": _munlock, "pin": _pin, "unpin": _unpin, "run": _run,
    "churn": _nothing, "compact": _compact, "move": _move, "clear_refs": _clear_refs, "touch": _touch, "putback": _putback,
    "idle_set": _idle_set, "mremap": _mremap, "resize": _resize, "renew": _renew, "bind": _bind, "hugepage": _hugepage,
    "failing_forks": _failing_forks, "thp": _nothing, "twin": _nothing, "hand_over": _hand_over,
    "swapoff": _swapoff, "collapse": _collapse, "lazyfree": _lazyfree, "grab": _grab,
}  # fmt: skip

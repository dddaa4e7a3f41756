# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults on behalf of a memcg that has no room (mm/memcontrol.c: try_charge_memcg)."""

from __future__ import annotations

from collections.abc import Iterator

from harness.findings import Tier
from harness.oracle import faults
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference, Places, pages
from harness.oracle.model import Model
from harness.oracle.operations import pages_of
from harness.oracle.records import Fields

MANY = 256  # reads that were refused again, where pages are lost (workloads/lib/limit.c: MANY times ROUNDS)


def read_without_room(model: Model, op: Fields, ret: Fields) -> list[Difference]:
    """What needs no page is served; what needs one may be refused, and then nothing is changed.

    The reclaim that is tried before cannot swap, but it makes pages old (can_age_anon_pages).  Those that are served
    have been within what the CPU had charged in advance (consume_stock).
    """
    mm, start, end = pages_of(model, op)
    refused = Places()
    error = ""
    for page in model.pages():
        if page.memcg == mm.memcg:
            page.referenced = page.young = None
            for pte in page.ptes:
                pte.young = pte.young and None
    for addr, why in zip(range(start, end), _outcomes(ret, end - start), strict=True):
        needless = not faults.needs_page(model.memory, mm, addr)
        if why and needless:
            refused.add(mm.name, op.text("area"), addr - mm.areas[op.text("area")].start)
            error = why
        if not why:
            faults.read(model.memory, mm, addr)
            if served := mm.ptes[addr].page:
                served.referenced = None  # looked up by /proc/PID/mem: FOLL_TOUCH
    return [*_lost(ret), *_needless(mm, refused, error)]


def _lost(ret: Fields) -> Iterator[Difference]:
    """A page for each that was refused: what else comes and goes meanwhile is much less."""
    again, lost = ret.data.get("again"), ret.data.get("lost")
    if again is None or lost is None or ret.number("again", 0) < MANY or ret.number("lost") < ret.number("again") // 2:
        return
    yield Difference(
        kind="page-leak", op="read_without_room", tier=Tier.SAFETY, prop="P6",
        summary=f"{pages(ret.number('lost'))} are lost after {ret.number('again')} reads that were refused for want of room",
        expected="each page that was allocated is freed", seen="neither free nor in use, as far as the kernel tells",
        why="a copy that cannot be charged is given up (ksm_might_need_to_copy, do_swap_page)",
    )  # fmt: skip


def _needless(mm: Mm, refused: Places, error: str) -> list[Difference]:
    if not refused.count():
        return []
    return [
        Difference(
            kind="refused", op="read_without_room", tier=Tier.SAFETY, prop="P16", places=refused,
            summary=f"{mm.name} could not read {pages(refused.count())} that need no memory, while its memcg had no room",
            expected="success", seen=error,
            why="what is mapped, or in the swap cache and its own, is not charged again (do_swap_page)",
        )
    ]  # fmt: skip


def _outcomes(ret: Fields, npages: int) -> list[str]:
    """Decode ``outcomes``: the error of each page, "" for none."""
    found: list[str] = []
    for raw in ret.items("outcomes"):
        if not isinstance(raw, list) or len(raw) != 2 or not isinstance(raw[1], str):
            raise ret.fail(f"no run of outcomes: {raw!r}")
        found.extend([raw[1]] * min(ret.whole(raw[0], "outcomes", 1), npages + 1))
    if len(found) != npages:
        raise ret.fail(f"outcomes of {len(found)} pages, of which there are {npages}")
    return found

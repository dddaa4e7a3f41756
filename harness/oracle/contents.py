# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes: what a process read against the last write in its own line of descent (invariant I6)."""

from __future__ import annotations

from harness.findings import Tier
from harness.oracle.address_space import Mm
from harness.oracle.judge import Difference, Places, pages, who
from harness.oracle.memory import SIGBUS
from harness.oracle.model import MASK, Model
from harness.oracle.records import Fields

NO_TAG = -1  # the bytes are the pattern of no tag; so are tags from 2^63 on, which the guest cannot tell


def read_contents(ret: Fields, npages: int) -> list[int]:
    """Decode ``contents``: a tag per page."""
    found: list[int] = []
    for raw in ret.items("contents"):
        if not isinstance(raw, list) or len(raw) != 3:
            raise ret.fail(f"no run of contents: {raw!r}")
        count, tag, step = (ret.whole(v, "contents") for v in raw)
        if not 1 <= count <= npages - len(found):
            raise ret.fail(f"contents of more than the {npages} pages that were read")
        found.extend(
            [SIGBUS if tag == SIGBUS else NO_TAG] * count if tag < 0 else [(tag + i * step) & MASK for i in range(count)]
        )
    if len(found) != npages:
        raise ret.fail(f"contents of {len(found)} pages where {npages} were read")
    return found


def judge_contents(model: Model, mm: Mm, area: str, first: int, seen: list[int]) -> list[Difference]:
    """Compare what was read in pages from ``first`` of the area on."""
    start = mm.areas[area].start + first
    expected = [NO_TAG if tag >> 63 and tag != SIGBUS else tag for tag in model.contents(mm, start, start + len(seen))]
    if seen == expected:
        return []
    strangers = {pte.content for other in model.actors.values() if other is not mm for pte in other.ptes.values()}
    leaked, wrong, poison = Places(), Places(), Places()
    example: dict[str, tuple[int, int]] = {}
    for i, (want, got) in enumerate(zip(expected, seen, strict=True)):
        if want == got:
            continue
        kind = "poison" if SIGBUS in (want, got) else "leak" if got in strangers else "content"
        {"leak": leaked, "poison": poison}.get(kind, wrong).add(mm.name, area, first + i)
        example.setdefault(kind, (want, got))
    found = []
    if leaked.pages:
        found.append(_leak(mm, leaked, *example["leak"]))
    if wrong.pages:
        found.append(_content(mm, wrong, *example["content"]))
    if poison.pages:
        found.append(_poison(mm, poison, *example["poison"]))
    return found


def _leak(mm: Mm, places: Places, want: int, got: int) -> Difference:
    return Difference(
        kind="leak", op="verify", tier=Tier.SAFETY, places=places,
        summary=f"{who([mm])} reads bytes that only another process has written, in {pages(places.count())}",
        expected=f"content {want}, its own last write", seen=f"content {got}, another process's",
        why="a write to a merged page goes to a copy (do_wp_page never reuses a KSM page), so nobody else sees it",
    )  # fmt: skip


def _content(mm: Mm, places: Places, want: int, got: int) -> Difference:
    return Difference(
        kind="content", op="verify", tier=Tier.SAFETY, places=places,
        summary=f"{who([mm])} does not get its bytes back, in {pages(places.count())}",
        expected=f"content {want}, its own last write",
        seen="bytes that nobody wrote" if got == NO_TAG else f"content {got}",
        why="neither merging nor swap may change what a process reads",
    )  # fmt: skip


def _poison(mm: Mm, places: Places, want: int, got: int) -> Difference:
    killed = got == SIGBUS
    return Difference(
        kind="killed" if killed else "poison-read", op="verify", tier=Tier.SAFETY, places=places,
        summary=f"{who([mm])} " + ("got SIGBUS in" if killed else "could read") + f" {pages(places.count())}"
        + (" without a memory error" if killed else " with a memory error that was taken from its mappers"),
        expected="SIGBUS" if not killed else f"content {want}", seen="SIGBUS" if killed else f"content {got}",
        why="a page with a memory error is gone for all its mappers once it was handled (hwpoison entries), and for nobody else",
    )  # fmt: skip

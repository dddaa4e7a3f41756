# SPDX-License-Identifier: GPL-2.0-or-later
"""RUNs of the journal: consecutive pages whose fields go on in the same way (docs/journal.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.oracle.records import JournalContradiction

# Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h).
KPF_REFERENCED = 1 << 2
KPF_SWAPCACHE = 1 << 13
KPF_UNEVICTABLE = 1 << 18
KPF_HWPOISON = 1 << 19
KPF_KSM = 1 << 21
KPF_THP = 1 << 22
KPF_ZERO_PAGE = 1 << 24
KPF_MLOCKED = 1 << 33

_LENGTH = {"P": 6, "S": 4, "X": 4, "N": 2}


@dataclass(frozen=True, slots=True)
class Run:
    """``count`` pages: ``kind`` P (present), S (swapped), X (another entry) or N; ``value``: the first one's frame or offset."""

    count: int
    kind: str
    value: int = 0
    stride: int = 0
    flags: int = 0
    mapcount: int = 0


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _letter(value: object) -> bool:
    return isinstance(value, str) and value in _LENGTH


def decode(runs: object, npages: int, where: str) -> list[Run]:
    """The runs of an area of ``npages`` pages; raises JournalContradiction if they are malformed or do not cover it."""
    if not isinstance(runs, list):
        raise JournalContradiction(f"{where}: no list of runs but {runs!r}")
    result = []
    covered = 0
    for raw in runs:
        run = _run(raw)
        if run is None:
            raise JournalContradiction(f"{where}: no run: {raw!r}")
        covered += run.count
        result.append(run)
    if covered != npages:
        raise JournalContradiction(f"{where}: runs cover {covered} pages of an area of {npages}")
    return result


def _run(raw: object) -> Run | None:
    if not isinstance(raw, list) or len(raw) < 2 or not _whole(raw[0]) or raw[0] < 1:
        return None
    kind = raw[1]
    if not isinstance(kind, str) or len(raw) != _LENGTH.get(kind):
        return None
    if kind == "N":
        return Run(raw[0], kind)
    if not _whole(raw[2]) or not _whole(raw[3]):
        return None
    if kind in ("S", "X"):
        return Run(raw[0], kind, raw[2], raw[3])
    try:
        flags = int(raw[4], 16)
    except (TypeError, ValueError):
        return None
    return Run(raw[0], kind, raw[2], raw[3], flags, raw[5]) if _whole(raw[5]) else None


def decode_states(runs: object, npages: int, where: str) -> str:
    """The states of an area after an attempt to reclaim, a letter per page; raises JournalContradiction."""
    if not isinstance(runs, list):
        raise JournalContradiction(f"{where}: no list of states but {runs!r}")
    parts = []
    covered = 0
    for raw in runs:
        if not isinstance(raw, list) or len(raw) != 2 or not _whole(raw[0]) or raw[0] < 1 or not _letter(raw[1]):
            raise JournalContradiction(f"{where}: no run of states: {raw!r}")
        covered += raw[0]
        if covered > npages:
            break
        parts.append(raw[1] * raw[0])
    if covered != npages:
        raise JournalContradiction(f"{where}: states cover {covered} pages of an area of {npages}")
    return "".join(parts)


def encode(pages: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Pages as RUNs: each page is ``("P", pfn, flags, mapcount)``, ``("S", offset)``, ``("X", value)`` or ``("N",)``."""
    runs: list[list[Any]] = []
    i = 0
    while i < len(pages):
        n, stride = _stretch(pages, i)
        kind = pages[i][0]
        if kind == "N":
            runs.append([n, "N"])
        elif kind in ("S", "X"):
            runs.append([n, kind, pages[i][1], stride])
        else:
            _, pfn, flags, mapcount = pages[i]
            runs.append([n, "P", pfn, stride, f"{flags:x}", mapcount])
        i += n
    return runs


def _stretch(pages: Sequence[tuple[Any, ...]], i: int) -> tuple[int, int]:
    """How many pages from ``i`` on go on in the same way, and by which stride."""
    first = pages[i]
    n, stride = 1, 0
    while i + n < len(pages):
        page = pages[i + n]
        if page[0] != first[0] or page[2:] != first[2:]:
            break
        if first[0] != "N":
            if n == 1:
                stride = page[1] - first[1]
            elif page[1] != first[1] + n * stride:
                break
        n += 1
    return n, stride if n > 1 else 0


def ranges(indices: Iterable[int]) -> str:
    """Page numbers compactly: ``[0..3,7]``."""
    parts: list[list[int]] = []
    for i in sorted(set(indices)):
        if parts and parts[-1][1] == i - 1:
            parts[-1][1] = i
        else:
            parts.append([i, i])
    shown = [str(a) if a == b else f"{a}..{b}" for a, b in parts[:12]]
    return "[" + ",".join(shown + (["…"] if len(parts) > 12 else [])) + "]"

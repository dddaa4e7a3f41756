# SPDX-License-Identifier: GPL-2.0-or-later
"""Removing what was not used for longest.  Nothing that is in use is ever removed."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.store.base import Store
from harness.store.contents import Entry, Item, items, label, weigh
from harness.store.size import in_words, parse_size

log = logging.getLogger("harness.store")

KEEP_FREE = "5G"
"""What stays free on the store's disk, if $KSM_HARNESS_KEEP_FREE says nothing else: a build from nothing takes two."""


@dataclass(frozen=True)
class Collected:
    """What was removed, each with the bytes that it has freed, and how many bytes of disk the store still takes."""

    removed: list[Entry]
    left: int


def _remove(store: Store, path: Path, lock: str) -> bool:
    """Remove an item unless it is in use; whether it is gone.  It leaves its place at once, by rename."""
    with store.try_lock(lock) as free, store.scratch() as scratch:
        if free is None:
            return False
        if path.exists():
            path.rename(scratch / "removed")
            shutil.rmtree(scratch / "removed", ignore_errors=True)
        return True


def gc(store: Store, max_size: int) -> Collected:
    """Remove what was not used for longest until the store is no larger than ``max_size`` bytes.

    What is in use stays, so the store may remain larger.
    """
    store.collect()
    weights = {item: weigh(item) for item in items(store)}
    holders = Counter(inode for weight in weights.values() for inode in weight.shared)
    sizes = {inode: size for weight in weights.values() for inode, size in weight.shared.items()}
    total = sum(weight.own for weight in weights.values()) + sum(sizes.values())
    removed = []
    for item in _oldest_first(weights):
        if total <= max_size:
            break
        said = label(item.path)
        if not _remove(store, item.path, item.lock):
            continue
        weight = weights[item]
        holders.subtract(weight.shared.keys())
        freed = weight.own + sum(sizes[inode] for inode in weight.shared if holders[inode] == 0)
        total -= freed
        removed.append(Entry(item.kind, item.key, item.path, freed, item.used, said, False))
    return Collected(removed, total)


def _oldest_first(found: Iterable[Item]) -> list[Item]:
    """A private copy goes after its object directories: they are never used later than it is."""
    return sorted(found, key=lambda item: (item.used, item.kind == "work"))


def keep_free() -> int:
    """The bytes of its disk that the store leaves free: as $KSM_HARNESS_KEEP_FREE says (UsageError when that is no size)."""
    try:
        return parse_size(os.environ.get("KSM_HARNESS_KEEP_FREE") or KEEP_FREE)
    except UsageError as e:
        raise UsageError(f"KSM_HARNESS_KEEP_FREE: {e}") from e


def make_room(store: Store, wanted: int | None = None) -> list[Path]:
    """Remove what was not used for longest until ``wanted`` bytes of the store's disk are free; gives what was removed.

    Called before a kernel is compiled, when what that needs is held; costs nothing while there is room.  What ccache and
    apt keep stays: they have bounds of their own.  None: as ``keep_free`` has it.
    """
    wanted = keep_free() if wanted is None else wanted
    removed: list[Path] = []
    if (free := shutil.disk_usage(store.root).free) >= wanted:
        return removed
    for item in _oldest_first(items(store)):
        if item.kind in ("ccache", "apt") or not _remove(store, item.path, item.lock):
            continue
        log.info("%s are free on the disk: removed %s, which was not used for longest", in_words(free), item.path)
        removed.append(item.path)
        if (free := shutil.disk_usage(store.root).free) >= wanted:
            return removed
    log.warning("%s: %s are free, and nothing is left to remove", store.root, in_words(free))
    return removed


def discard(store: Store, place: Path) -> bool:
    """Remove what its maker has no more use for, unless another process uses it; whether it is gone."""
    store.unpin(place)
    return _remove(store, place, store.pin_name(place))

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in the store, how large it is, and who uses it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.store.base import Store


@dataclass(frozen=True)
class Item:
    """One thing that can be removed by itself, when its ``lock`` is free; ``used`` is in seconds since 1970.

    ``kind`` is source, work (a private copy), objects (an object directory in one), kernel, image, ccache or apt.
    """

    kind: str
    key: str
    path: Path
    lock: str
    used: float


@dataclass(frozen=True)
class Entry:
    """An item as it is listed.

    ``size`` is in bytes of disk, where a file with several names counts for the first entry that has it; ``busy`` says that
    some process holds it now.
    """

    kind: str
    key: str
    path: Path
    size: int
    used: float
    label: str
    busy: bool


@dataclass(frozen=True)
class Weight:
    """Bytes of disk: of files with one name, and by inode of those that may have another one elsewhere in the store."""

    own: int
    shared: Mapping[int, int]


def items(store: Store) -> list[Item]:
    """Everything that can be removed, sources first."""
    found = []
    for kind, name in (("source", "src"), ("kernel", "kernels"), ("image", "images")):
        for path in _directories(store.root / name):
            found.append(Item(kind, path.name, path, store.pin_name(path), store.last_use(path)))
    for slot in _directories(store.root / "work"):
        uses = [store.last_use(slot)]
        for objects in _directories(slot, "o-*"):
            uses.append(store.last_use(objects))
            found.append(Item("objects", f"{slot.name}/{objects.name}", objects, f"work-{slot.name}", uses[-1]))
        found.append(Item("work", slot.name, slot, f"work-{slot.name}", max(uses)))
    for kind, path, lock in (
        ("ccache", store.root / "ccache", store.pin_name(store.root / "ccache")),
        ("apt", store.root / "facts" / "apt", "apt"),
    ):
        if path.is_dir():
            found.append(Item(kind, path.name, path, lock, path.stat().st_mtime))
    return found


def _directories(path: Path, pattern: str = "*") -> list[Path]:
    return sorted(entry for entry in path.glob(pattern) if entry.is_dir())


def weigh(item: Item) -> Weight:
    """What it takes of the disk.  The objects of a private copy are items of their own."""
    own = 0
    shared: dict[int, int] = {}
    pending = [str(item.path)]
    elsewhere = "o-" if item.kind == "work" else None
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if is_directory and elsewhere and entry.name.startswith(elsewhere):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # it is gone
                    continue
                if is_directory:
                    pending.append(entry.path)
                if status.st_nlink == 1 or is_directory:
                    own += status.st_blocks
                else:
                    shared[status.st_ino] = status.st_blocks * 512
        elsewhere = None  # directly below the item only
    return Weight(own * 512, shared)


def label(path: Path) -> str:
    """What the maker of an item says about it."""
    for name in ("kernel.json", "image.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((path / name).read_text(encoding="utf-8"))["label"])
    return ""


def _is_busy(store: Store, lock: str) -> bool:
    """Whether some process holds the lock."""
    with (store.root / "locks" / lock).open("w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def entries(store: Store) -> list[Entry]:
    """All that is in the store, the last used first."""
    seen: set[int] = set()
    listed = []
    for item in items(store):
        weight = weigh(item)
        size = weight.own + sum(size for inode, size in weight.shared.items() if inode not in seen)
        seen.update(weight.shared)  # |= of a view would make a new set each time
        busy = _is_busy(store, item.lock)
        listed.append(Entry(item.kind, item.key, item.path, size, item.used, label(item.path), busy))
    return sorted(listed, key=lambda entry: -entry.used)

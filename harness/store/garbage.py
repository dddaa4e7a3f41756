# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in the store, and removing what was not used for longest.  Nothing that is in use is ever removed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from harness.errors import UsageError
from harness.store.base import Store

log = logging.getLogger("harness.store")

KEEP_FREE = "5G"
"""What stays free on the store's disk, if $KSM_HARNESS_KEEP_FREE says nothing else: a build from nothing takes two."""

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Entry:
    """One thing in the store.

    ``kind`` is source, work (a private copy), objects (an object directory in one), kernel, image, ccache or apt; ``size``
    is in bytes of disk, where a file with several names counts for the first entry that has it; ``used`` is in seconds
    since 1970; ``busy`` says that some process holds it now.
    """

    kind: str
    key: str
    path: Path
    size: int
    used: float
    label: str
    busy: bool


@dataclass(frozen=True)
class _Measured:
    kind: str
    path: Path
    lock: str
    used: float
    own: int
    shared: dict[tuple[int, int], int]


def parse_size(text: str) -> int:
    """Bytes from ``10G``, ``500M``, ``1.5T`` (powers of 1024) or a plain number.  UsageError otherwise."""
    found = re.fullmatch(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise UsageError(f"{text!r} is not a size; write it as in 10G or 500M")
    return int(Fraction(found[1]) * _UNITS[found[2].upper()])


def _files(top: Path, skip: str) -> Iterator[os.stat_result]:
    """The stat of everything below ``top``; directories directly below it whose name begins with ``skip`` are left out."""
    pending = [str(top)]
    while pending:
        directory = pending.pop()
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if is_directory and skip and directory == str(top) and entry.name.startswith(skip):
                    continue
                if is_directory:
                    pending.append(entry.path)
                with contextlib.suppress(OSError):
                    yield entry.stat(follow_symlinks=False)


def _measure(kind: str, path: Path, lock: str, used: float) -> _Measured:
    own = 0
    shared: dict[tuple[int, int], int] = {}
    for st in _files(path, "o-" if kind == "work" else ""):
        blocks = st.st_blocks * 512
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            shared[st.st_dev, st.st_ino] = blocks
        else:
            own += blocks
    return _Measured(kind, path, lock, used, own, shared)


def _directories(path: Path, pattern: str = "*") -> list[Path]:
    return sorted(entry for entry in path.glob(pattern) if entry.is_dir())


def _survey(store: Store, measure: Callable[[str, Path, str, float], _Measured]) -> list[_Measured]:
    """Everything that can be removed by itself, sources first."""
    found = []
    for kind, name in (("source", "src"), ("kernel", "kernels"), ("image", "images")):
        for path in _directories(store.root / name):
            found.append(measure(kind, path, store.pin_name(path), store.last_use(path)))
    for slot in _directories(store.root / "work"):
        uses = [store.last_use(slot)]
        for objects in _directories(slot, "o-*"):
            uses.append(store.last_use(objects))
            found.append(measure("objects", objects, f"work-{slot.name}", uses[-1]))
        found.append(measure("work", slot, f"work-{slot.name}", max(uses)))
    for kind, path, lock in (
        ("ccache", store.root / "ccache", store.pin_name(store.root / "ccache")),
        ("apt", store.root / "facts" / "apt", "apt"),
    ):
        if path.is_dir():
            found.append(measure(kind, path, lock, path.stat().st_mtime))
    return found


def _label(path: Path) -> str:
    """What the maker of an entry says about it."""
    for name in ("kernel.json", "image.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads((path / name).read_text(encoding="utf-8"))["label"])
    return ""


def _key(store: Store, item: _Measured) -> str:
    return str(item.path.relative_to(store.root / "work")) if item.kind == "objects" else item.path.name


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
    seen: set[tuple[int, int]] = set()
    listed = []
    for item in _survey(store, _measure):
        size = item.own + sum(blocks for inode, blocks in item.shared.items() if inode not in seen)
        seen |= item.shared.keys()
        listed.append(
            Entry(item.kind, _key(store, item), item.path, size, item.used, _label(item.path), _is_busy(store, item.lock))
        )
    return sorted(listed, key=lambda entry: -entry.used)


def _remove(store: Store, item: _Measured) -> bool:
    """Remove an entry unless it is in use; whether it is gone.  It leaves its place at once, by rename."""
    with store.try_lock(item.lock) as free, store.scratch() as scratch:
        if free is None:
            return False
        if item.path.exists():
            item.path.rename(scratch / "removed")
            shutil.rmtree(scratch / "removed", ignore_errors=True)
        return True


def gc(store: Store, max_size: int) -> list[Entry]:
    """Remove what was not used for longest until the store is no larger than ``max_size`` bytes; gives what was removed.

    What is in use stays, so the store may remain larger.
    """
    store.collect()
    survey = _survey(store, _measure)
    holders = Counter(inode for item in survey for inode in item.shared)
    blocks = {inode: size for item in survey for inode, size in item.shared.items()}
    total = sum(item.own for item in survey) + sum(blocks.values())
    removed = []
    for item in _oldest_first(survey):
        if total <= max_size:
            break
        label = _label(item.path)
        if not _remove(store, item):
            continue
        holders.subtract(item.shared.keys())
        freed = item.own + sum(blocks[inode] for inode in item.shared if holders[inode] == 0)
        total -= freed
        removed.append(Entry(item.kind, _key(store, item), item.path, freed, item.used, label, False))
    return removed


def _oldest_first(survey: list[_Measured]) -> list[_Measured]:
    """A private copy goes after its object directories: they are never used later than it is."""
    return sorted(survey, key=lambda item: (item.used, item.kind == "work"))


def _unmeasured(kind: str, path: Path, lock: str, used: float) -> _Measured:
    return _Measured(kind, path, lock, used, 0, {})


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
    for item in _oldest_first(_survey(store, _unmeasured)):
        if item.kind in ("ccache", "apt") or not _remove(store, item):
            continue
        log.info("%.1f GiB are free on the disk: removed %s, which was not used for longest", free / _UNITS["G"], item.path)
        removed.append(item.path)
        if (free := shutil.disk_usage(store.root).free) >= wanted:
            return removed
    log.warning("%s: %.1f GiB are free, and nothing is left to remove", store.root, free / _UNITS["G"])
    return removed


def discard(store: Store, place: Path) -> bool:
    """Remove what its maker has no more use for, unless another process uses it; whether it is gone."""
    store.unpin(place)
    return _remove(store, _Measured("", place, store.pin_name(place), 0.0, 0, {}))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Private copies of a source, with their object directories, at paths that stay.

Object files remember the absolute path of the source, so a copy that moved would be built from scratch.  Each family of
sources (one version of a package; one developer's tree) has slots ``STORE/work/FAMILY-N``, each with a source ``src`` and
object directories ``o-TARGET-CONFIG``.  A slot is locked exclusively while its source is changed, and shared by the builds
that need the content it has: several targets build from one copy at once.  Each object directory has a lock of its own.
The processes of a build hold its locks, too, so that none of them is left writing when the next build begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import interruption
from harness.store import Store

log = logging.getLogger("harness.kernel")

GRACE = 30.0
"""Seconds to wait for a slot that has the wanted objects but is in use: without them all is built from scratch."""

FILL_GRACE = 15.0
"""Seconds to wait for a slot whose source is being changed, perhaps to what is wanted, before a new slot is made."""


@dataclass(frozen=True)
class Slot:
    """A slot that this process holds, with the file descriptors of its locks (see Store.lock)."""

    directory: Path
    locks: tuple[int, ...]

    @property
    def src(self) -> Path:
        """The private copy of the source."""
        return self.directory / "src"

    @property
    def scratch(self) -> Path:
        """A directory for unfinished files, on the slot's file system."""
        path = self.directory / "tmp"
        path.mkdir(exist_ok=True)
        return path

    @property
    def content(self) -> str:
        """What ``src`` holds, as it was called when it was brought there; "" while it is being changed."""
        try:
            return str(json.loads((self.directory / "state.json").read_text(encoding="utf-8"))["content"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def wipe(self) -> None:
        """Remove all that is in the slot."""
        for entry in self.directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def lock_name(directory: Path) -> str:
    """The lock of a slot."""
    return f"work-{directory.name}"


def _existing(store: Store, family: str) -> list[Path]:
    prefix = f"{family}-"
    found = [p for p in (store.root / "work").glob(f"{prefix}*") if p.name.removeprefix(prefix).isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))


def _take(store: Store, stack: contextlib.ExitStack, path: Path, wanted: str, fill: Callable[[Slot], None]) -> Slot | bool:
    """Hold the slot at ``path`` with the wanted content; else False, or True when its source is being changed just now."""
    with contextlib.ExitStack() as attempt:
        if (fd := attempt.enter_context(store.try_lock(lock_name(path)))) is not None:
            path.mkdir(parents=True, exist_ok=True)
            slot = Slot(path, (fd,))
            fill(slot)
            # Not atomic (flock(2)): another run may have come in between, so look again.
            fcntl.flock(fd, fcntl.LOCK_SH)
        elif (fd := attempt.enter_context(store.try_lock(lock_name(path), shared=True))) is not None:
            slot = Slot(path, (fd,))
        else:
            return True
        if slot.content == wanted:
            stack.push(attempt.pop_all())
            return slot
        return False


def _find(
    store: Store, stack: contextlib.ExitStack, family: str, objects: str, wanted: str, fill: Callable[[Slot], None]
) -> Slot:
    began, told = time.monotonic(), False
    while True:
        waited = time.monotonic() - began
        existing = _existing(store, family)
        ready = [path for path in existing if (path / objects).is_dir()]
        patient = bool(ready) and waited < GRACE
        changing = False
        for path in ready if patient else ready + [path for path in existing if path not in ready]:
            taken = _take(store, stack, path, wanted, fill)
            if isinstance(taken, Slot):
                return taken
            changing |= taken
        if patient or (changing and waited < FILL_GRACE):
            if not told:
                told = True
                log.info("waiting for another build to leave %s", " or ".join(path.name for path in ready or existing))
            interruption.check()
            time.sleep(0.1)
            continue
        numbers = {path.name for path in existing}
        fresh = store.root / "work" / next(name for n in itertools.count() if (name := f"{family}-{n}") not in numbers)
        with contextlib.suppress(FileExistsError):
            fresh.mkdir()
            log.info("new private copy of the source: %s", fresh)


@contextlib.contextmanager
def acquire(store: Store, family: str, objects: str, wanted: str, fill: Callable[[Slot], None]) -> Iterator[Slot]:
    """Hold a slot of the family whose content is ``wanted``, and its object directory ``objects``, which is made.

    ``fill`` brings a slot that is held exclusively to that content, and says so in its state.json.  A slot that has the
    object directory already is preferred.
    """
    with contextlib.ExitStack() as stack:
        slot = _find(store, stack, family, objects, wanted, fill)
        lock = stack.enter_context(interruption.lock(store, f"{slot.directory.name}-{objects}"))
        (slot.directory / objects).mkdir(exist_ok=True)
        yield Slot(slot.directory, (*slot.locks, lock))

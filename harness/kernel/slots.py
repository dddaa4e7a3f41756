# SPDX-License-Identifier: GPL-2.0-or-later
"""Private copies of a source, with their object directories, at paths that stay.

Object files remember the absolute path of the source, so a copy that moved would be built from scratch.  Each family of
sources (one version of a package; one developer's tree) has slots ``STORE/work/FAMILY-N``, each with a source ``src`` and
object directories ``o-TARGET-CONFIG``; whoever uses one holds its lock, and so does every process of its build.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.store import Store

log = logging.getLogger("harness.kernel")

GRACE = 5.0
"""Seconds to wait for a slot in use before a new one, which costs a build from scratch, is made."""


@dataclass(frozen=True)
class Slot:
    """A slot that this process holds.  Processes that inherit ``lock`` (a file descriptor) hold it too."""

    directory: Path
    lock: int

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


def _candidates(store: Store, family: str, objects: str) -> tuple[list[Path], list[Path]]:
    """Slots that have the object directory ``objects``, and the others, each in order of preference."""
    existing = _existing(store, family)
    ready = [path for path in existing if (path / objects).is_dir()]
    return ready, [path for path in existing if path not in ready]


@contextlib.contextmanager
def acquire(store: Store, family: str, objects: str) -> Iterator[Slot]:
    """Hold a slot of the family, if there is a free one then one that has the object directory ``objects``."""
    deadline = time.monotonic() + GRACE
    with contextlib.ExitStack() as stack:
        while True:
            ready, others = _candidates(store, family, objects)
            for path in ready if ready and time.monotonic() < deadline else ready + others:
                attempt = contextlib.ExitStack()
                if (fd := attempt.enter_context(store.try_lock(lock_name(path)))) is not None:
                    stack.push(attempt)
                    path.mkdir(parents=True, exist_ok=True)
                    yield Slot(path, fd)
                    return
                attempt.close()
            if ready and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            taken = {path.name for path in _existing(store, family)}
            name = next(name for n in itertools.count() if (name := f"{family}-{n}") not in taken)
            with contextlib.suppress(FileExistsError):
                (store.root / "work" / name).mkdir()
                log.info("new private copy of the source: %s", store.root / "work" / name)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: finished work under keys, shared by all checkouts of one user.

Layout: ``src/`` kernel sources, ``work/`` private copies with their object directories, ``kernels/``, ``images/``,
``facts/`` (what was found out about this host), ``tmp/`` (unfinished work; what a killed run left is
collected at the next start).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HostError


def default_root() -> Path:
    """$KSM_HARNESS_STORE, else ksm-harness under the user's cache directory."""
    if named := os.environ.get("KSM_HARNESS_STORE"):
        return Path(named).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "ksm-harness"


class Store:
    """A directory of finished work.  Safe for several runs at once: locks are flock(2), so a killed run holds none."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        try:
            for name in ("src", "work", "kernels", "images", "facts", "tmp", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise HostError(f"cannot make the store {self.root}: {e.strerror}; set KSM_HARNESS_STORE") from e

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock ``name``, waiting for it."""
        with (self.root / "locks" / name).open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def try_lock(self, name: str) -> Iterator[bool]:
        """Hold the lock ``name`` if it is free: gives whether it was."""
        with (self.root / "locks" / name).open("w") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextlib.contextmanager
    def making(self, place: Path) -> Iterator[Path]:
        """A new directory that becomes ``place`` by rename when the block ends well, and vanishes when it does not.

        Hold the place's lock around it; it must not exist yet.
        """
        fresh = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self.root / "tmp"))
        try:
            yield fresh
            fresh.chmod(0o755)
            place.parent.mkdir(parents=True, exist_ok=True)
            fresh.rename(place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def collect(self) -> None:
        """Remove what killed runs left in tmp/: entries begin with the pid of their maker."""
        for entry in (self.root / "tmp").iterdir():
            pid = entry.name.partition("-")[0]
            if not (pid.isdigit() and Path("/proc", pid).exists()):
                shutil.rmtree(entry, ignore_errors=True)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace ``path`` as a whole: a reader sees the old or the new content, never a part."""
    raw = data.encode() if isinstance(data, str) else data
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(raw)
            os.fchmod(f.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

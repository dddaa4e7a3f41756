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
import typing
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError, unwritable

USED = ".used"
"""A file whose mtime says when the directory around it was last used."""


def default_root() -> Path:
    """$KSM_HARNESS_STORE, else ksm-harness under the user's cache directory.  UsageError where there is none."""
    if named := os.environ.get("KSM_HARNESS_STORE"):
        return Path(named).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "ksm-harness"
    except RuntimeError as e:
        raise UsageError("there is no home directory; name a place for the store with KSM_HARNESS_STORE") from e


class Store:
    """A directory of finished work.  Safe for several runs at once: locks are flock(2), so a killed run holds none."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(os.path.realpath(root or default_root()))
        self._pins: dict[str, typing.IO[str]] = {}
        try:
            for name in ("src", "work", "kernels", "images", "facts", "tmp", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise unwritable(self.root, e, "name another place for the store with KSM_HARNESS_STORE") from e

    @contextlib.contextmanager
    def try_lock(self, name: str, shared: bool = False) -> Iterator[int | None]:
        """Hold the lock ``name`` if it is free, or get None: harness.interruption.lock waits for one.

        Gives its file descriptor: a process that inherits it holds the lock too, until it ends.  Those who hold it ``shared``
        do not exclude each other.
        """
        with (self.root / "locks" / name).open("w") as f:
            try:
                fcntl.flock(f, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield f.fileno()

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

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory for passing needs, gone when the block ends."""
        fresh = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self.root / "tmp"))
        try:
            yield fresh
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def pin(self, place: Path) -> None:
        """Keep ``place`` from ``gc`` until this process ends.  Pin before looking whether it exists."""
        name = self.pin_name(place)
        if name not in self._pins:
            f = (self.root / "locks" / name).open("w")
            fcntl.flock(f, fcntl.LOCK_SH)
            self._pins[name] = f

    def unpin(self, place: Path) -> None:
        """This process has no more use for ``place``."""
        if (f := self._pins.pop(self.pin_name(place), None)) is not None:
            f.close()

    def pin_name(self, place: Path) -> str:
        """The lock that is held, shared, by those who use ``place``."""
        return "use-" + str(place.relative_to(self.root)).replace("/", "-")

    def touch(self, place: Path) -> None:
        """Note that ``place`` was used now: garbage collection begins with what was not used for longest."""
        with contextlib.suppress(OSError):
            (place / USED).touch()

    def last_use(self, place: Path) -> float:
        """When ``place`` was last used, in seconds since 1970."""
        for path in (place / USED, place):
            with contextlib.suppress(OSError):
                return path.stat().st_mtime
        return 0.0

    def collect(self) -> None:
        """Remove what killed runs left in tmp/: entries begin with the pid of their maker."""
        for entry in (self.root / "tmp").iterdir():
            pid = entry.name.partition("-")[0]
            if not (pid.isdigit() and Path("/proc", pid).exists()):
                shutil.rmtree(entry, ignore_errors=True)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path``, which stays; False when another process holds it."""
    with path.open("w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's source in an archive: unpacked once into the store, and nowhere else, whatever the archive wants."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import logging
import lzma
import os
import shlex
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from harness import interruption
from harness.errors import HostError, UsageError
from harness.source import manifest as manifests
from harness.source.command import neutral_environment, require
from harness.source.manifest import Manifest, describe
from harness.store import Store, write_atomically

log = logging.getLogger("harness.source")

FORMAT = "tar, or one packed by gzip, bzip2, xz or zstd"
_PACKINGS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_ZSTD = b"\x28\xb5\x2f\xfd"  # RFC 8878


def _bad(archive: Path, member: str, why: str) -> UsageError:
    return UsageError(f"tarball:{archive}: {member!r} {why}; nothing of this archive is used")


def _path(archive: Path, member: tarfile.TarInfo) -> str:
    """Where a member goes, relative to the tree; "" for the top.  UsageError when that is outside."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\0" in member.name:
        raise _bad(archive, member.name, "wants to be outside of the tree")
    return "" if str(name) == "." else str(name)


def _check_link(archive: Path, path: str, target: str) -> None:
    """UsageError when a symbolic link leads out of the tree."""
    depth = len(PurePosixPath(path).parent.parts)
    for part in PurePosixPath(target).parts:
        depth += {"..": -1, ".": 0}.get(part, 1)
        if depth < 0 or part == "/":
            raise _bad(archive, path, f"is a link to {target}, outside of the tree")


def _write(archive: Path, root: str, path: str, member: tarfile.TarInfo, content: bytes) -> str:
    """Put one file or link in its place; its value in a manifest."""
    full = f"{root}/{path}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(full)  # noqa: PTH108 - a later member of the same name counts, as for tar
    if member.issym():
        _check_link(archive, path, member.linkname)
        os.symlink(member.linkname, full)  # noqa: PTH211
        return describe("120000", os.fsencode(member.linkname))
    executable = bool(member.mode & 0o100)
    fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755 if executable else 0o644)
    with open(fd, "wb", buffering=0) as f:  # noqa: PTH123
        f.write(content)
    return describe("100755" if executable else "100644", content)


def _unpack(archive: Path, stream: tarfile.TarFile, root: Path) -> dict[str, str]:
    """All members below ``root``, which is empty; the manifest of what is there."""
    found: dict[str, str] = {}
    directories = {""}
    for number, member in enumerate(stream):
        if number % 256 == 0:
            interruption.check()
        path = _path(archive, member)
        parent = path if member.isdir() else str(PurePosixPath(path).parent)
        parent = "" if parent == "." else parent
        if parent not in directories:
            for above in [*reversed(PurePosixPath(parent).parents[:-1]), PurePosixPath(parent)]:
                if str(above) in found:
                    raise _bad(archive, member.name, f"lies beyond {above}, which is no directory")
            (root / parent).mkdir(parents=True, exist_ok=True)
            directories.add(parent)
        if member.isdir():
            continue
        if not path or path in directories:
            raise _bad(archive, member.name, "would take the place of a directory")
        if not member.isfile() and not member.issym():
            raise _bad(archive, member.name, "is neither a file nor a directory nor a symbolic link")
        source = stream.extractfile(member) if member.isfile() else None
        try:
            found[path] = _write(archive, str(root), path, member, source.read() if source else b"")
        except IsADirectoryError as e:
            raise _bad(archive, member.name, "would take the place of a directory") from e
    return found


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """The archive unpacked to a plain tar; read to its end, so that checksums of the packing are looked at."""
    with archive.open("rb") as f:
        magic = f.read(6)
    if magic.startswith(_ZSTD):
        with _zstd(archive) as f:
            yield f
            _drain(f)
        return
    opener = next((opener for start, opener in _PACKINGS.items() if magic.startswith(start)), open)
    with opener(archive, "rb") as f:
        yield f
        _drain(f)


def _drain(f: IO[bytes]) -> None:
    while f.read(1 << 20):
        pass


@contextlib.contextmanager
def _zstd(archive: Path) -> Iterator[IO[bytes]]:
    """By zstd(1), which Python has not."""
    argv = [require("zstd", f"unpacking {archive.name}"), "-dcq", "--long=31", "--", str(archive)]
    log.info("%s |", shlex.join(argv))
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=neutral_environment(),
        start_new_session=True,
    ) as unpacker:  # fmt: skip
        assert unpacker.stdout
        try:
            yield unpacker.stdout
            if unpacker.wait():
                raise UsageError(f"tarball:{archive}: zstd cannot unpack it; is it whole?")
        finally:
            unpacker.stdout.close()
            interruption.end(unpacker)


def _top(found: dict[str, str]) -> str:
    """The one directory that all is in, "" where the tree begins at once."""
    tops = {path.partition("/")[0] for path in found}
    return next(iter(tops)) if len(tops) == 1 and "Makefile" not in found else ""


def _digest(archive: Path) -> str:
    try:
        with archive.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise UsageError(f"tarball:{archive}: cannot be read: {e.strerror}") from e


def locate(archive: Path, store: Store) -> tuple[Path, Manifest]:
    """The unpacked tree and its manifest, from the store if it is there.

    UsageError when it is no such archive, is cut off, or has a member that is not a file, directory or link inside the tree.
    """
    try:
        place = store.root / "src" / f"tarball-{_digest(archive)[:16]}"
        store.pin(place)
        with interruption.lock(store, f"src-{place.name}"):
            if not place.is_dir():
                log.info("unpacking %s to %s", archive, place)
                with store.making(place) as fresh:
                    _make(archive, fresh)
        store.touch(place)
        return place / "linux", manifests.loads((place / "manifest").read_bytes())
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as e:
        raise UsageError(f"tarball:{archive}: cannot be unpacked ({e}); it must be {FORMAT}, and whole") from e
    except OSError as e:
        if e.errno is None:  # gzip.BadGzipFile, bz2
            raise UsageError(f"tarball:{archive}: cannot be unpacked ({e}); it must be {FORMAT}, and whole") from e
        raise HostError(f"tarball:{archive}: {e.strerror} ({e.filename}); is the disk full?") from e


def _make(archive: Path, fresh: Path) -> None:
    """Fill ``fresh`` with the tree ``linux`` and its ``manifest``."""
    scratch = fresh / "unpacked"
    scratch.mkdir()
    with _opened(archive) as f, tarfile.open(fileobj=f, mode="r|", errors="surrogateescape", encoding="utf-8") as stream:
        found = _unpack(archive, stream, scratch)
    top = _top(found)
    for path, value in found.items():
        if top and value.startswith("120000"):
            # A link may lead out of the directory that becomes the tree.
            _check_link(archive, path.removeprefix(f"{top}/"), os.readlink(scratch / path))  # noqa: PTH115
    (scratch / top if top else scratch).rename(fresh / "linux")
    if top:
        scratch.rmdir()
    prefix = f"{top}/" if top else ""
    write_atomically(fresh / "manifest", manifests.dumps({path.removeprefix(prefix): value for path, value in found.items()}))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A developer's own checkout, read as it is on disk and left untouched.

The files are those that git tracks and those that neither the tree's own .gitignore files nor its .git/info/exclude exclude, so
that what an earlier build left in the tree is no part of it.  What the user's own configuration excludes (core.excludesFile)
does not matter: the same tree is the same to everybody.  Content hashes are remembered by the file's stat data, as git's index
does, and a file that changed so lately that its time stamps cannot tell is hashed again (git's "racy clean" entries).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import interruption
from harness.errors import UsageError
from harness.source import git
from harness.source.manifest import Manifest, describe, mode_of, read_content
from harness.store import Store, write_atomically

log = logging.getLogger("harness.source")

# Time stamps have the granularity of the file system's clock; git's own margin for such doubts is a second.
RACY_NS = 2_000_000_000
_CACHE_HEADER = "ksm-harness tree cache 1"


def _git(work_tree: Path, *arguments: str, git_dir: Path | None = None) -> bytes | None:
    """Output of a git command that only reads, or None when it fails."""
    where = [f"--git-dir={git_dir}", f"--work-tree={work_tree}"] if git_dir else []
    return git.ask(work_tree, *where, *arguments)


def _names(output: bytes) -> Iterable[str]:
    # A name that ends in a slash is a repository inside the tree: no part of this kernel.
    return (os.fsdecode(name) for name in output.split(b"\0") if name and not name.endswith(b"/"))


def _list_untracked(root: Path, git_dir: Path | None) -> set[str] | None:
    """What is neither tracked nor excluded by the tree, or None when git cannot tell."""
    argv = ["ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]
    if git_dir is None and (own := _git(root, "rev-parse", "--git-path", "info/exclude")):
        exclude = root / os.fsdecode(own.removesuffix(b"\n"))
        argv += [f"--exclude-from={exclude}"] if exclude.is_file() else []
    found = _git(root, *argv, git_dir=git_dir)
    return None if found is None else set(_names(found))


def _list_without_repository(root: Path, store: Store) -> set[str]:
    with store.scratch() as scratch:
        git_dir = scratch / "git"
        _git(scratch, "init", "--quiet", "--bare", str(git_dir))
        found = _list_untracked(root, git_dir)
        if found is not None and "Makefile" not in found:
            # The .gitignore of Debian's linux-source ends in "/*": take its own word back, for what kbuild reads.
            take_back = [f"--exclude=!/{name}" for name in ("*/", "Makefile", "Kbuild", "Kconfig")]
            output = _git(root, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore", *take_back, git_dir=git_dir)
            found = None if output is None else set(_names(output))
    if found is None:
        raise UsageError(f"{root}: git cannot list the files of this tree; is it readable?")
    return found


def list_files(root: Path, store: Store) -> set[str]:
    """The paths that make up the source: tracked ones and those not ignored.  Some may be gone from the disk."""
    if (root / ".git").exists():
        with ThreadPoolExecutor(2) as pool:
            others = pool.submit(_list_untracked, root, None)
            tracked = _git(root, "ls-files", "-z", "--cached")
            untracked = others.result()
        if tracked is not None and untracked is not None:
            files = untracked.union(_names(tracked))
            if "Makefile" in files:
                return files
            log.warning("%s: its repository does not track the kernel; the tree is taken by its .gitignore files alone", root)
        else:
            log.warning("%s: git cannot read its repository; the tree is taken by its .gitignore files alone", root)
    return _list_without_repository(root, store)


def revision(root: Path) -> str:
    """The commit that is checked out, or "" without one.  Says nothing about edits."""
    if not (root / ".git").exists():
        return ""
    found = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return found.decode(errors="replace").strip() if found else ""


def _read_cache(path: Path) -> dict[str, tuple[str, str]]:
    """Path to (stat data, manifest value)."""
    try:
        header, *fields = path.read_bytes().decode(errors="surrogateescape").split("\0")
    except (OSError, ValueError):
        return {}
    if header != _CACHE_HEADER or len(fields) % 3:
        return {}
    return dict(zip(fields[0::3], zip(fields[1::3], fields[2::3], strict=True), strict=True))


def _write_cache(path: Path, cache: dict[str, tuple[str, str]]) -> None:
    parts = [_CACHE_HEADER]
    for name, (seen, value) in cache.items():
        parts += (name, seen, value)
    write_atomically(path, "\0".join(parts).encode(errors="surrogateescape"))


def _hash_all(root: str, pending: list[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Manifest entries of (path, mode) pairs, hashed by as many threads as there are processors."""

    def one(item: tuple[str, str]) -> tuple[str, str]:
        path, mode = item
        try:
            return path, describe(mode, read_content(root + path, mode))
        except FileNotFoundError:
            return path, ""
        except OSError as e:
            raise UsageError(f"cannot read {root}{path}: {e.strerror}") from e

    if len(pending) < 64:
        return [one(item) for item in pending]
    chunks = [pending[i : i + 256] for i in range(0, len(pending), 256)]
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    entries: list[tuple[str, str]] = []
    try:
        for done in pool.map(lambda chunk: [one(item) for item in chunk], chunks):
            interruption.check()
            entries += done
    finally:
        pool.shutdown(cancel_futures=True)
    return entries


def snapshot(root: Path, store: Store, cache_file: Path) -> Manifest:
    """The manifest of the tree at ``root`` now.  UsageError when a file of it cannot be read."""
    files = list_files(root, store)
    now = time.time_ns()
    known, fresh = _read_cache(cache_file), {}
    base = f"{root}/"
    found: dict[str, str] = {}
    pending: list[tuple[str, str]] = []
    seen_at: dict[str, str] = {}
    lstat = os.lstat
    for path in files:
        try:
            st = lstat(base + path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        seen = f"{st.st_mode} {st.st_size} {st.st_mtime_ns} {st.st_ctime_ns} {st.st_ino}"
        cached = known.get(path)
        if cached is not None and cached[0] == seen:
            found[path] = cached[1]
            fresh[path] = cached
            continue
        if mode := mode_of(st.st_mode):
            pending.append((path, mode))
            if max(st.st_mtime_ns, st.st_ctime_ns) < now - RACY_NS:
                seen_at[path] = seen
    for path, value in _hash_all(base, pending):
        if value:
            found[path] = value
            if path in seen_at:
                fresh[path] = (seen_at[path], value)
    log.debug("%s: %d files, %d hashed", root, len(found), len(pending))
    if fresh != known:
        _write_cache(cache_file, fresh)
    return found

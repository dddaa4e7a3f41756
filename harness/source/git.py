# SPDX-License-Identifier: GPL-2.0-or-later
"""A revision in a git repository, read from its objects: no checkout is needed, and none is touched.

Contents come from ``git cat-file --batch``, raw, so that neither filters nor attributes of the repository have a say.  What the
objects hash to by SHA-256 is remembered by their names, so that another revision costs what differs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harness import interruption
from harness.errors import HostError, UsageError
from harness.source.command import neutral_environment, require, run
from harness.source.content import File
from harness.source.manifest import Manifest
from harness.store import Store, write_atomically

log = logging.getLogger("harness.source")

_HEADER = "ksm-harness git objects 1"
_MODES = ("100644", "100755", "120000")


def environment() -> dict[str, str]:
    """For a git that only reads: no lock, no system-wide configuration, no download of what a partial clone lacks."""
    return neutral_environment(GIT_OPTIONAL_LOCKS="0", GIT_CONFIG_NOSYSTEM="1", GIT_NO_LAZY_FETCH="1", GIT_TERMINAL_PROMPT="0")


def _argv(*words: str) -> list[str]:
    # The repository's own configuration must not start programs (fsmonitor), nor its owner matter to a reader.
    return ["git", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", *words]


def ask(where: Path, *words: str) -> bytes | None:
    """Output of a git command that only reads, run in a directory, or None when it fails."""
    require("git", "a kernel source tree")
    done = run(_argv(*words), log=log, cwd=where, env=environment())
    if done.status:
        log.debug("git: %s", done.last_error)
        return None
    return done.output


def commit_of(repository: Path, revision: str, spec: object) -> str:
    """The commit that a revision names.  UsageError when it names none, or the directory is in no repository."""
    if ask(repository, "rev-parse", "--git-dir") is None:
        raise UsageError(f"{spec}: {repository} is no git repository")
    found = ask(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if not found:
        raise UsageError(f"{spec}: there is no revision {revision!r} in {repository}")
    return found.decode().strip()


def place_of(repository: Path) -> Path:
    """The directory that all worktrees of the repository share."""
    found = ask(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
    return Path(os.path.realpath(os.fsdecode(found.removesuffix(b"\n")))) if found else repository


def _feed(pipe: IO[bytes], names: list[str]) -> None:
    try:
        with pipe:
            for start in range(0, len(names), 1024):
                pipe.write("".join(f"{name}\n" for name in names[start : start + 1024]).encode())
    except BrokenPipeError:
        pass  # git has ended, which the reader tells


def objects(repository: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The contents of objects by name.  HostError when one is not there."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return
    argv = _argv("cat-file", "--batch", "--buffer")
    log.info("cd %s && %s  # %d objects", repository, " ".join(argv), len(wanted))
    with subprocess.Popen(
        argv, cwd=repository, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as git:  # fmt: skip
        assert git.stdin and git.stdout
        feeder = threading.Thread(target=_feed, args=(git.stdin, wanted), daemon=True)
        feeder.start()
        try:
            for number, name in enumerate(wanted):
                if number % 256 == 0:
                    interruption.check()
                words = git.stdout.readline().split()
                if len(words) != 3:
                    raise HostError(f"{repository}: git has no object {name[:12]}; is the clone whole? see git fsck")
                content = git.stdout.read(int(words[2]))
                git.stdout.read(1)
                yield name, content
        finally:
            git.stdout.close()
            interruption.end(git)
            feeder.join()


@dataclass(frozen=True)
class Revision:
    """The tree of a commit: ``entries`` are (mode, object) by path."""

    repository: Path
    commit: str
    entries: dict[str, tuple[str, str]] = field(repr=False)

    def read(self, path: str) -> File | None:
        """The file at a path."""
        return next((file for _, file in self.read_all([path])), None)

    def read_all(self, paths: Iterable[str]) -> Iterator[tuple[str, File | None]]:
        """Many files.  Those that are not there come last."""
        users: dict[str, list[str]] = {}
        absent = []
        for path in paths:
            if path in self.entries:
                users.setdefault(self.entries[path][1], []).append(path)
            else:
                absent.append(path)
        for name, content in objects(self.repository, users):
            for path in users[name]:
                yield path, File(self.entries[path][0], content)
        yield from ((path, None) for path in absent)

    def manifest(self, remembered: Path) -> Manifest:
        """The whole tree as data; hashes of objects are kept in the file ``remembered``."""
        known = _read_hashes(remembered)
        fresh = {name for _, name in self.entries.values() if name not in known}
        if fresh:
            for name, content in objects(self.repository, sorted(fresh)):
                known[name] = hashlib.sha256(content).hexdigest()
            _write_hashes(remembered, known)
        log.debug("%s: %d files, %d hashed", self.commit[:12], len(self.entries), len(fresh))
        return {path: f"{mode} {known[name]}" for path, (mode, name) in self.entries.items()}


def revision(repository: Path, commit: str) -> Revision:
    """The tree of a commit; other repositories inside it (submodules) are no part of it."""
    listing = ask(repository, "ls-tree", "-r", "-z", "--full-tree", commit)
    if listing is None:
        raise HostError(f"{repository}: git cannot list the tree of {commit[:12]}; is the clone whole? see git fsck")
    entries = {}
    for line in listing.split(b"\0"):
        words, tab, path = line.partition(b"\t")
        if tab:
            mode, _, name = words.decode().split()
            if mode in _MODES:
                entries[os.fsdecode(path)] = (mode, name)
    return Revision(repository, commit, entries)


def _read_hashes(file: Path) -> dict[str, str]:
    try:
        header, *lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return {}
    if header != _HEADER:
        return {}
    return dict(line.split(" ") for line in lines if line.count(" ") == 1)


def _write_hashes(file: Path, known: dict[str, str]) -> None:
    write_atomically(file, "\n".join([_HEADER, *(f"{name} {digest}" for name, digest in known.items())]) + "\n")


def remembered(store: Store, place: Path) -> Path:
    """Where the hashes of a repository's objects are kept."""
    return store.root / "facts" / f"git-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"

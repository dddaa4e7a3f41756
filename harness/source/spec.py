# SPDX-License-Identifier: GPL-2.0-or-later
"""The words in which a user names a kernel: FORMS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harness import paths
from harness.errors import UsageError

FORMS = "debian:6.1, debian:6.1=VERSION, tree:PATH, git:PATH@REV, tarball:FILE, image:PATH or distro:6.1"
_SERIES = re.compile(r"[0-9]+\.[0-9]+")
# Debian policy 5.6.12, without the epoch that kernels do not use.
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~-]*")


@dataclass(frozen=True)
class Spec:
    """One kernel, as named.

    ``value`` is a series (debian, distro) or an absolute path, ``version`` a pinned package version or (git) a revision.
    """

    kind: Literal["debian", "tree", "git", "tarball", "image", "distro"]
    value: str
    version: str = ""

    @property
    def ready(self) -> bool:
        """It names a kernel that is built."""
        return self.kind in ("image", "distro")

    def need_source(self, what: str) -> None:
        """UsageError for what has no source here; ``what`` says what needs it, as in "mutants need"."""
        if self.ready:
            raise UsageError(f"{self} is a ready image: {what} a source (debian:, tree:, git: or tarball:)")

    def __str__(self) -> str:
        mark = "@" if self.kind == "git" else "="
        return f"{self.kind}:{self.value}" + (f"{mark}{self.version}" if self.version else "")


def _debian(text: str, kind: Literal["debian", "distro"], value: str) -> Spec:
    series, equals, version = value.partition("=")
    if not _SERIES.fullmatch(series):
        raise UsageError(f"{text}: {series!r} is not a kernel series; write {kind}:6.1 or {kind}:6.1=VERSION")
    if equals and not _VERSION.fullmatch(version):
        raise UsageError(f"{text}: {version!r} is not a Debian package version; write it as in {kind}:6.1=6.1.140-1")
    return Spec(kind, series, version)


def _git(text: str, value: str) -> Spec:
    """The path ends at the last @ before which there is a directory: both may have more of them."""
    places = [i for i, c in enumerate(value) if c == "@"]
    if not places:
        raise UsageError(f"{text}: no revision is named; write git:PATH@REV, for example git:{value}@HEAD")
    for at in reversed(places):
        path, revision = paths.of_user(value[:at] or "."), value[at + 1 :]
        if paths.is_directory(path):
            if not revision or revision.startswith("-") or not revision.isprintable() or " " in revision:
                raise UsageError(f"{text}: {revision!r} is no revision; write git:PATH@REV, with a branch, a tag or a commit")
            return Spec("git", str(path.absolute()), revision)
    raise UsageError(f"{text}: there is no directory {value[: places[0]]}")


def parse_spec(text: str) -> Spec:
    """Read a kernel SPEC.  UsageError when it is none, or when its path is not there."""
    kind, colon, value = text.partition(":")
    if not colon or not value:
        raise UsageError(f"{text!r} does not name a kernel; write {FORMS}")
    if kind in ("debian", "distro"):
        return _debian(text, "debian" if kind == "debian" else "distro", value)
    path = paths.of_user(value)
    if kind == "tree":
        if not paths.is_directory(path):
            raise UsageError(f"{text}: there is no directory {path}")
        return Spec("tree", str(path.absolute()))
    if kind == "git":
        return _git(text, value)
    if kind not in ("image", "tarball"):
        raise UsageError(
            f"{text!r} does not name a kernel: {kind!r} is none of debian, tree, git, tarball, image, distro; write {FORMS}"
        )
    if not paths.is_file(path):
        raise UsageError(f"{text}: there is no file {path}")
    return Spec("image" if kind == "image" else "tarball", str(path.absolute()))

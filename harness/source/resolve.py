# SPDX-License-Identifier: GPL-2.0-or-later
"""From a SPEC to a source that can be built: where it is and what it is."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HostError, UsageError
from harness.interruption import interruptible
from harness.source import banner, debian, git, tarball, tree
from harness.source.content import Directory, Tree
from harness.source.manifest import Manifest, identity
from harness.source.spec import Spec
from harness.store import Store

log = logging.getLogger("harness.source")


@dataclass(frozen=True)
class Source:
    """A kernel's source tree, or a ready image.

    ``identity`` changes whenever the content does: the package's version, the hash of the tree, the hash of the image.
    ``release`` is for people (``6.1.192``); ``revision`` the commit that a tree was checked out from, which says nothing
    about edits; ``family`` names the private copies that serve it; ``pristine``: nobody writes to the tree, so that it may be
    hard-linked; ``manifest``: the content of a tree that somebody may write to, or that has neighbours
    (harness.source.manifest).  ``root`` is where the source lies: a directory, a repository of which ``tree`` is a revision, or
    an image.
    """

    spec: Spec
    root: Path
    kind: str
    identity: str
    release: str
    family: str
    revision: str = ""
    pristine: bool = False
    manifest: Manifest | None = dataclasses.field(default=None, repr=False, compare=False)
    tree: Tree | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def files(self) -> Tree:
        """The source, file by file."""
        return self.tree or Directory(self.root)

    @property
    def label(self) -> str:
        """One line for tables and reports."""
        short = self.identity if self.kind == "debian" else self.identity[:12]
        return f"{self.spec} ({self.release or 'unknown release'}, {short})"


_VERSION_LINE = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)[ \t]*$", re.MULTILINE)


def release_of(root: Path) -> str:
    """VERSION, PATCHLEVEL, SUBLEVEL and EXTRAVERSION of the tree's top Makefile, joined as ``make kernelversion`` does."""
    try:
        head = (root / "Makefile").read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:
        head = ""
    return _release(head if (root / "arch").is_dir() else "", str(root))


def _release(makefile: str, where: str) -> str:
    found: dict[str, str] = dict(_VERSION_LINE.findall(makefile))
    if not (found.get("VERSION") and found.get("PATCHLEVEL")):
        raise UsageError(f"{where} is not a kernel source tree: its Makefile names no kernel version")
    numbers = [found.get(key, "") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    return ".".join(number for number in numbers if number) + found.get("EXTRAVERSION", "")


def _debian(spec: Spec, store: Store) -> Source:
    root, version = debian.locate(spec, store)
    return Source(
        spec,
        root,
        "debian",
        f"debian-{spec.value}-{version}",
        release_of(root),
        family=f"debian-{spec.value}-{version}",
        pristine=True,
    )


def _tree(spec: Spec, store: Store) -> Source:
    root = Path(os.path.realpath(spec.value))
    release = release_of(root)
    place = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    manifest = tree.snapshot(root, store, store.root / "facts" / f"tree-{place}")
    if "Makefile" not in manifest:
        raise UsageError(f"{root}: git and .gitignore leave no Makefile in this tree, so it cannot be built")
    return Source(
        spec, root, "tree", identity(manifest), release, family=f"tree-{place}", revision=tree.revision(root), manifest=manifest
    )


def _git(spec: Spec, store: Store) -> Source:
    repository = Path(os.path.realpath(spec.value))
    commit = git.commit_of(repository, spec.version, spec)
    place = git.place_of(repository)
    remembered = git.remembered(store, place)
    revision = git.revision(repository, commit)
    makefile = revision.read("Makefile")
    is_kernel = makefile is not None and any(path.startswith("arch/") for path in revision.entries)
    release = _release(makefile.content.decode(errors="replace")[:4000] if makefile and is_kernel else "", str(spec))
    manifest = revision.manifest(remembered)
    return Source(
        spec,
        repository,
        "git",
        identity(manifest),
        release,
        family=remembered.name,
        revision=commit,
        manifest=manifest,
        tree=revision,
    )


def _tarball(spec: Spec, store: Store) -> Source:
    root, manifest = tarball.locate(Path(os.path.realpath(spec.value)), store)
    release = _release_of_archive(spec, root)
    series = ".".join(release.split(".")[:2])
    return Source(
        spec, root, "tarball", identity(manifest), release, family=f"tarball-{series}", pristine=True, manifest=manifest
    )


def _release_of_archive(spec: Spec, root: Path) -> str:
    try:
        return release_of(root)
    except UsageError as e:
        raise UsageError(f"{spec} holds no kernel source tree: no Makefile of it names a kernel version") from e


def _image(spec: Spec) -> Source:
    root = Path(os.path.realpath(spec.value))
    digest = hashlib.sha256()
    try:
        with root.open("rb") as f:
            while block := f.read(1 << 20):
                digest.update(block)
            release = banner.release_of(root)
    except OSError as e:
        raise UsageError(f"{spec}: cannot read {root}: {e.strerror}") from e
    if not root.stat().st_size:
        raise UsageError(f"{spec}: {root} is empty")
    return Source(spec, root, "image", digest.hexdigest(), release, family="image")


def check_spec(spec: Spec) -> None:
    """UsageError for what is seen to be wrong with a tree or a revision at once, before anything is told or made."""
    if spec.kind == "tree":
        release_of(Path(spec.value))
    elif spec.kind == "git":
        git.commit_of(Path(spec.value), spec.version, spec)


def resolve(spec: Spec, store: Store) -> Source:
    """Find (debian: download) what ``spec`` names.

    UsageError when it is not there or no kernel, HostError when this host cannot get it, Interrupted after interrupt().
    """
    try:
        with interruptible():
            if spec.kind == "debian":
                return _debian(spec, store)
            if spec.kind == "distro":  # a package for each architecture: harness.kernel.distro
                return Source(spec, store.root, "distro", str(spec), spec.value, family="distro")
            if spec.kind == "git":
                return _git(spec, store)
            if spec.kind == "tarball":
                return _tarball(spec, store)
            return _tree(spec, store) if spec.kind == "tree" else _image(spec)
    except OSError as e:
        raise HostError(f"{spec}: {e.strerror} ({e.filename}); is the disk full?") from e

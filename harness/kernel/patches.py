# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches on top of a source: read, and applied in a scratch directory that holds only the files they touch.

By patch(1), as kernel people do, which tolerates some fuzz; one that holds git's binary diffs, which patch(1) cannot read, by
``git apply``, which tolerates none.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness import paths
from harness.errors import BuildError, UsageError
from harness.kernel.content import write_file
from harness.source.command import neutral_environment, require, run
from harness.source.content import File, Tree, blocked_by_link, read_file

log = logging.getLogger("harness.kernel")

_FILES = re.compile(rb"^--- ([^\t\r\n]+).*\n\+\+\+ ([^\t\r\n]+)", re.MULTILINE)
_GIT_FILES = re.compile(rb"^diff --git a/(\S+) b/(\S+)\s*$", re.MULTILINE)
_CHANGE = re.compile(
    rb"^(?:@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@|rename from |deleted file mode |old mode |new file mode |GIT binary patch)",
    re.MULTILINE,
)


_LEFT_OUT = re.compile(rb"^Binary files (?:\S+ and )?(?:[ab]/)?(\S+)(?: and /dev/null)? differ$", re.MULTILINE)
_BINARY = re.compile(rb"^GIT binary patch$", re.MULTILINE)


@dataclass(frozen=True)
class Patch:
    """One patch file as it was when it was read."""

    path: Path
    data: bytes
    touches: frozenset[str]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def binary(self) -> bool:
        """It holds git's binary diffs."""
        return _BINARY.search(self.data) is not None


_REFUSAL = re.compile(r"FAILED|Skipping patch|can't find file|malformed|garbage|Ignoring potentially|Refusing|is not a regular")


def _paths(data: bytes, name: str) -> Iterator[str]:
    """The paths, relative to the tree, that the patch's headers name (``patch -p1``: their first part is dropped)."""
    for found in _FILES.finditer(data):
        for text in (os.fsdecode(group.strip()) for group in found.groups()):
            if text == "/dev/null":
                continue
            if text.startswith("/"):
                raise UsageError(
                    f"patch {name} touches {text}, which is outside the tree; paths in a patch are relative to it (a/mm/ksm.c)"
                )
            yield text.partition("/")[2]
    for found in _GIT_FILES.finditer(data):
        yield from (os.fsdecode(group) for group in found.groups())


def parse(path: Path, data: bytes) -> Patch:
    """Judge a patch's content.  UsageError when it is no patch or wants to leave the tree."""
    if not data.strip():
        raise UsageError(f"patch {path} is empty")
    if not _CHANGE.search(data):
        raise UsageError(f"{path} is not a patch: no line of it begins with @@")
    if left_out := _LEFT_OUT.search(data):
        what = os.fsdecode(left_out[1])
        raise UsageError(f"patch {path.name} does not hold the content of {what}, a binary file; make it with git diff --binary")
    touches = set()
    for name in _paths(data, path.name):
        if ".." in PurePosixPath(name).parts or name.startswith("/") or "\0" in name:
            raise UsageError(f"patch {path.name} touches {name!r}, which is outside the tree")
        if name:
            touches.add(str(PurePosixPath(name)))
    if not touches:
        raise UsageError(f"{path} is not a patch that `patch -p1` can apply: it names no file (--- a/mm/ksm.c)")
    return Patch(path, data, frozenset(touches))


def load(files: Sequence[Path]) -> list[Patch]:
    """Read patch files, in order.  UsageError when one cannot be read or is no patch."""
    patches = []
    for path in files:
        try:
            patches.append(parse(path, paths.content(path)))
        except OSError as e:
            raise UsageError(f"cannot read the patch {path}: {e.strerror}") from e
    return patches


def _refusal(patch: Patch, output: str) -> BuildError:
    """Which patch, which file, which hunk: from what patch(1) or git printed."""
    where = ""
    if error := re.search(r"^(?:error|fatal): (.*)$", output, re.MULTILINE):
        return BuildError(f"patch {patch.name} does not apply: {error[1]}")
    for line in output.splitlines():
        if found := re.match(r"(?:patching|checking) file '?(.+?)'?(?: \(.*\))?$", line):
            where = found[1] + ": "
        elif _REFUSAL.search(line):
            return BuildError(f"patch {patch.name} does not apply: {where}{line.strip().rstrip('.')}")
    lines = [line for line in output.splitlines() if line.strip()]
    return BuildError(f"patch {patch.name} does not apply: {lines[-1].strip() if lines else 'patch(1) gave no reason'}")


def apply(patches: Sequence[Patch], source: Tree, scratch: Path) -> Mapping[str, File | None]:
    """The files that the patches leave behind, by path; None for one that they remove.

    ``source`` is only read.  BuildError names the patch, and file and line of the first hunk, that does not apply.
    """
    if not patches:
        return {}
    require("patch", "--patch")
    touched = sorted(frozenset[str]().union(*(patch.touches for patch in patches)))
    for path in touched:
        if link := blocked_by_link(source, path):
            raise UsageError(f"a patch touches {path}, but {link} is a symbolic link in this tree; name the file itself")
    tree = scratch / "tree"
    tree.mkdir()
    for path in touched:
        if (file := source.read(path)) is not None:
            write_file(tree, path, file, scratch)
    for number, patch in enumerate(patches):
        copy = scratch / f"{number}.patch"
        copy.write_bytes(patch.data)
        log.info("patch %s", patch.path)
        if patch.binary:
            require("git", f"the binary patch {patch.name}")
            # The tree is in no repository, whatever the store may be in.
            env = neutral_environment(GIT_CEILING_DIRECTORIES=str(scratch.resolve()))
            done = run(["git", "apply", "-p1", "--whitespace=nowarn", str(copy.resolve())], log=log, cwd=tree, env=env)
        else:
            argv = ["patch", "-p1", "--forward", "--batch", "--no-backup-if-mismatch", "--reject-file=-"]
            done = run([*argv, f"--directory={tree}", f"--input={copy}"], log=log, env=neutral_environment())
        if done.status:
            raise _refusal(patch, done.text + done.errors)
        if fuzzy := [line for line in done.text.splitlines() if "fuzz" in line]:
            log.warning("patch %s: %s", patch.name, fuzzy[0])
    return {path: read_file(tree, path) for path in touched}

# SPDX-License-Identifier: GPL-2.0-or-later
"""The directory of a run (``--out``): whether it may be taken, cleared of the run before, and given back."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError, unwritable
from harness.report import html, junit, load_run, runfile, write_run
from harness.results import RunResult

LOG = "run.log"
CELLS = "cells"

ADVICE = "name another directory with --out"


def _is_run(directory: Path) -> bool:
    """A run.json of ours is there, however far the run came."""
    try:
        load_run(directory)
    except UsageError:
        return False
    return directory.is_dir()


def refuse_foreign(out: Path) -> None:
    """UsageError when ``out`` holds anything but a run of ours, what is left of one that never began, or runs of ours."""
    try:
        ours = not out.exists() or _is_run(out) or all(entry.name == LOG or _is_run(entry) for entry in out.iterdir())
    except OSError as e:
        raise unwritable(out, e, ADVICE) from e
    if not ours:
        raise UsageError(f"--out {out} holds something that is no run of ours; name an empty or a new directory")


def refuse_inside(out: Path, tree: Path) -> None:
    """UsageError when ``out`` is the user's source tree or in it: what the run writes would be a part of the kernel's source."""
    root = Path(os.path.realpath(tree))
    if Path(os.path.realpath(out)).is_relative_to(root):
        raise UsageError(f"--out {out} is inside the kernel tree {root}, which is left untouched; name an --out outside of it")


def begin(out: Path, run: RunResult) -> None:
    """Make ``out`` say what holds now: this run, no cell judged; nothing of an older run stays."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_run(out, run)
        for name in (junit.NAME, html.NAME):
            (out / name).unlink(missing_ok=True)
        if (out / CELLS).exists():
            shutil.rmtree(out / CELLS)
    except OSError as e:
        raise unwritable(Path(e.filename or out), e, ADVICE) from e


@contextlib.contextmanager
def taken(out: Path) -> Iterator[None]:
    """``out``, made if need be.  Bad input that shows only while it is held leaves a new or empty directory as it was."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        empty = not any(out.iterdir())
    except OSError as e:
        raise unwritable(out, e, ADVICE) from e
    try:
        yield
    except* UsageError:
        if empty:
            shutil.rmtree(out / CELLS, ignore_errors=True)
            for name in (LOG, runfile.NAME):
                (out / name).unlink(missing_ok=True)
        if new:
            with contextlib.suppress(OSError):  # a file of somebody else's came meanwhile
                out.rmdir()
        raise

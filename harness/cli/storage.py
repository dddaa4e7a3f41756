# SPDX-License-Identifier: GPL-2.0-or-later
"""``ksm-harness store``: what is kept between runs, and having less of it."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import shutil
from collections import Counter
from collections.abc import Sequence

from harness import store
from harness.cli.common import open_store
from harness.errors import ExitCode
from harness.report import show_rows
from harness.report.text import line

MOST_LABEL = 50
"""Characters, so that an entry takes one line of 160 columns."""

_PLURALS = {
    "source": "sources", "work": "private copies", "objects": "object directories", "kernel": "kernels", "image": "images",
}  # fmt: skip
_SINGULARS = {"work": "private copy", "objects": "object directory"}


def _by_kind(found: Sequence[store.Entry]) -> str:
    """As in "2 kernels, 1 image, ccache"; the last is there once at most, and so is apt's state."""
    counts = Counter(entry.kind for entry in found)
    words = [
        kind if kind not in _PLURALS else f"{n} {_PLURALS[kind]}" if n > 1 else f"1 {_SINGULARS.get(kind, kind)}"
        for kind, n in counts.most_common()
    ]
    return ", ".join(words) or "nothing"


def _free(kept: store.Store) -> str:
    return f"{store.in_words(shutil.disk_usage(kept.root).free)} of the disk are free"


def _list_store(kept: store.Store, as_json: bool) -> None:
    found = store.entries(kept)
    rows = [dataclasses.asdict(entry) for entry in found]
    if not as_json:
        for row in rows:
            del row["path"]  # it is told by kind and key
            row["label"] = line(row["label"], MOST_LABEL)
            row["size"] = store.in_words(row["size"])
            row["used"] = datetime.datetime.fromtimestamp(row["used"]).isoformat(" ", timespec="minutes")
    show_rows(rows, as_json)
    if not as_json:
        print(f"{_by_kind(found)}: {store.in_words(sum(entry.size for entry in found))} in {kept.root}; {_free(kept)}")


def _collect(kept: store.Store, max_size: int, as_json: bool) -> None:
    done = store.gc(kept, max_size)
    if as_json:
        show_rows([dataclasses.asdict(entry) for entry in done.removed], True)
        return
    freed = f", {store.in_words(sum(entry.size for entry in done.removed))}" if done.removed else ""
    print(f"removed {_by_kind(done.removed)}{freed}; {store.in_words(done.left)} stay in {kept.root}, {_free(kept)}")


def keep_store(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness store list|gc``."""
    kept = open_store()
    if options.action == "gc":
        _collect(kept, options.max_size, options.json)
    else:
        _list_store(kept, options.json)
    return ExitCode.GOOD

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the workload ``calibrate`` shows of a kernel: the fields of ``Semantics`` that no file tells, by what it did.

Each from two or three observations, and only where they are as they must be for the answer to mean anything: what was not
seen is not told.  Pure: records in, fields out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.oracle.runs import KPF_KSM, KPF_MLOCKED, KPF_THP, KPF_ZERO_PAGE

WORKLOAD = "calibrate"

Record = Mapping[str, Any]


@dataclass
class _Seen:
    observations: dict[str, Record] = field(default_factory=dict)  # by label
    refusals: dict[str, str] = field(default_factory=dict)  # the last operation of a kind: its error, "" if it was done

    def number(self, label: str, file: str) -> int | None:
        """A file of KSM's at an observation."""
        ksm = self.observations.get(label, {}).get("ksm")
        text = str(ksm.get(file, "")) if isinstance(ksm, Mapping) else ""
        return int(text) if text.isdecimal() else None

    def page(self, label: str, actor: str, area: str, index: int) -> Sequence[Any]:
        """The run that a page is in, its page frame moved to the page itself; empty if it is not told."""
        procs = self.observations.get(label, {}).get("procs")
        try:
            runs = procs[actor]["areas"][area] if procs else []
            for run in runs:
                if index < run[0]:
                    return [run[0], run[1], run[2] + index * run[3], *run[3:]] if run[1] == "P" else run
                index -= run[0]
        except (KeyError, IndexError, TypeError):
            return []
        return []

    def flags(self, label: str, actor: str, area: str, index: int) -> int | None:
        """/proc/kpageflags of a page that is present."""
        run = self.page(label, actor, area, index)
        try:
            return int(str(run[4]), 16) if run and run[1] == "P" else None
        except (IndexError, ValueError):
            return None


def measured(records: Iterable[Record]) -> dict[str, bool]:
    """The fields of Semantics that these records of the workload decide."""
    seen = _Seen()
    for record in records:
        if record.get("kind") == "obs":
            seen.observations[str(record.get("label"))] = record
        elif record.get("kind") == "ret":
            seen.refusals[str(record.get("op"))] = str(record.get("errno", ""))
    return dict(_fields(seen))


def _fields(seen: _Seen) -> Iterator[tuple[str, bool]]:
    before, after = (seen.number(label, "pages_sharing") for label in ("merged", "a third page met once"))
    if before == 1 and after in (1, 2):  # without a comparison of checksums it is found in the stable tree at once
        yield "cksum_first", after == 1
    two, merged = ([seen.page(label, "P1", "a", i) for i in range(2)] for label in ("two equal pages", "merged"))
    if all(page and page[1] == "P" for page in (*two, *merged)) and merged[0][2] == merged[1][2]:
        was = [page[2] for page in two]
        if was[0] != was[1] and merged[0][2] in was:
            yield "met_last_stays", merged[0][2] == was[1]
    marks = [seen.flags("locked", "P1", "a", i) for i in range(2)]
    if None not in marks:
        yield "mlock_marks_ksm", all((flags or 0) & KPF_MLOCKED for flags in marks)
    refused = seen.refusals.get("merge_any")
    if refused in ("", "EINVAL"):
        yield "has_merge_any", not refused
    read, written = (seen.page(label, "P1", "x", 0) for label in ("read from swap", "written to"))
    if read and written and read[1] == written[1] == "P":
        yield "swap_ptes_keep_exclusive", read[2] == written[2]
    last = [seen.page(label, "R", "a", 1) for label in ("one mapper is left", "the last one has written")]
    if all(page and page[1] == "P" for page in last) and (seen.flags("one mapper is left", "R", "a", 1) or 0) & KPF_KSM:
        yield "wp_reuses_ksm", last[0][2] == last[1][2]
    yield from _chain(seen)
    flags = seen.flags("split", "H", "a", 1)
    if flags is not None and not flags & KPF_THP:
        yield "split_maps_zeros", bool(flags & KPF_ZERO_PAGE)
    if poisoned := seen.page("poisoned", "E", "a", 0):
        yield "hwpoison_takes_ksm", poisoned[1] == "X"


def _chain(seen: _Seen) -> Iterator[tuple[str, bool]]:
    made = [seen.number("two pages in a chain", f) for f in ("stable_node_chains", "pages_shared")]
    left = [seen.number("one page is left", f) for f in ("stable_node_chains", "pages_shared")]
    if made == [1, 2] and left[1] == 1 and left[0] in (0, 1):
        yield "single_dup_leaves_chain", left[0] == 0

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pictures need from a cell's journals: counters at each observation, and a few pairs of page states."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.guest.record import numbered
from harness.journal.reader import Reader, Record
from harness.report.pagestate import Row, rows_of
from harness.verdict.replay import chunks

MAX_PAIRS = 3  # page maps of one workload
MAX_SAMPLES = 400  # observations of one workload whose counters are kept

COUNTERS = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")


@dataclass(frozen=True)
class Sample:
    """The counters at one observation; what the guest does not have is absent."""

    label: str
    t: int  # milliseconds since the guest booted
    values: Mapping[str, int]


@dataclass(frozen=True)
class State:
    """Where all pages were at one observation."""

    label: str
    seq: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Pair:
    """Two observations that follow each other, and the kinds of operations between them."""

    before: State
    after: State
    ops: tuple[str, ...]


@dataclass
class Trace:
    """One workload in one boot."""

    workload: str
    boot: int
    samples: list[Sample] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)  # kinds since the last observation
    last: State | None = None
    first: State | None = None


def journals(directory: Path) -> list[Path]:
    """The journals of a cell, boot by boot."""
    found: list[Path] = []
    while (path := directory / numbered("journal.jsonl", len(found) + 1)).is_file():
        found.append(path)
    return found


def traces(directory: Path, wanted: Mapping[str, Collection[int]]) -> list[Trace]:
    """All workloads of a cell in the order they ran.  ``wanted`` are the records at which findings show, by workload."""
    found: list[Trace] = []
    for boot, path in enumerate(journals(directory), start=1):
        found += read_traces(chunks(path), boot, wanted)
    return found


def read_traces(pieces: Iterable[bytes], boot: int, wanted: Mapping[str, Collection[int]]) -> list[Trace]:
    """The workloads of one boot."""
    reader, found = Reader(), list[Trace]()
    for piece in pieces:
        for record in reader.feed(piece):
            if record.get("boot") is True:
                continue
            if record["kind"] == "begin":
                found.append(Trace(str(record.get("workload", "")), boot))
            elif record["kind"] == "op":
                found[-1].ops.append(str(record.get("op", "")))
            elif record["kind"] == "obs":
                _observe(found[-1], record, wanted.get(found[-1].workload, ()))
                reader.segments[-1].records[-1] = {"kind": "obs"}  # observations are what makes a journal large
    for trace in found:
        _settle(trace)
    return found


def _observe(trace: Trace, record: Record, wanted: Collection[int]) -> None:
    label = str(record.get("label", ""))
    seq = record["seq"]
    if len(trace.samples) < MAX_SAMPLES:
        t = record.get("t")
        trace.samples.append(Sample(label, t if type(t) is int else 0, _counters(record)))
    state = State(label, seq, rows_of(record))
    if trace.last is not None:
        pair = Pair(trace.last, state, tuple(dict.fromkeys(trace.ops)))
        if _tells(pair, wanted):
            telling = [p for p in trace.pairs if _tells(p, wanted)]
            trace.pairs = [*telling, pair][:MAX_PAIRS]
        elif "reclaim" in pair.ops and not any(_merged(p.before) or _tells(p, wanted) for p in trace.pairs):
            trace.pairs = [pair] if _merged(pair.before) or not trace.pairs else trace.pairs
    trace.first = trace.first or (state if state.rows else None)
    trace.last, trace.ops = state, []


def _merged(state: State) -> bool:
    """There are KSM pages to reclaim."""
    return any(span.kind == "ksm" for row in state.rows for span in row.spans)


def _tells(pair: Pair, wanted: Collection[int]) -> bool:
    return any(pair.before.seq < seq <= pair.after.seq for seq in wanted)


def _settle(trace: Trace) -> None:
    """A workload without reclaim and findings is shown by its first and last observation."""
    if not trace.pairs and trace.first is not None and trace.last is not None and trace.first is not trace.last:
        trace.pairs.append(Pair(trace.first, trace.last, ()))


def _counters(record: Record) -> dict[str, int]:
    values: dict[str, int] = {}
    for source, names in (("ksm", COUNTERS), ("meminfo", ("SwapFree", "AnonPages")), ("slab", ("anon_vma", "mm_struct"))):
        table = record.get(source)
        if not isinstance(table, dict):
            continue
        for name in names:
            text = str(table.get(name, ""))
            if text.isascii() and text.isdigit() and len(text) < 16:
                values[name] = int(text)
    return values

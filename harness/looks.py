# SPDX-License-Identifier: GPL-2.0-or-later
"""The second witness's looks on disk: ``witness.jsonl.gz`` of each boot, described in docs/witness.md.

One look is one line, and one member of the gzip file, so that what is there can be read at any moment.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from harness.graph import AnonVma, Chain, Graph, Item, Mm, Node, Page, Slot, Vma

MOST = 64 << 20  # bytes of one boot's file, packed
MOST_LINE = 64 << 20  # bytes of a look, unpacked; a longer one is no look of ours
PIECE = 1 << 16

# The graph's parts by their names, and what is in them.
_MAPS: dict[str, type] = {
    "items": Item, "nodes": Node, "chains": Chain, "anon_vmas": AnonVma, "former": AnonVma, "vmas": Vma, "mms": Mm,
    "slots": Slot, "pages": Page,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What was seen right after the record ``seq`` of the boot's workload number ``segment``, counted from 0."""

    segment: int
    seq: int
    graph: Graph


def name(boot: int) -> str:
    """A boot's file: ``witness.jsonl.gz``, then ``witness.2.jsonl.gz``, …"""
    return "witness.jsonl.gz" if boot == 1 else f"witness.{boot}.jsonl.gz"


def to_data(graph: Graph) -> dict[str, Any]:
    """A graph as plain data: of each map one list per member of its class, with each number's difference from the one before."""
    data: dict[str, Any] = {}
    for key, kind in _MAPS.items():
        if things := getattr(graph, key):
            rows = list(things.values()) if isinstance(things, Mapping) else things
            data[key] = [_differences([getattr(thing, f.name) for thing in rows]) for f in fields(kind)]
    data["unstable"] = _differences(graph.unstable)
    data["counters"] = dict(graph.counters)
    data["faults"] = graph.faults
    return {key: value for key, value in data.items() if value}


def from_data(data: Mapping[str, Any]) -> Graph:
    """A graph from what to_data() made, maybe by way of JSON.  ValueError if it is no such thing."""
    try:
        parts: dict[str, Any] = {}
        for key, kind in _MAPS.items():
            columns = [_sums(column) for column in data.get(key, ())]
            things = [kind(*row) for row in zip(*columns, strict=True)]
            first = fields(kind)[0].name
            parts[key] = tuple(things) if key == "slots" else {getattr(thing, first): thing for thing in things}
        return Graph(
            **parts,
            unstable=tuple(_sums(data.get("unstable", ()))),
            counters={str(k): int(v) for k, v in data.get("counters", {}).items()},
            faults=tuple(str(fault) for fault in data.get("faults", ())),
        )
    except (TypeError, AttributeError) as e:
        raise ValueError(f"no graph: {e}") from e


def _differences(column: Sequence[Any]) -> list[Any]:
    """Numbers, or tuples of them, become differences from the number before, however they are divided; words stay."""
    before, out = 0, list[Any]()
    for value in column:
        if isinstance(value, tuple):
            inner = []
            for number in value:
                inner.append(number - before)
                before = number
            out.append(inner)
        elif isinstance(value, int):
            out.append(value - before)
            before = value
        else:
            out.append(value)
    return out


def _sums(column: Sequence[Any]) -> list[Any]:
    """The way back."""
    before, out = 0, list[Any]()
    for value in column:
        if isinstance(value, list):
            inner = []
            for number in value:
                before += number
                inner.append(before)
            out.append(tuple(inner))
        elif isinstance(value, str):
            out.append(value)
        else:
            before += value
            out.append(before)
    return out


class Writer:
    """Adds looks to a boot's file.  Once that is full, a last line says so and nothing more is written."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb", buffering=0)
        self._size = 0
        self._full = False
        self._last: bytes = b""

    def write(self, segment: int, seq: int, graph: Graph) -> None:
        """One look.  OSError if the disk is full."""
        if self._full:
            return
        body = json.dumps(to_data(graph), separators=(",", ":")).encode("ascii")
        head = f'{{"segment":{segment},"of":{seq},'
        # What is as it was need not be told again.
        line = head.encode() + (b'"same":true}\n' if body == self._last else b'"graph":' + body + b"}\n")
        self._last = body
        packed = gzip.compress(line, 5, mtime=0)
        if self._size + len(packed) > MOST:
            self._full = True
            packed = gzip.compress(f'{head}"full":"no more than {MOST >> 20} MiB are kept of one boot"}}\n'.encode(), mtime=0)
        self._size += len(packed)
        if self._file.write(packed) != len(packed):
            raise OSError(28, "No space left on device", str(self._file.name))

    def close(self) -> None:
        """No more looks."""
        self._file.close()


class Reader:
    """Reads a boot's file, also while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._unpacker = zlib.decompressobj(31)
        self._line = bytearray()
        self._graph = Graph()
        self.fault = ""  # why no more can be read, in words; a file that merely ends has none

    def read(self) -> Iterator[Look]:
        """The looks that are there and have not been read yet."""
        if self._file is None:
            try:
                self._file = self._path.open("rb", buffering=0)
            except OSError:
                return
        while not self.fault and (piece := self._file.read(PIECE)):
            for line in self._lines(piece):
                if (look := self._look(line)) is not None:
                    yield look

    def close(self) -> None:
        """Not to be read any more."""
        if self._file is not None:
            self._file.close()

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        while piece and not self.fault:
            try:
                self._line += self._unpacker.decompress(piece, MOST_LINE)
            except zlib.error as e:
                self.fault = f"damaged: {e}"
                return
            if len(self._line) >= MOST_LINE:
                self.fault = f"a look is longer than {MOST_LINE >> 20} MiB"
                return
            if not self._unpacker.eof:
                return
            piece = self._unpacker.unused_data
            self._unpacker = zlib.decompressobj(31)
            yield bytes(self._line)
            self._line.clear()

    def _look(self, line: bytes) -> Look | None:
        try:
            data = json.loads(line)
            if "full" in data:
                self.fault = str(data["full"])
                return None
            if data.get("same") is not True:
                self._graph = from_data(data["graph"])
            return Look(int(data["segment"]), int(data["of"]), self._graph)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            self.fault = f"damaged: {type(e).__name__}: {e}"
            return None


def read_all(path: Path) -> Sequence[Look]:
    """A whole file; nothing if it is not there."""
    reader = Reader(path)
    try:
        return list(reader.read())
    finally:
        reader.close()

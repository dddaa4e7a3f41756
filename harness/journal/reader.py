# SPDX-License-Identifier: GPL-2.0-or-later
"""From bytes to records and segments.  Everything a guest writes is data: nothing here trusts it."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

VERSION = 1
MAX_LINE = 1 << 20

_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"\}\Z')

Record = Mapping[str, Any]


class JournalError(ValueError):
    """A line that is no record of this journal; the message says what is wrong with it."""


@dataclass
class _Chain:
    """Where a run of numbered, checksummed records stands."""

    seq: int = 0
    crc: int = 0


def parse_line(line: bytes, seq: int, crc: int) -> tuple[dict[str, Any], int]:
    """One line (without its end) that should be number ``seq`` after a record whose checksum was ``crc``.

    Returns the record and its checksum; raises JournalError.
    """
    if len(line) > MAX_LINE:
        raise JournalError(f"a line of {len(line)} bytes, over {MAX_LINE}")
    tail = _TAIL.search(line)
    if tail is None:
        raise JournalError("a line without a checksum at its end")
    actual = zlib.crc32(line[: tail.start()], crc)
    if int(tail[1], 16) != actual:
        raise JournalError(f"checksum {tail[1].decode()} where {actual:08x} follows")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise JournalError(f"not JSON: {e}") from e
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise JournalError("not a record: no kind")
    if record.get("seq") != seq:
        raise JournalError(f"record number {record.get('seq')!r} where {seq} follows")
    return record, actual


@dataclass
class Segment:
    """The records of one workload, from ``begin`` on; ``fault`` is what makes it inconsistent in itself."""

    records: list[Record] = field(default_factory=list)
    fault: str = ""

    @property
    def workload(self) -> str:
        """The name that ``begin`` gives."""
        return str(self.records[0].get("workload", "")) if self.records else ""

    @property
    def ended(self) -> bool:
        """The last record is ``end``."""
        return bool(self.records) and self.records[-1]["kind"] == "end"

    def problem(self) -> str:
        """Why this segment is not a complete, consistent account; empty if it is one."""
        if self.fault:
            return self.fault
        if not self.ended:
            return "the journal ended before the workload did"
        return _miscount(self.records)


def _miscount(records: list[Record]) -> str:
    """What the end record declares against what is there."""
    kinds = [r["kind"] for r in records]
    there = {"ops": kinds.count("op"), "obs": kinds.count("obs"), "records": len(records)}
    for key, value in there.items():
        if records[-1].get(key) != value:
            return f"the end record declares {records[-1].get(key)!r} {key}, the journal has {value}"
    return ""


class Reader:
    """Takes the bytes of one boot's journal in any pieces, and gives its records as they become whole.

    ``boot`` holds the boot segment's records, ``segments`` the workloads' in their order.  After a bad line nothing
    more of this boot is believed: ``fault`` says why, and the segment it stands in is marked.
    """

    def __init__(self) -> None:
        self.boot: list[Record] = []
        self.segments: list[Segment] = []
        self.fault = ""
        self._boot = _Chain()
        self._load = _Chain()
        self._rest = b""
        self._line = 0

    def feed(self, data: bytes) -> Iterator[Record]:
        """The records that ``data`` completes."""
        if self.fault:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line += 1
            record = self._take(line)
            if record is not None:
                yield record
            if self.fault:
                return
        if len(self._rest) > MAX_LINE:
            self._fail(f"a line of over {MAX_LINE} bytes")

    def _fail(self, why: str) -> None:
        self.fault = f"line {self._line}: {why}"
        self._rest = b""
        if self.segments and not self.segments[-1].ended:
            self.segments[-1].fault = self.fault

    def _take(self, line: bytes) -> Record | None:
        boot = b'"boot":true' in line[:96]
        starts = not boot and line.startswith(b'{"seq":0,')
        if starts:
            self._load = _Chain()
        chain = self._boot if boot else self._load
        try:
            record, crc = parse_line(line, chain.seq, chain.crc)
            self._place(record, boot, starts)
        except JournalError as e:
            self._fail(str(e))
            return None
        chain.seq, chain.crc = chain.seq + 1, crc
        return record

    def _place(self, record: Record, boot: bool, starts: bool) -> None:
        if boot:
            if (record["kind"] == "hello") != (not self.boot):
                raise JournalError(f"a boot segment goes hello first, not {record['kind']}")
            if record["kind"] == "hello" and record.get("v") != VERSION:
                raise JournalError(f"journal version {record.get('v')!r}, this harness reads {VERSION}")
            self.boot.append(record)
            return
        if (record["kind"] == "begin") != starts:
            raise JournalError(f"a workload's segment begins with begin, not {record['kind']}")
        if starts:
            self.segments.append(Segment())
        elif not self.segments or self.segments[-1].ended:
            raise JournalError(f"a {record['kind']} record outside begin and end")
        self.segments[-1].records.append(record)


def read(chunks: Iterable[bytes]) -> Reader:
    """A whole journal of one boot."""
    reader = Reader()
    for chunk in chunks:
        for _ in reader.feed(chunk):
            pass
    return reader


def seal(record: Mapping[str, Any], crc: int) -> tuple[bytes, int]:
    """A record as a line of the journal, and its checksum: what the guest's C does, for tests and tools."""
    body = json.dumps(dict(record), separators=(",", ":"), ensure_ascii=True).encode()[:-1]
    actual = zlib.crc32(body, crc)
    return body + b',"crc":"%08x"}\n' % actual, actual

# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that acted freely: what is known of each is its own book, not how it came to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.oracle.address_space import Area, Mm
from harness.oracle.model import MAX_PAGES, Model
from harness.oracle.records import Fields

CONTROL = "Z"  # the only actor that never roams
UNKNOWN = -2  # a page of which no book says anything


@dataclass
class Pages:
    """An area: what each page must hold, and whether its vma is VM_MERGEABLE."""

    tags: list[int]
    mergeable: list[bool]
    addr: int = 0  # where it begins, in bytes

    @property
    def npages(self) -> int:
        """How many pages it has."""
        return len(self.tags)


@dataclass
class Process:
    """A process and its areas."""

    name: str
    pid: int
    areas: dict[str, Pages] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else self.name


class Population:
    """All actors that are alive, the control included."""

    def __init__(self, model: Model, page_size: int) -> None:
        self.page_size = page_size
        self.processes: dict[str, Process] = {}
        self.spawned: set[int] = set()  # pids of processes that no fork made
        self.roamers: set[str] = set()
        for name, mm in model.actors.items():
            process = self.processes[name] = Process(name, mm.pid)
            self.spawned.add(mm.pid)
            if name != CONTROL:
                self.roamers.add(name)
            for area_name, area in mm.areas.items():
                end = area.start + area.npages
                tags = [mm.ptes[a].content if a in mm.ptes else UNKNOWN for a in range(area.start, end)]
                process.areas[area_name] = Pages(tags, [False] * area.npages, area.start * page_size)

    def process(self, name: str, where: Fields) -> Process:
        """A living one; JournalContradiction if there is none of this name."""
        if name not in self.processes:
            raise where.fail(f"no actor {name!r} is alive")
        return self.processes[name]

    def pages(self, op: Fields) -> tuple[Process, Pages, range]:
        """The pages that an operation names."""
        process = self.process(op.text("actor"), op)
        area = process.areas.get(op.text("area"))
        if area is None:
            raise op.fail(f"{process.name} has no area {op.text('area')!r}")
        first, count = op.number("first", 0), op.number("count", 0)
        if first + count > area.npages:
            raise op.fail(f"pages {first}..{first + count - 1} of an area of {area.npages}")
        return process, area, range(first, first + count)

    def roster(self) -> list[Mm]:
        """Everyone's pid and areas, in the form that names of pages are told from."""
        found = []
        for process in self.processes.values():
            mm = Mm(process.name, "")
            mm.pid = process.pid
            mm.areas = {n: Area(area.addr // self.page_size, area.npages) for n, area in process.areas.items()}
            found.append(mm)
        return found

    def all_pages(self) -> Iterator[tuple[Process, str, Pages]]:
        """Every area of everyone."""
        for process in self.processes.values():
            for name, area in process.areas.items():
                yield process, name, area

    def spawn(self, op: Fields, ret: Fields) -> None:
        """A process unrelated to the others."""
        name = op.text("actor")
        if name in self.processes:
            raise op.fail(f"there is an actor {name!r} already")
        self.processes[name] = Process(name, ret.number("pid", 1))
        self.spawned.add(ret.number("pid", 1))
        self.roamers.add(name)

    def map(self, op: Fields, page_size: int) -> None:
        """An area without a page yet."""
        npages = op.number("bytes", 1) // page_size
        if npages > MAX_PAGES:
            raise op.fail(f"an area of {npages} pages")
        area = Pages([UNKNOWN] * npages, [False] * npages, _address(op))
        self.process(op.text("actor"), op).areas[op.text("area")] = area

    def exit(self, op: Fields) -> None:
        """It is gone."""
        process = self.process(op.text("actor"), op)
        del self.processes[process.name]
        self.spawned.discard(process.pid)
        self.roamers.discard(process.name)

    def mergeable(self, op: Fields) -> None:
        """madvise(MADV_MERGEABLE)."""
        _, area, where = self.pages(op)
        for i in where:
            area.mergeable[i] = True

    def take_over(self, ret: Fields) -> None:
        """What ``roam`` says of who is there now, and of each one's book."""
        told = {name: _process(name, Fields(ret.mapping(raw, name), ret.where)) for name, raw in ret.record("population").items()}
        for name in self.roamers - set(told):
            del self.processes[name]
        self.spawned &= {p.pid for p in (*told.values(), *self.processes.values())}
        self.roamers = set(told)
        self.processes |= told


def _process(name: str, raw: Fields) -> Process:
    process = Process(name, raw.number("pid", 1))
    for area, value in raw.record("areas").items():
        fields = Fields(raw.mapping(value, area), raw.where)
        npages = fields.number("npages", 1)
        if npages > MAX_PAGES:
            raise fields.fail(f"an area of {npages} pages")
        tags = _expand(fields, "book", npages)
        flags = [bool(f) for f in _expand(fields, "mergeable", npages)]
        process.areas[area] = Pages(tags, flags, _address(fields))
    return process


def _address(fields: Fields) -> int:
    try:
        return int(fields.text("addr"), 16)
    except ValueError as e:
        raise fields.fail(f"no address: {fields.text('addr')!r}") from e


def _expand(fields: Fields, key: str, npages: int) -> list[int]:
    """Runs [count, value, …]: a value per page."""
    found: list[int] = []
    for raw in fields.items(key):
        if not isinstance(raw, list) or len(raw) < 2 or not isinstance(raw[1], int):
            raise fields.fail(f"no run of {key}: {raw!r}")
        count = fields.whole(raw[0], key, 1)
        step = fields.whole(raw[2], key) if len(raw) > 2 else 0
        if count > npages - len(found):
            raise fields.fail(f"{key} of more than {npages} pages")
        found.extend(raw[1] + i * step for i in range(count))
    if len(found) != npages:
        raise fields.fail(f"{key} of {len(found)} pages where there are {npages}")
    return found

# SPDX-License-Identifier: GPL-2.0-or-later
"""Workloads told to an oracle record by record, as a guest would; and the recorded ones of real guests."""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.findings import Finding
from harness.oracle import Oracle, Semantics
from harness.oracle.invariants import check_invariants
from harness.oracle.model import Model
from harness.oracle.predict import Predictor

HELLO: dict[str, Any] = {
    "kind": "hello", "v": 1, "release": "6.1.192", "page_size": 4096, "cpus": 1,
    "ksm_files": ["full_scans", "max_page_sharing", "merge_across_nodes", "pages_shared", "run", "use_zero_pages"],
    "vmstat_keys": ["cow_ksm", "ksm_swpin_copy"], "proc_files": ["ksm_merging_pages", "ksm_stat"],
    "page_flags": "2017e3904",
}  # fmt: skip

Record = dict[str, Any]
Tamper = Callable[[Record], None]
N = 16  # pages of an area, unless told otherwise


def attempt(states: Record) -> Record:
    """An attempt to reclaim, as the journal tells it."""
    return {"rc": -1, "errno": "EAGAIN", "ms": 5, "times": 1, "states": states}


class Story:
    """One workload.  Every operation is told and applied; ``observe`` renders the model's own prediction, tampered with."""

    def __init__(
        self,
        semantics: Semantics | None = None,
        p: str = "P1",
        memcg: str = "t",
        hello: Record | None = None,
        begin: Record | None = None,
    ) -> None:
        self.seq = 0
        self.p = p
        self.memcg = memcg
        self.findings: list[Finding] = []
        self.pids = 200
        self.maps = 0
        first = {"seq": 0, "p": p, "kind": "begin", "workload": "w", "properties": [p], "args": {}, "page_size": 4096}
        self.oracle = Oracle(hello or HELLO, first | (begin or {}), semantics)
        self.predictor = Predictor(self.oracle.model)
        self.spawn("Z")
        self.map("Z", "z", 4)
        self.fill("Z", "z", 0, 4, 1 << 40)

    @property
    def model(self) -> Model:
        return self.oracle.model

    @property
    def signatures(self) -> list[str]:
        return [f.signature for f in self.findings]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """pages_shared, pages_sharing, pages_unshared, pages_volatile."""
        ksmd = self.model.ksmd
        return ksmd.tree.pages_shared, ksmd.tree.pages_sharing, ksmd.pages_unshared, ksmd.pages_volatile

    def step(self, record: Record) -> list[Finding]:
        self.seq += 1
        found = self.oracle.step({"seq": self.seq, "t": self.seq, "p": self.p, **record})
        self.findings += found
        assert check_invariants(self.model) == []
        return found

    def op(self, op: str, results: Record | None = None, **arguments: Any) -> list[Finding]:
        self.step({"kind": "op", "op": op, **arguments})
        return self.step({"kind": "ret", "of": self.seq, "op": op, "rc": 0, "errno": "", **(results or {})})

    def spawn(self, actor: str) -> None:
        self.pids += 1
        self.op("spawn", {"pid": self.pids}, actor=actor, memcg=self.memcg)

    def map(self, actor: str, area: str = "a", npages: int = N) -> None:
        number = len(self.model.actors[actor].areas)
        self.op("map", actor=actor, area=area, addr=f"{0x1000000000 + number * 0x4000000:x}", bytes=npages * 4096)

    def on(
        self, op: str, actor: str, area: str = "a", first: int = 0, count: int = N, results: Record | None = None, **more: Any
    ) -> list[Finding]:
        return self.op(op, results, actor=actor, area=area, first=first, count=count, **more)

    def fill(
        self, actor: str, area: str = "a", first: int = 0, count: int = N, tag: int = 1, step: int = 1, op: str = "fill"
    ) -> None:
        self.on(op, actor, area, first, count, tag=tag, step=step)

    def filled(self, *actors: str, npages: int = N, tag: int = 1, step: int = 1, mergeable: bool = True) -> None:
        """Processes with an area ``a`` of the same contents."""
        for actor in actors:
            self.spawn(actor)
            self.map(actor, "a", npages)
            self.fill(actor, "a", 0, npages, tag, step)
            if mergeable:
                self.on("mergeable", actor, count=npages)

    def fork(self, parent: str, child: str) -> None:
        self.pids += 1
        self.op("fork", {"pid": self.pids}, actor=parent, child=child)

    def exit(self, *actors: str) -> None:
        for actor in actors:
            self.op("exit", actor=actor)

    def scan(self, scans: int = 1) -> None:
        now = self.model.ksmd.full_scans
        self.op("scan", {"from": now, "to": now + scans, "pokes": scans}, scans=scans)

    def run(self, value: int) -> None:
        self.op("run", value=str(value))

    def merged(self, *actors: str, npages: int = N) -> None:
        """P1 and P2, or others, with all their pages merged."""
        self.filled(*(actors or ("P1", "P2")), npages=npages)
        self.scan(2)

    def verify(self, actor: str, area: str = "a", first: int = 0, count: int = N, contents: Any = None) -> list[Finding]:
        """Read and compare; what the process must see, unless ``contents`` says otherwise."""
        if contents is None:
            mm = self.model.actors[actor]
            start = mm.areas[area].start + first
            contents = [[1, tag, 0] for tag in self.model.contents(mm, start, start + count)]
        return self.op("verify", {"contents": contents}, actor=actor, area=area, first=first, count=count)

    def predicted_attempts(self) -> list[Record]:
        """One attempt, and what it leaves on a correct kernel."""
        gone = {pte for ptes in self.model.plan_reclaim(self.memcg).values() for pte in ptes}
        states: Record = {}
        for name, mm in self.model.actors.items():
            for area, where in mm.areas.items():
                ptes = [mm.ptes.get(a) for a in range(where.start, where.start + where.npages)]
                letters = ["N" if p is None else "S" if p in gone or p.entry is not None else "P" for p in ptes]
                states.setdefault(name, {})[area] = [[1, letter] for letter in letters]
        return [attempt(states)]

    def reclaim(self, attempts: Any = None, keep: Any = (), control: str = "gone", lingering: int = 0) -> list[Finding]:
        results = {
            "attempts": self.predicted_attempts() if attempts is None else attempts,
            "control": control, "lingering": lingering, "why": "done",
        }  # fmt: skip
        return self.op("reclaim", results, memcg=self.memcg, keep=list(keep))

    def observe(self, tamper: Tamper | None = None, *, slab: bool = False) -> list[Finding]:
        record = self.predictor.obs(slab=slab)
        if tamper:
            tamper(record)
        return self.step(record)

    def states(self, actor: str, area: str = "a") -> str:
        """The model's states of an area: ``K`` KSM page, ``P`` plain page, ``S`` swapped, ``0`` zeros, ``.`` none."""
        mm = self.model.actors[actor]
        where = mm.areas[area]
        letters = []
        for addr in range(where.start, where.start + where.npages):
            pte = mm.ptes.get(addr)
            if pte is None:
                letters.append(".")
            elif pte.page is not None:
                letters.append("K" if pte.page.ksm else "P")
            else:
                letters.append("0" if pte.zero else "S")
        return "".join(letters)


@functools.cache
def recorded(target: str) -> tuple[Record, list[list[Record]]]:
    """The hello record and the segments that an unmodified 6.1.192 wrote on this target, less what no oracle reads.

    Not to be changed in place.
    """
    path = Path(__file__).parent / "data" / f"oracle-6.1-{target}.jsonl.gz"
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    segments: list[list[Record]] = []
    for record in records[1:]:
        if record["kind"] == "begin":
            segments.append([])
        segments[-1].append(record)
    return records[0], segments


def replayed(hello: Record, segment: list[Record]) -> Iterator[Finding]:
    """All findings of a segment."""
    oracle = Oracle(hello, segment[0])
    for record in segment[1:]:
        yield from oracle.step(record)


def cow(story: Story) -> int:
    """Copies of KSM pages that writes have made, by the model."""
    return story.model.memory.cow_ksm

# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals as a guest would write them, and a run's directory with some: for tests of verdicts and reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.guest.record import BootRecord, CellRecord, Outcome, Stop, WorkloadRecord
from harness.journal.reader import seal

KSM_FLAGS = f"{1 << 21 | 1 << 12 | 1 << 11 | 1 << 5:x}"
PLAIN_FLAGS = f"{1 << 12 | 1 << 11 | 1 << 5:x}"
CACHED_FLAGS = f"{1 << 21 | 1 << 13 | 1 << 12 | 1 << 11:x}"
LOCKED_FLAGS = f"{1 << 33 | 1 << 18 | 1 << 21 | 1 << 12 | 1 << 11:x}"

Runs = list[list[Any]]
ACTORS = ("Z", "P1", "P2", "C")  # have the process ids from 100 on


class Journal:
    """Writes records with both chains of numbers and checksums."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.now = 900
        self._chains = {"boot": (0, 0), "load": (0, 0)}
        self._kinds: list[str] = []
        self._op = (0, "")

    def _write(self, chain: str, kind: str, p: str, fields: Mapping[str, Any]) -> int:
        seq, crc = self._chains[chain]
        self.now += 7
        head: dict[str, Any] = {"seq": seq, "t": self.now, "p": p, "kind": kind}
        if chain == "boot":
            head = {"seq": seq, "boot": True, "t": self.now, "p": p, "kind": kind}
        raw, crc = seal(head | dict(fields), crc)
        self.lines.append(raw)
        self._chains[chain] = (seq + 1, crc)
        return seq

    def hello(self, **fields: Any) -> None:
        self._write(
            "boot",
            "hello",
            "",
            {
                "v": 1,
                "release": "6.1.192-ksm",
                "machine": "x86_64",
                "page_size": 4096,
                "endian": "little",
                "cpus": 1,
                "mem_kb": 480000,
                "swap_kb": 131068,
                "workloads": ["new_fork"],
                "ksm_files": sorted(ksm(0, 0)),
                "vmstat_keys": ["ksm_swpin_copy", "cow_ksm"],
                "proc_files": ["ksm_merging_pages", "ksm_stat"],
                "loops": 5000,
                "cmdline": "quiet",
                "taint": 0,
            }
            | fields,
        )

    def reset(self, next_: str, ok: Any = True, **fields: Any) -> None:
        self._write(
            "boot",
            "reset",
            "",
            {
                "next": next_,
                "ok": ok,
                "ksm": ksm(0, 0),
                "memcg_procs": 0,
                "swap_used_kb": 0,
                "anon_vma": 40,
                "taint": 0,
                "why": "",
            }
            | fields,
        )

    def boot(self, kind: str, **fields: Any) -> None:
        self._write("boot", kind, "", fields)

    def begin(self, workload: str, properties: Sequence[str], **args: str) -> None:
        self._chains["load"], self._kinds = (0, 0), []
        self.load("begin", "", workload=workload, properties=list(properties), args=args, page_size=4096)

    def load(self, kind: str, p: str = "P1", **fields: Any) -> int:
        self._kinds.append(kind)
        return self._write("load", kind, p, fields)

    def op(self, op: str, p: str = "P1", **fields: Any) -> None:
        self._op = (self.load("op", p, op=op, **fields), op)

    def ret(self, p: str = "P1", **fields: Any) -> None:
        of, op = self._op
        self.load("ret", p, of=of, op=op, rc=0, errno="", **fields)

    def do(self, op: str, p: str = "P1", result: Mapping[str, Any] | None = None, **fields: Any) -> None:
        self.op(op, p, **fields)
        self.ret(p, **(result or {}))

    def obs(
        self, label: str, procs: Mapping[str, Mapping[str, Runs]], shared: int, sharing: int, p: str = "P1", **more: Any
    ) -> int:
        return self.load("obs", p, **observation(label, procs, shared, sharing), **more)

    def end(self, **wrong: int) -> None:
        kinds = self._kinds
        counts = {"ops": kinds.count("op"), "obs": kinds.count("obs"), "records": len(kinds) + 1} | wrong
        self.load("end", "", **counts)

    @property
    def data(self) -> bytes:
        return b"".join(self.lines)


def ksm(shared: int, sharing: int, unshared: int = 0, volatile: int = 0, scans: int = 2) -> dict[str, str]:
    return {
        "pages_shared": str(shared),
        "pages_sharing": str(sharing),
        "pages_unshared": str(unshared),
        "pages_volatile": str(volatile),
        "full_scans": str(scans),
        "run": "1",
        "max_page_sharing": "256",
        "sleep_millisecs": "1000000",
        "pages_to_scan": "100000",
        "merge_across_nodes": "1",
        "stable_node_chains": "0",
        "stable_node_dups": "0",
        "stable_node_chains_prune_millisecs": "2000",
        "use_zero_pages": "0",
    }


def _count(areas: Mapping[str, Runs], state: str) -> int:
    return sum(run[0] for runs in areas.values() for run in runs if run[1] == state)


def observation(label: str, procs: Mapping[str, Mapping[str, Runs]], shared: int, sharing: int) -> dict[str, Any]:
    gone = sum(_count(areas, "S") for areas in procs.values())
    return {
        "label": label,
        "stable": True,
        "reads": 2,
        "ksm": ksm(shared, sharing, scans=2 if shared else 0),
        "vmstat": {"ksm_swpin_copy": "0", "cow_ksm": "0"},
        "meminfo": {"SwapFree": str(131068 - 4 * gone // max(1, len(procs) - 1)), "AnonPages": "5400"},
        "procs": {
            actor: {
                "pid": 100 + ACTORS.index(actor) if actor in ACTORS else 200 + i,
                "areas": dict(areas),
                "merging": shared if actor != "Z" else 0,  # 6.1 hands it down at fork
                "stat": {},
                "status": {"RssAnon": 40 + 4 * _count(areas, "P"), "VmSwap": 4 * _count(areas, "S"), "VmLck": 0},
            }
            for i, (actor, areas) in enumerate(procs.items())
        },
    }


def shared_pages(pages: int, mapcount: int, flags: str = KSM_FLAGS, pfn: int = 0x12000) -> Runs:
    return [[pages, "P", pfn, 1, flags, mapcount]]


def swapped(pages: int, offset: int = 0x40) -> Runs:
    return [[pages, "S", offset, 1]]


def new_fork(
    journal: Journal,
    name: str = "new_fork",
    properties: Sequence[str] = ("P1",),
    children: Sequence[str] = ("C",),
    stuck: Sequence[str] = (),
    why: str = "",
    pages: int = 256,
    until: str = "end",
) -> int:
    """P1 and P2 merge, P1 forks, reclaim; actors in ``stuck`` stay mapped.  Gives the number of the last observation."""
    p = properties[0]
    journal.begin(name, properties)
    control: Runs = [[pages, "P", 0x31000, 1, PLAIN_FLAGS, 1]]
    journal.do("spawn", "", actor="Z", memcg="t", result={"pid": 100})
    journal.do("map", "", actor="Z", area="z", addr="0x20000000", bytes=pages * 4096)
    journal.do("fill", "", actor="Z", area="z", first=0, count=pages, tag=900001, step=1)
    for i, actor in enumerate(("P1", "P2")):
        journal.do("spawn", p, actor=actor, memcg="t", result={"pid": 101 + i})
        journal.do("map", p, actor=actor, area="a", addr="0x10000000", bytes=pages * 4096)
        journal.do("fill", p, actor=actor, area="a", first=0, count=pages, tag=1000, step=1)
        journal.do("mergeable", p, actor=actor, area="a", first=0, count=pages)
    private = {"P1": 0x21000, "P2": 0x12000}
    before = {a: {"a": [[pages, "P", f, 1, PLAIN_FLAGS, 1]]} for a, f in private.items()}
    journal.obs("filled", before | {"Z": {"z": control}}, 0, 0, p)
    journal.do("scan", p, scans=2, result={"from": 0, "to": 2, "pokes": 2})
    merged = {a: {"a": shared_pages(pages, 2)} for a in ("P1", "P2")}
    journal.obs("merged", merged | {"Z": {"z": control}}, pages, pages, p)
    for i, child in enumerate(children):
        journal.do("fork", p, actor="P1", child=child, result={"pid": 103 + i})
    everyone = ("P1", "P2", *children)
    mapped = {a: {"a": shared_pages(pages, len(everyone))} for a in everyone}
    journal.obs("forked", mapped | {"Z": {"z": control}}, pages, pages, p)
    journal.op("reclaim", p, memcg="t", keep=[])
    if until == "reclaim":
        return 0
    left = {a: {"a": shared_pages(pages, len(stuck), CACHED_FLAGS) if a in stuck else swapped(pages)} for a in everyone}
    states = {a: {"a": [[pages, "P" if a in stuck else "S"]]} for a in everyone} | {"Z": {"z": [[pages, "S"]]}}
    attempts = [{"rc": 0, "errno": "", "ms": 12, "states": states}]
    journal.ret(p, attempts=attempts, control="gone", lingering=0, why=why or ("done" if not stuck else "quiet"))
    last = journal.obs("after reclaim", left | {"Z": {"z": swapped(pages, 0x900)}}, pages, pages, p)
    if until == "end":
        journal.end()
    return last


def write_cell(
    directory: Path,
    boots: Sequence[Journal | None],
    outcomes: Sequence[tuple[str, Outcome, int, str]],
    consoles: Sequence[str] = (),
    **told: Any,
) -> CellRecord:
    """A cell's directory: the journals of its boots, consoles, cell.json.  An outcome is (workload, word, boot, reason)."""
    directory.mkdir(parents=True, exist_ok=True)
    record = CellRecord(
        target="x86_64", accel="tcg", accel_reason="asked for", qemu="QEMU emulator version 7.2.22", finished=True
    )
    for number, journal in enumerate(boots, start=1):
        infix = "" if number == 1 else f".{number}"
        boot = BootRecord(number, console=f"console{infix}.log", journal=f"journal{infix}.jsonl", hello=journal is not None)
        boot.stop = Stop.POWEROFF if journal is not None else Stop.NO_TOKEN
        if journal is not None:
            (directory / boot.journal).write_bytes(journal.data)
        (directory / boot.console).write_text(consoles[number - 1] if number <= len(consoles) else "Linux version 6.1\n")
        record.boots.append(boot)
    for name, outcome, boot_number, reason in outcomes:
        record.workloads.append(WorkloadRecord(name, outcome=outcome, boot=boot_number, reason=reason))
    for key, value in told.items():
        setattr(record, key, value)
    record.write(directory)
    (directory / "qemu.cmd").write_text("qemu-system-x86_64 -machine q35 -nodefaults -m 512 -append 'quiet console=ttyS0'\n")
    return record


def records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(raw) for raw in data.splitlines()]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Results as they come out of a run with a broken kernel, and with text that a hostile guest might choose."""

from __future__ import annotations

from pathlib import Path

from harness.drawing import Box, Drawing, Link, Panel
from harness.findings import Finding, Tier
from harness.guest.record import Outcome
from harness.results import CellResult, CrashReport, RunResult, Verdict, WorkloadResult
from tests.unit.story import Journal, new_fork, write_cell

NASTY = "]]> <script>alert('&\"')</script> \0\x1b[31m\x0b\ud800\ufffe\U0001f427 [[ATTACHMENT|/etc/passwd]] \u202egnp"


def still_mapped(workload: str, prop: str, seq: int, who: str = "C") -> Finding:
    return Finding(
        prop=prop,
        kind="still-mapped",
        op="reclaim",
        tier=Tier.SAFETY,
        workload=workload,
        seq=seq,
        summary=f"child {who} still maps 256 KSM pages after reclaim: "
        "ptes that fork copied before ksmd met them were not unmapped",
        expected=f"{who}.a: 256 pages swapped",
        seen=f"{who}.a: 256 pages present, KPF_KSM set, mapcount 1",
        why="P1's rmap_items hold P1's anon_vma, and fork linked C's vma into it: rmap_walk_ksm must find it",
        actors=(who,),
        pages=f"{who}.a[0..255]",
    )


BUG = CrashReport(
    "bug", "kernel BUG at mm/rmap.c:411!", "kernel BUG at mm/rmap.c:411!\nCall Trace:\n unlink_anon_vmas+0x1d0\n", 188, True
)

FACTS = {
    "release": "6.1.192",
    "tree": "debian:6.1=6.1.192-2",
    "patches": "01-no-second-pass.patch",
    "config": "base x86_64",
    "compiler": "gcc 12.2.0",
    "qemu": "QEMU emulator version 7.2.22",
    "accel": "tcg",
    "accel_reason": "no /dev/kvm",
    "page_size": "4096",
}


def cell(name: str, directory: Path | None = None) -> CellResult:
    """One cell with every verdict that a booted guest can have; its files under ``directory``, if given."""
    journal = Journal()
    journal.hello()
    seq = new_fork(journal, stuck=("C",))
    new_fork(journal, "many_forks", ("P2", "P3"), children=("C", "D"))
    new_fork(journal, "unmerge", ("P18",))
    results = (
        WorkloadResult(
            "new_fork",
            ("P1",),
            Verdict.FAIL,
            "child C still maps 256 KSM pages",
            (still_mapped("new_fork", "P1", seq),),
            seconds=0.4,
        ),
        WorkloadResult("many_forks", ("P2", "P3"), Verdict.PASS, seconds=0.3),
        WorkloadResult("anon_vma_kept", ("P5", "P6"), Verdict.CRASH, BUG.title, (), (BUG,), "churn (seq 61)", "P5", 0.2, 2),
        WorkloadResult("stuck", ("P7",), Verdict.HANG, "C did not answer, state D"),
        WorkloadResult("unmerge", ("P18",), Verdict.FAIL, "x", (still_mapped("unmerge", "P1", seq),)),
        WorkloadResult("old", ("P17",), Verdict.SKIP, "no cow_ksm in /proc/vmstat"),
        WorkloadResult("cut", ("P8",), Verdict.LOST, "line 7: checksum", (still_mapped("cut", "P8", 3),)),
        WorkloadResult("never", (), Verdict.INFRA, "QEMU was killed by SIGKILL"),
    )
    if directory is not None:
        outcomes = [(w.workload, Outcome.ENDED, 1, "") for w in results]
        write_cell(directory / "cells" / name, [journal], outcomes)
    timings = {"source": 0.4, "kernel": 8.25, "guest": 4.5, "judge": 0.25}
    return CellResult(name, name, results, dict(FACTS), ("PAGE_TABLE_CHECK is not known to this tree",), timings)


def sample(directory: Path | None = None, cells: tuple[str, ...] = ("x86_64", "ppc64")) -> RunResult:
    return RunResult(
        tuple(cell(name, directory) for name in cells),
        "debian:6.1",
        ("ksm-harness", "run", "--kernel", "debian:6.1"),
        "2026-11-23T13:20:01Z",
        "2026-11-23T13:20:38Z",
        "0.1.0",
    )


def hostile(directory: Path | None = None) -> RunResult:
    """Every text that may come from a guest, a kernel or a user is nasty."""
    n = NASTY
    finding = Finding(n, n, n, Tier.SAFETY, n, 3, n, n, n, n, (n,), n)
    crash = CrashReport(n, n, n * 3000, 1, True)
    seen = Panel(n, (Box(1, n, n, 2, True), Box(2, n, n)), (Link(0, 1, True),), 1)
    drawing = Drawing(3, seen, seen)
    workloads = (
        WorkloadResult(n, (n, "P1"), Verdict.FAIL, n, (finding, finding), (crash,), drawings=(drawing,)),
        WorkloadResult("../" + n, (n,), Verdict.CRASH, n, (), (crash,), n, n),
        WorkloadResult("lost", (n,), Verdict.LOST, n, (finding,)),
        WorkloadResult("skip", (n,), Verdict.SKIP, n),
        WorkloadResult("empty", ("P2",), Verdict.INFRA, ""),
    )
    if directory is not None:
        journal = Journal()
        journal.hello(release=n)
        new_fork(journal, n, (n,), children=(n,))
        write_cell(directory / "cells" / "x86_64", [journal], [])
        (directory / "cells" / "x86_64" / "qemu.cmd").write_bytes(b"\xff\x00<script>")
    return RunResult((CellResult("x86_64", n, workloads, {n: n, "release": n}, (n,), {n: 1.0}),), n, (n,), "", "", n)

# SPDX-License-Identifier: GPL-2.0-or-later
"""``make bench``: what the harness costs beside what QEMU and make cost.

Figures that are compared are taken in one run, in turn, and given as medians and ratios: machines drift.  Nothing here is a
test and nothing fails for being slow.  ``--write`` replaces docs/performance.md; ``--edit`` and ``--from-nothing`` add the
long ones.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import targets
from harness.guest import Accel, CellPlan
from harness.guest.command import Wires
from harness.guest.command import command as qemu_command
from harness.guest.process import qemu_version
from harness.image import make_image, workload_table
from harness.report import load_run
from harness.store import Store
from harness.targets import Target

ROOT = Path(__file__).parents[1]
ALL = "x86_64,aarch64,ppc64,ppc64le"


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: str
    goal: str
    how: str


def command(out: Path, *words: str) -> list[str]:
    """A run of the harness."""
    return [sys.executable, "-m", "harness", "run", "--out", str(out), *words]


def timed(action: Callable[[], object]) -> float:
    """Wall seconds."""
    start = time.monotonic()
    action()
    return time.monotonic() - start


def must_be_good(out: Path, *words: str, store: Path | None = None) -> float:
    """Seconds of a run that must end as judged good."""
    env = {**os.environ, **({"KSM_HARNESS_STORE": str(store)} if store else {})}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # set in some containers; a user's second run has its byte code
    start = time.monotonic()
    ended = subprocess.run(command(out, *words), capture_output=True, text=True, check=False, env=env)
    if ended.returncode:
        sys.exit(f"{' '.join(words)} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return time.monotonic() - start


def bare_qemu(target: Target, kernel: Path, initramfs: Path, workloads: list[str]) -> float:
    """The same guest without the harness: feed it the workloads' names, throw its journal away."""
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryDirectory() as scratch:
        swap = Path(scratch, "swap.img")
        with swap.open("wb") as f:
            f.truncate(CellPlan.swap_mib << 20)
        wires = Wires(journal=f"socket,fd={theirs.fileno()}", console="null,mux=on", qmp="", swap=str(swap))
        accel = Accel("tcg", target.cpu_tcg, "")
        argv = qemu_command(target, accel, kernel, initramfs, wires, memory=target.memory)
        start = time.monotonic()
        with subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL) as qemu:
            theirs.close()
            feed(ours, workloads)
            qemu.wait()
        return time.monotonic() - start


def feed(journal: socket.socket, workloads: list[str]) -> None:
    """Send the next command each time one is done, to the end."""
    lines = [f"run {name}\n".encode() for name in workloads] + [b"poweroff\n"]
    pending, at = lines, b""
    while data := journal.recv(1 << 16):
        at = at[-64:] + data
        for _ in range(data.count(b'"kind":"done"') + data.count(b'"kind":"hello"')):
            if pending:
                journal.send(pending[0])
                pending = pending[1:]


def figures_cached(out: Path, runs: int) -> Iterator[Figure]:
    """(a), (b) and (e)."""
    workloads = [name for name, workload in workload_table().items() if not workload.on_request]
    must_be_good(out, "--target", ALL)
    target = targets.table()["x86_64"]
    kernel = Path(load_run(out).cells[0].facts["kernel"])
    initramfs = make_image(target, Store()).path
    pairs = []
    for _ in range(runs):
        ours = must_be_good(out, "--target", "x86_64", "--accel", "tcg")
        pairs.append((ours, bare_qemu(target, kernel, initramfs, workloads)))
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    yield Figure(
        "(a) one cell, cached, against bare QEMU",
        f"{ours:.2f} s / {bare:.2f} s = {ours / bare:.2f}, over by {ours - 1.25 * bare:+.2f} s beyond 1.25 ×",
        "≤ 1.25 × + 0.3 s",
        f"median of {runs} pairs, x86_64, {len(workloads)} workloads",
    )
    for jobs in (1, 2):
        seconds = statistics.median(must_be_good(out, "--target", ALL, "--jobs", str(jobs)) for _ in range(runs))
        cells = load_run(out).cells
        rate = sum(len(c.workloads) for c in cells) / seconds
        goal = "≤ 20 s" if jobs == 2 else ""
        label = "(b, e)" if jobs == 2 else "(e)"
        value = f"{seconds:.1f} s, {rate:.1f} workloads/s"
        yield Figure(f"{label} four targets, all workloads, cached, --jobs {jobs}", value, goal, f"median of {runs}")


@contextlib.contextmanager
def edited_tree(store: Store) -> Iterator[Path]:
    """A tree like a developer's own: a copy of the newest Debian 6.1 source in the store."""
    sources = sorted((store.root / "src").glob("debian-6.1-*/linux"))
    with store.scratch() as scratch:
        tree = scratch / "linux"
        subprocess.run(["cp", "-a", "--", str(sources[-1]), str(tree)], check=True)
        yield tree


def edit(tree: Path, number: int) -> None:
    """One line of mm/ksm.c."""
    path = tree / "mm/ksm.c"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(ksm_thread_pages_to_scan = )\d+", rf"\g<1>{number}", text), encoding="utf-8")


def figures_edit(out: Path, asked: list[str]) -> Iterator[Figure]:
    """(c), for each list of targets, in one tree."""
    with edited_tree(Store()) as tree:
        # A content that nobody has built, or the store would have the kernel and this tree no objects.
        edit(tree, time.time_ns() % 1_000_000)
        union = ",".join(dict.fromkeys(name for names in asked for name in names.split(",")))
        must_be_good(out, "--target", union, "--kernel", f"tree:{tree}")
        for names in asked:
            edit(tree, time.time_ns() % 1_000_000)
            seconds = must_be_good(out, "--target", names, "--kernel", f"tree:{tree}")
            kernels = sum(c.timings.get("kernel", 0.0) for c in load_run(out).cells)
            count = len(names.split(","))
            goal = "≤ 15 s" if count == 1 else "≤ 60 s"
            name = f"(c) edit a line of mm/ksm.c → verdict, {count} target(s)"
            yield Figure(name, f"{seconds:.1f} s (kernels {kernels:.1f} s)", goal, "once, a tree of one's own, built before")


def figures_from_nothing(out: Path, names: str) -> Iterator[Figure]:
    """(d)"""
    with tempfile.TemporaryDirectory(prefix="ksm-bench-") as store:
        seconds = must_be_good(out, "--target", names, store=Path(store))
    count = len(names.split(","))
    goal = "≤ 6 min" if count == 1 else "≤ 28 min"
    yield Figure(
        f"(d) from nothing, download included, {count} target(s)", f"{seconds / 60:.1f} min", goal, "once, empty store and ccache"
    )


def page(figures: list[Figure]) -> str:
    """docs/performance.md."""
    gcc = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout.partition("\n")[0]
    qemu = qemu_version(targets.table()["x86_64"].qemu)
    head = f"""# Performance

Written by `make bench BENCH_ARGS="{" ".join(sys.argv[1:])}"` on {datetime.date.today()}: {os.cpu_count()} cores,
{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}, {qemu}, {gcc}.
Medians; where two things are compared they ran in turn. Absolute times belong to this machine.

| what | measured | goal | how |
|---|---|---|---|
"""
    return head + "".join(f"| {f.name} | {f.value} | {f.goal} | {f.how} |\n" for f in figures)


def main() -> None:
    """Measure and print; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--edit", metavar="T[,T…]", action="append", default=[])
    parser.add_argument("--from-nothing", metavar="T[,T…]", action="append", default=[])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ksm-bench-") as scratch:
        out = Path(scratch, "out")
        figures = []
        for figure in figures_cached(out, options.runs):
            print(figure, flush=True)
            figures.append(figure)
        if options.edit:
            figures += figures_edit(out, options.edit)
        for names in options.from_nothing:
            figures += figures_from_nothing(out, names)
    text = page(figures)
    print(text)
    if options.write:
        (ROOT / "docs" / "performance.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The line from left to right: source, kernel, image, guest, verdict, report, for each target.

Kernels are built one after another, as each build takes all cores; guests run beside that, ``jobs`` at a time.  Whatever
dies, the cells that have ended stand in run.json.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness import __version__, outdir, witness
from harness.declared import Declared
from harness.errors import BuildError, CannotJudge, HostError, UsageError
from harness.expectation import Expectation
from harness.findings import Finding, Tier
from harness.guest import CellPlan, Halt, Limits, Load, Waiting, run_cell
from harness.hold import Hold
from harness.image import Image, WorkloadInfo, make_image
from harness.interruption import interrupt
from harness.kernel import USUAL, Kernel, MakeError, Reading, Wanted, build, fragments, patches, read_source
from harness.oracle import calibration
from harness.oracle.semantics import UNSHOWN
from harness.report import matches, write_reports, write_run
from harness.results import CellResult, RunResult, Verdict, WorkloadResult
from harness.source import Source, Spec, check_spec, distro, parse_spec, resolve
from harness.store import Store, write_atomically
from harness.targets import Target
from harness.verdict import Knowledge, Live, judge_cell, knowledge

log = logging.getLogger("harness.pipeline")


@dataclass(frozen=True)
class RunPlan:
    """All that a run is asked for.  ``out`` is made if need be."""

    kernel: str
    targets: tuple[Target, ...]
    workloads: tuple[WorkloadInfo, ...]
    out: Path
    args: tuple[tuple[str, str], ...] = ()  # for every workload, KEY=VALUE
    patches: tuple[Path, ...] = ()
    fragments: tuple[Path, ...] = ()
    tools: Wanted = USUAL  # the compiler, and more of make's variables
    extra: tuple[Path, ...] = ()  # workload sources of the user's
    jobs: int = 2
    accel: str = "auto"
    require_kvm: bool = False
    append: str = ""  # more kernel parameters
    smp: int = 0  # CPUs of a guest, 0: the target's own
    memory: int = 0  # of a guest in MiB, 0: the target's own
    memory_factor: float = 1.0  # of the target's own
    patience: float = 1.0  # factor on all deadlines for guests
    fail_fast: bool = False  # a cell ends at its first finding that is more than a heuristic one, or crash, or hang
    witness: bool = False  # look at the kernel's own structures at each observation and after each operation
    hold: bool = False  # a guest stays paused at its first finding until the user says so
    only: str = ""  # the one signature, or pattern of it, that counts; empty: any
    require: tuple[str, ...] = ()  # properties that must be judged in every cell
    expect: Expectation | None = None  # what passes and what is skipped, by cell
    declared: tuple[Declared, ...] = ()  # what the kernel does otherwise on purpose
    command: tuple[str, ...] = ()


class Teller(Protocol):
    """Who is told how the cells get on: harness.report.Progress, or what stands in its place."""

    def cell(self, cell: str, stage: str, detail: str = "", fraction: float | None = None) -> None:
        """What a cell is doing."""

    def done(self, cell: str, text: str) -> None:
        """A cell's last word."""

    def say(self, text: str) -> None:
        """A line that is not of one cell."""


def now() -> str:
    """The time as reports have it: ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check(plan: RunPlan) -> None:
    """UsageError for what can be seen to be wrong before ``out`` is touched."""
    spec = parse_spec(plan.kernel)
    check_spec(spec)
    if spec.kind == "tree":
        outdir.refuse_inside(plan.out, Path(spec.value))
    for target in plan.targets if spec.kind == "distro" else ():
        distro.flavour_of(spec, target.machine_arch)
    patches.load(plan.patches)
    for target in plan.targets:
        fragments.options_for(target, (*map(fragments.find, target.fragments), *plan.fragments))
    _check_demands(plan)
    outdir.refuse_foreign(plan.out)
    if plan.witness:
        witness.check()


def _check_demands(plan: RunPlan) -> None:
    shown = {p for workload in plan.workloads for p in workload.properties}
    for prop in plan.require:
        if prop not in shown:
            raise UsageError(f"--require {prop}: no workload that is to run shows it; they show {_in_order(shown)}")
    for target in plan.targets if plan.expect is not None else ():
        if target.name not in (plan.expect or {}):
            known = ", ".join(plan.expect or {}) or "none"
            raise UsageError(f"--expect: nothing is recorded of the cell {target.name}; there is {known}")


def _in_order(properties: Iterable[str]) -> str:
    """P2 before P10."""
    return " ".join(sorted(properties, key=lambda p: (len(p), p)))


@dataclass
class _Cell:
    """A target on its way through the stages."""

    plan: RunPlan
    target: Target
    directory: Path
    facts: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)

    def without_guest(self, verdict: Verdict, reason: str) -> CellResult:
        """The result of a cell that never came to a guest: all its workloads for one reason."""
        lost = (WorkloadResult(w.name, w.properties, verdict, reason, complete=False) for w in self.plan.workloads)
        return CellResult(self.target.name, self.target.name, tuple(lost), self.facts, self.warnings, self.timings)


class Pipeline:
    """One run.  ``result`` grows as cells end.  ``source``: the kernel's, if it is resolved already."""

    def __init__(self, plan: RunPlan, store: Store, progress: Teller, source: Source | None = None) -> None:
        self.plan = plan
        self.source = source
        self.store = store
        self.progress = progress
        what = " + ".join([plan.kernel, *(path.name for path in plan.patches)])
        self.result = RunResult(
            (), what, plan.command, now(), "", __version__, plan.only, plan.require, plan.expect, plan.declared
        )
        self._cells: dict[str, CellResult] = {}
        self._building = asyncio.Lock()
        self._running = asyncio.Semaphore(plan.jobs)
        self._hold = Hold(progress.say)
        self._reading: Reading | None = None

    async def run(self) -> RunResult:
        """All targets; gives the finished result, with all reports written.  The plan has passed ``check``.

        Raises only for bad input that shows late, and HostError when ``out`` cannot be written.
        """
        self.store.collect()
        spec = parse_spec(self.plan.kernel)
        outdir.begin(self.plan.out, self.result)
        try:
            source, seconds = await self._source(spec)
            async with asyncio.TaskGroup() as group:
                for target in self.plan.targets:
                    group.create_task(self._cell(target, source, seconds))
        except BaseException:
            interrupt()  # a download or a build goes on in a thread of its own, which would be waited for
            raise
        self.result = dataclasses.replace(self.result, finished=now())
        write_reports(self.plan.out, self.result)
        return self.result

    async def _source(self, spec: Spec) -> tuple[Source | CannotJudge, float]:
        """The source, or why there is none, and the seconds that took."""
        started = time.monotonic()
        try:
            source: Source | CannotJudge
            source = self.source if self.source is not None else await asyncio.to_thread(resolve, spec, self.store)
        except CannotJudge as e:
            source = e
        return source, time.monotonic() - started

    async def _cell(self, target: Target, source: Source | CannotJudge, seconds: float) -> None:
        directory = self.plan.out / outdir.CELLS / target.name
        cell = _Cell(self.plan, target, directory, timings={"source": round(seconds, 3)})
        try:
            result = await self._judged(cell, source)
        except OSError as e:  # a full disk, say: this cell is lost, the others are not
            log.warning("%s: %s", target.name, e)
            result = cell.without_guest(Verdict.INFRA, f"{e.strerror or e} ({e.filename or directory})")
        self._cells[target.name] = result
        order = [t.name for t in self.plan.targets]
        cells = tuple(self._cells[name] for name in order if name in self._cells)
        self.result = dataclasses.replace(self.result, cells=cells)
        try:
            write_run(self.plan.out, self.result)
        except HostError as e:  # written again when the next cell ends; at the end of the run it is an error
            log.warning("%s", e)
        self.progress.done(target.name, _last_word(result))

    async def _judged(self, cell: _Cell, source: Source | CannotJudge) -> CellResult:
        """The cell's result, whatever the kernel and the guest are like.  OSError is of the host's own files."""
        cell.directory.mkdir(parents=True)
        try:
            if isinstance(source, CannotJudge):
                raise source
            return await self._stages(cell, source)
        except CannotJudge as e:
            if isinstance(e, MakeError) and e.log.exists():
                shutil.copyfile(e.log, cell.directory / "build.log")
            return cell.without_guest(Verdict.BUILD if isinstance(e, BuildError) else Verdict.INFRA, str(e))

    async def _stages(self, cell: _Cell, source: Source) -> CellResult:
        kernel, image = await self._build(cell, source)
        write_atomically(cell.directory / "config", kernel.config.read_bytes() if kernel.config else b"")
        sync = {"sync": "2"} if self.plan.witness or self.plan.hold else {}
        plan = CellPlan(
            target=cell.target,
            kernel=kernel.image,
            initramfs=image.path,
            directory=cell.directory,
            workloads=tuple(Load(name, dict(self.plan.args) | sync) for name in self._names(source)),
            store=self.store,
            accel=self.plan.accel,
            require_kvm=self.plan.require_kvm,
            append=self.plan.append,
            smp=self.plan.smp,
            memory=self.plan.memory or even(cell.target.memory * self.plan.memory_factor),
            limits=patient(self.plan.patience),
            fail_fast=self.plan.fail_fast,
            witness=await self._witness(cell, kernel),
        )
        return await self._guest(cell, plan)

    def _names(self, source: Source) -> list[str]:
        """The workloads: first of all the one that measures what no source tells of this kernel."""
        names = [w.name for w in self.plan.workloads if w.name != calibration.WORKLOAD]
        wanted = len(names) < len(self.plan.workloads) or not set(UNSHOWN) <= self._read(source).behaviour.keys()
        return [calibration.WORKLOAD, *names] if wanted else names

    async def _witness(self, cell: _Cell, kernel: Kernel) -> witness.KernelWitness | None:
        if not self.plan.witness:
            return None
        return await asyncio.to_thread(witness.KernelWitness, kernel.vmlinux, cell.target, cell.directory)

    async def _guest(self, cell: _Cell, plan: CellPlan) -> CellResult:
        """The guest, with the oracle at work beside it; then the verdict."""
        name, halt = cell.target.name, Halt()
        first: list[str] = []  # finding
        held: list[str] = []  # finding that the guest was held for

        def found(finding: Finding) -> None:
            where = f"{finding.signature} in {finding.workload}"
            first.append(f"{where}, record {finding.seq}")
            if not finding.follows:
                self.progress.say(f"{name}: {where}: {finding.summary}")
            if self.plan.fail_fast and _ends(self.plan.only, finding):
                halt.order(f"--fail-fast: stopped at the first finding, {where}")

        known = Knowledge.of(cell.directory, self.plan.declared)
        with Live(cell.directory, found, known) as live:

            async def waits(waiting: Waiting) -> None:
                live.looked()
                if held or not (self.plan.hold or self.plan.fail_fast):
                    return
                await asyncio.to_thread(live.settle)
                if first and self.plan.hold:
                    held.append(first[0])
                    vmlinux = Path(cell.facts["vmlinux"]) if cell.facts["vmlinux"] else None
                    await self._hold.hold(first[0], waiting, cell.target, cell.directory, vmlinux)

            if self.plan.witness or self.plan.hold:
                plan = dataclasses.replace(plan, on_wait=waits)
            async with self._running:
                self.progress.cell(name, "guest")
                await run_cell(plan, live.record, lambda text: self.progress.cell(name, "guest", text), halt)
            started = time.monotonic()
            replayed = await asyncio.to_thread(live.finish)
        planned = {w.name: w.properties for w in self.plan.workloads}
        result = await asyncio.to_thread(judge_cell, cell.directory, name, name, planned, cell.facts, known, replayed)
        if plan.witness is not None:
            cell.timings["witness"] = round(plan.witness.seconds, 3)
        cell.timings["judge"] = round(time.monotonic() - started, 3)
        return dataclasses.replace(
            result, timings={**cell.timings, **result.timings}, warnings=(*cell.warnings, *result.warnings)
        )

    def _read(self, source: Source) -> Reading:
        """What the source tells, which is the same for all cells."""
        if self._reading is None:
            self._reading = read_source(source, self.plan.patches, self.store)
        return self._reading

    async def _build(self, cell: _Cell, source: Source) -> tuple[Kernel, Image]:
        name = cell.target.name
        self.progress.cell(name, "waiting")
        async with self._building:
            self.progress.cell(name, "kernel", source.label)
            cell.facts |= {"tree": source.identity, "revision": source.revision, "make_args": " ".join(self.plan.tools.make_args)}
            reading = await asyncio.to_thread(self._read, source)
            cell.facts["hold_anon_vma"] = reading.hold_anon_vma
            knowledge.keep(cell.directory, reading.behaviour)
            started = time.monotonic()
            kernel = await asyncio.to_thread(
                build,
                source,
                cell.target,
                self.store,
                patches=self.plan.patches,
                fragments=self.plan.fragments,
                tools=self.plan.tools,
                progress=lambda text, fraction: self.progress.cell(name, "kernel", text, fraction),
            )
            cell.timings["kernel"] = round(time.monotonic() - started, 3)
            cell.facts |= kernel_facts(kernel, source)
            cell.facts["configuration"] = " ".join([*cell.target.fragments, *(path.stem for path in self.plan.fragments)])
            cell.warnings = (*kernel.warnings,)
            started = time.monotonic()
            image = await asyncio.to_thread(make_image, cell.target, self.store, self.plan.extra, modules_of(kernel))
            cell.timings["image"] = round(time.monotonic() - started, 3)
            cell.facts["image"] = f"{image.key} ({image.compiler})"
        return kernel, image


def _ends(only: str, finding: Finding) -> bool:
    """Whether a finding settles what is asked, so that --fail-fast need not wait for more."""
    if only:
        return matches(only, finding.signature) and not finding.follows
    return finding.tier is not Tier.HEURISTIC


def even(mib: float) -> int:
    """A guest's memory: half of it goes to each of two nodes."""
    return round(mib / 2) * 2


def patient(factor: float) -> Limits:
    """The default deadlines, each multiplied."""
    limits = dataclasses.asdict(Limits())
    return Limits(**{name: seconds * factor for name, seconds in limits.items()})


def modules_of(kernel: Kernel) -> tuple[Path, ...]:
    """What its guest has to load first, in order."""
    return tuple(kernel.directory / "modules" / name for name in kernel.modules)


def kernel_facts(kernel: Kernel, source: Source) -> dict[str, str]:
    """What a report says of the kernel."""
    return {
        "release": kernel.release,
        "tree": kernel.identity,
        "revision": source.revision,
        "patches": ", ".join(f"{name} ({digest[:12]})" for name, digest in kernel.patches),
        "kernel": str(kernel.image),
        "kernel_key": kernel.key,
        "compiler": kernel.compiler,
        "linker": kernel.linker,
        "config": str(kernel.config or ""),
        "vmlinux": str(kernel.vmlinux or ""),
        "kernel_cached": "yes" if kernel.cached else "no",
    }


def _last_word(result: CellResult) -> str:
    counts: dict[str, int] = {}
    for workload in result.workloads:
        counts[workload.word] = counts.get(workload.word, 0) + 1
    words = ", ".join(f"{n} {word}" for word, n in counts.items())
    reason = next((w.reason for w in result.workloads if not w.verdict.judged), "")
    return f"{words}, {sum(result.timings.values()):.1f} s" + (f"; {reason}" if reason else "")


def execute(plan: RunPlan, store: Store, progress: Teller) -> RunResult:
    """Run a plan from synchronous code."""
    return asyncio.run(Pipeline(plan, store, progress).run())


__all__: Sequence[str] = ["Pipeline", "RunPlan", "Teller", "check", "execute", "kernel_facts", "now"]

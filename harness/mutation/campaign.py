# SPDX-License-Identifier: GPL-2.0-or-later
"""All mutants of a kernel through the pipeline, one incremental build and one guest each, stopped at the first finding.

Builds are done one after another, as each takes all cores; the guests of mutants that are built run beside that, ``jobs``
mutants being on their way at a time.  What is known of a mutant is on disk before the next one is begun, so a campaign may
be killed at any moment and given the same directory again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import __version__, store
from harness.errors import BuildError, CannotJudge, HostError, UsageError
from harness.image import WorkloadInfo, make_image
from harness.interruption import interrupt
from harness.kernel import Kernel, MakeError, build
from harness.mutation import fate, identity, mutationfile, samecode
from harness.mutation.argued import Argument
from harness.mutation.fate import Fate, Judgement
from harness.mutation.mutant import UNMODIFIED, Mutant, unmodified
from harness.mutation.mutationfile import Score
from harness.mutation.outcome import Outcome, keep, kept, outcome
from harness.mutation.ranking import Runner, Trial, rank
from harness.pipeline import Pipeline, RunPlan, Teller, now
from harness.results import CellResult, Verdict
from harness.source import Source, parse_spec, resolve
from harness.store import Store
from harness.targets import Target

log = logging.getLogger("harness.mutation")

MUTANTS = "mutants"

SAME = "the program is the same: what it changes is not compiled here, or the compiler makes nothing of it"


@dataclass(frozen=True)
class MutationPlan:
    """All that a campaign is asked for.  ``run`` is how each mutant is run; its patches, workloads and ``out`` are not used."""

    run: RunPlan
    mutants: tuple[Mutant, ...]
    workloads: tuple[WorkloadInfo, ...]
    out: Path
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    keep_killed: bool = False  # what other workloads or another oracle killed is not run again


@dataclass(frozen=True)
class _Ground:
    """One target's unmodified kernel: what all mutants are compared with."""

    source: Source
    target: Target
    kernel: Kernel
    image: str
    fingerprint: str
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    """What came of a mutant's guests."""

    judgement: Judgement
    ran: tuple[str, ...] = ()
    costs: tuple[tuple[str, float], ...] = ()


class _Named:
    """Tells of one mutant under its own name: several cells of one target are on their way at a time."""

    def __init__(self, progress: Teller, name: str) -> None:
        self._progress = progress
        self._name = name

    def cell(self, cell: str, stage: str, detail: str = "", fraction: float | None = None) -> None:
        self._progress.cell(self._name, stage, detail, fraction)

    def done(self, cell: str, text: str) -> None:
        """The campaign has its own last word."""

    def say(self, text: str) -> None:
        """Findings are told when the mutant is done with."""


class Campaign:
    """One ``ksm-harness mutate``.  ``score`` grows as mutants are done with."""

    def __init__(self, plan: MutationPlan, kept_in: Store, progress: Teller) -> None:
        self.plan = plan
        self.store = kept_in
        self.progress = progress
        run = plan.run
        self.score = Score(run.kernel, (), dict(plan.arguments), run.command, now(), "", __version__)
        self._building = asyncio.Lock()
        self._trials: list[Trial] = []

    async def run(self) -> Score:
        """All mutants on all targets; mutate.json is written as they end.

        CannotJudge when the unmodified kernel does not pass; what happens to a mutant raises nothing.
        """
        self.store.collect()
        source = await asyncio.to_thread(resolve, parse_spec(self.plan.run.kernel), self.store)
        self._write()
        try:
            for target in self.plan.run.targets:
                await self._target(source, target)
        finally:
            interrupt()
        self.score = dataclasses.replace(self.score, finished=now())
        self._write()
        return self.score

    async def _target(self, source: Source, target: Target) -> None:
        self._trials = []
        run = self.plan.run
        self.progress.cell(target.name, "kernel", source.label)
        kernel = await self._build(source, target, unmodified(), _Named(self.progress, target.name))
        image = await asyncio.to_thread(make_image, target, self.store, run.extra)
        source.spec.need_source("mutants need")
        assert kernel.vmlinux is not None  # what is built here has one
        print_of = await asyncio.to_thread(samecode.fingerprint, kernel.vmlinux)
        ground = _Ground(source, target, kernel, image.key, print_of)
        control = await self._one(ground, unmodified())
        if control.fate is not Fate.CLEAN:
            what = control.judgement.finding or control.judgement.reason
            raise CannotJudge(f"{target.name}: the unmodified kernel does not pass, so a kill would say nothing: {what}")
        ground = dataclasses.replace(ground, costs=dict(control.costs))
        self._trials = [t for m in self.plan.mutants if (old := self._old(ground, m)) for t in old.trials()]
        waiting = iter(self.plan.mutants)
        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, run.jobs)):
                group.create_task(self._worker(ground, waiting))

    async def _worker(self, ground: _Ground, waiting: Iterator[Mutant]) -> None:
        for mutant in waiting:
            result = await self._one(ground, mutant)
            self.score = dataclasses.replace(self.score, outcomes=(*self.score.outcomes, result))
            self._write()

    def _write(self) -> None:
        mutationfile.write(self.plan.out, self.score)

    # One mutant

    def _directory(self, target: Target, mutant: Mutant) -> Path:
        return self.plan.out / MUTANTS / target.name / mutant.name

    def _key(self, ground: _Ground, mutant: Mutant) -> str:
        run = self.plan.run
        more = [ground.target.name, run.args, run.append, run.smp, run.accel, run.patience]
        # What is known of guests of the usual size still holds.
        more += [run.memory] if run.memory else []
        more += [run.memory_factor] if run.memory_factor != 1 else []
        more += ["witness"] if run.witness else []
        more += [f"{d.field}={d.value}" for d in run.declared]
        return identity.key(mutant.digest, ground.kernel.key, ground.image, [w.name for w in self.plan.workloads], more)

    def _old(self, ground: _Ground, mutant: Mutant) -> Outcome | None:
        """What is known already and still holds."""
        old = kept(self._directory(ground.target, mutant))
        if old is None or not old.fate.final or old.digest != mutant.digest:
            return None
        if old.key == self._key(ground, mutant):
            return old
        if self.plan.keep_killed and old.fate is Fate.KILLED:
            return dataclasses.replace(old, earlier=True)
        return None

    async def _one(self, ground: _Ground, mutant: Mutant) -> Outcome:
        if old := self._old(ground, mutant):
            return old
        directory = self._directory(ground.target, mutant)
        name = f"{ground.target.name}/{mutant.name}"
        try:
            if directory.exists():
                await asyncio.to_thread(shutil.rmtree, directory)
            directory.mkdir(parents=True)
            result = await self._tried(ground, mutant, directory, _Named(self.progress, name))
            keep(directory, result)
        except OSError as e:
            raise HostError(f"cannot write {e.filename or directory}: {e.strerror}") from e
        self._trials += result.trials()
        self.progress.done(name, _last_word(result))
        return result

    async def _tried(self, ground: _Ground, mutant: Mutant, directory: Path, teller: Teller) -> Outcome:
        key = self._key(ground, mutant)
        where = str(directory.relative_to(self.plan.out))
        teller.cell("", "waiting")
        try:
            kernel = await self._build(ground.source, ground.target, mutant, teller)
        except (CannotJudge, UsageError) as e:  # a UsageError is the patch's: the rest was good for the unmodified kernel
            if isinstance(e, MakeError) and e.log.exists():
                shutil.copyfile(e.log, directory / "build.log")
            bad = Fate.NO_BUILD if isinstance(e, (BuildError, UsageError)) else Fate.UNJUDGED
            return outcome(mutant, ground.target.name, key, Judgement(bad, str(e)), directory=where)
        built = time.monotonic()
        try:
            if mutant.name != UNMODIFIED and await self._is_same(ground, kernel):
                run = _Run(Judgement(Fate.NOT_TESTABLE, SAME))
            else:
                run = await self._run(ground, mutant, directory, teller)
        finally:
            if not kernel.cached and mutant.name != UNMODIFIED:
                store.discard(self.store, kernel.directory)  # 90 MB, and a few seconds to build again
        return outcome(
            mutant, ground.target.name, key, run.judgement, directory=where, ran=run.ran, costs=run.costs,
            build_seconds=round(kernel.seconds if not kernel.cached else 0.0, 2),
            guest_seconds=round(time.monotonic() - built, 2),
        )  # fmt: skip

    async def _build(self, source: Source, target: Target, mutant: Mutant, teller: Teller) -> Kernel:
        async with self._building:
            return await asyncio.to_thread(
                build,
                source,
                target,
                self.store,
                patches=mutant.patches,
                fragments=self.plan.run.fragments,
                tools=self.plan.run.tools,
                progress=lambda text, fraction: teller.cell("", "kernel", text, fraction),
            )

    async def _is_same(self, ground: _Ground, kernel: Kernel) -> bool:
        if kernel.vmlinux is None or not ground.fingerprint:
            return False
        return await asyncio.to_thread(samecode.fingerprint, kernel.vmlinux) == ground.fingerprint

    async def _run(self, ground: _Ground, mutant: Mutant, directory: Path, teller: Teller) -> _Run:
        """The guest; a second one where the first leaves a question open."""
        runners = self._ranked(ground, mutant)
        judgement, cell, order = await self._guest(ground, mutant, runners, directory, teller, fail_fast=not mutant.benign)
        if judgement.fate is Fate.UNJUDGED:
            log.info("%s: %s: once more", mutant.name, judgement.reason)
            # If it was stopped for a finding that does not count, that would stop it again.
            stopped = any("--fail-fast" in w.reason for w in cell.workloads)
            fast = not mutant.benign and not stopped
            judgement, cell, order = await self._guest(ground, mutant, runners, directory, teller, fast)
        elif fate.misnamed(mutant, judgement):
            judgement = await self._second_look(ground, mutant, runners, directory, teller, judgement)
        costs = tuple((w.workload, w.seconds) for w in cell.workloads if w.verdict is Verdict.PASS)
        ran = order[: order.index(judgement.workload) + 1] if judgement.workload in order else order
        return _Run(judgement, ran, costs)

    async def _second_look(
        self, ground: _Ground, mutant: Mutant, runners: tuple[Runner, ...], directory: Path, teller: Teller, first: Judgement
    ) -> Judgement:
        """Only other properties than the expected ones were named, by whichever workload came first.

        Do those workloads that show the expected ones name them, too?
        """
        showing = tuple(r for r in runners if set(r.properties) & set(mutant.expected))
        if not showing:
            return first
        second, _, _ = await self._guest(ground, mutant, showing, directory / "again", teller, fail_fast=False)
        return dataclasses.replace(first, named=tuple(dict.fromkeys((*first.named, *second.named))))

    def _ranked(self, ground: _Ground, mutant: Mutant) -> tuple[Runner, ...]:
        runners = [Runner(i.name, i.properties, ground.costs.get(i.name, 1.0)) for i in self.plan.workloads]
        return rank(runners, self._trials, mutant.expected, mutant.function)

    async def _guest(
        self, ground: _Ground, mutant: Mutant, runners: tuple[Runner, ...], directory: Path, teller: Teller, fail_fast: bool
    ) -> tuple[Judgement, CellResult, tuple[str, ...]]:
        infos = {info.name: info for info in self.plan.workloads}
        order = tuple(r.name for r in runners)
        plan = dataclasses.replace(
            self.plan.run,
            targets=(ground.target,),
            workloads=tuple(infos[name] for name in order),
            out=directory,
            patches=mutant.patches,
            fail_fast=fail_fast,
            jobs=1,
        )
        result = await Pipeline(plan, self.store, teller, ground.source).run()
        cell = result.cells[0]
        return fate.judge(mutant, cell, order), cell, order


def _last_word(result: Outcome) -> str:
    told = result.judgement
    seconds = f"{result.build_seconds:.1f} s to build, {result.guest_seconds:.1f} s to judge"
    if told.workload:
        return f"{told.fate} by {told.workload}, {told.signature}, {seconds}: {told.finding}"
    return f"{told.fate}, {seconds}" + (f": {told.reason}" if told.reason else "")


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """No other campaign works in this directory.  UsageError if one does."""
    with store.exclusive(out / "mutate.lock") as free:
        if not free:
            raise UsageError(f"another campaign is at work in {out}; name another --out")
        yield


def execute(plan: MutationPlan, kept_in: Store, progress: Teller) -> Score:
    """Run a campaign from synchronous code."""
    with alone(plan.out):
        return asyncio.run(Campaign(plan, kept_in, progress).run())

# SPDX-License-Identifier: GPL-2.0-or-later
"""The shell around the rules: a cell's directory, as the guest room left it, to a CellResult."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import looks
from harness.errors import UsageError
from harness.guest.oops import extract
from harness.guest.record import NAME, BootRecord, CellRecord, Outcome, WorkloadRecord, load_cell, numbered
from harness.journal.reader import Record
from harness.results import CellResult, CrashReport, RunResult, Verdict, WorkloadResult
from harness.verdict.account import Account, Replay
from harness.verdict.judging import Evidence, judge_workload, taint_report, worst
from harness.verdict.knowledge import Knowledge
from harness.verdict.replay import MakeOracle, chunks, replay

log = logging.getLogger("harness.verdict")

CONSOLE_MAX = 32 << 20  # bytes of a console log that are searched for oopses

Planned = Mapping[str, Sequence[str]]


def judge_cell(
    directory: Path,
    cell: str,
    target: str,
    planned: Planned,
    facts: Mapping[str, str] | None = None,
    make: MakeOracle | None = None,
    replayed: Mapping[int, Replay] | None = None,
) -> CellResult:
    """Judge what lies in ``directory`` (a run's cells/ID), and nothing else.

    ``planned`` are the workloads that should have run, in their order, each with its properties; ``facts`` are those
    of the stages before the guest; ``replayed`` are the journals, by boot, that need not be replayed again
    (:class:`harness.verdict.live.Live`); ``make`` is who replays, else an oracle that goes by what is known of this cell's kernel
    (:class:`harness.verdict.knowledge.Knowledge`).  Missing or damaged files make LOST, BOOT or INFRA, never an exception.
    """
    make = make or Knowledge.of(directory)
    told, done = _told(directory, make), replayed or {}
    replays = {b.number: done.get(b.number) or _replayed(directory, b, make) for b in told.boots if b.journal}
    blame = {b.number: _crashes(directory, b) for b in told.boots}
    results = _judge_all(told, replays, blame, planned)
    for name, properties in planned.items():
        if name not in results:
            absent = WorkloadRecord(name, reason=f"{NAME} does not name it" if told.workloads else told.reason)
            results[name] = _judge_one(absent, told, {}, {}, tuple(properties))
    order = [*planned, *(n for n in results if n not in planned)]
    return CellResult(
        cell=cell,
        target=target,
        workloads=tuple(results[name] for name in order),
        facts={**_facts(told, replays), **(facts or {}), **(make.facts() if isinstance(make, Knowledge) else {})},
        warnings=_warnings(told, replays),
        timings={"guest": told.seconds} if told.seconds else {},
    )


def _replayed(directory: Path, boot: BootRecord, make: MakeOracle) -> Replay:
    """A boot's journal, with the looks of a second witness if there was one."""
    seen = looks.Reader(directory / looks.name(boot.number))
    try:
        return replay(chunks(directory / boot.journal), make, seen)
    finally:
        seen.close()


def rejudge(run: RunResult, directory: Path, make: MakeOracle | None = None) -> RunResult:
    """A stored run judged again: from what the guests left; cells that never had one (BUILD, say) stay as they are.

    What the run has declared counts, unless ``make`` knows otherwise.
    """
    places = [(cell, directory / "cells" / cell.cell) for cell in run.cells]
    cells = (_rejudge_cell(cell, place, make or Knowledge.of(place, run.declared)) for cell, place in places)
    return dataclasses.replace(run, cells=tuple(cells))


def _rejudge_cell(old: CellResult, directory: Path, make: MakeOracle) -> CellResult:
    if all(w.verdict is Verdict.BUILD for w in old.workloads):
        return old
    left = any((directory / name).is_file() for name in (NAME, "journal.jsonl", "console.log"))
    if not left and all(w.verdict is Verdict.INFRA for w in old.workloads):  # for want of a source, say
        return old
    planned = {w.workload: w.properties for w in old.workloads}
    facts = {name: text for name, text in old.facts.items() if name not in ("declared", "semantics")}
    new = judge_cell(directory, old.cell, old.target, planned, facts, make)
    warnings = tuple(dict.fromkeys([*old.warnings, *new.warnings]))
    return dataclasses.replace(new, timings={**new.timings, **old.timings}, warnings=warnings)


def _told(directory: Path, make: MakeOracle) -> CellRecord:
    """What the guest room says; without it, what the journals alone say: those without an end stay LOST."""
    try:
        return load_cell(directory)
    except UsageError as e:
        why = str(e)
    told = CellRecord(target="", reason=why)
    while (path := directory / numbered("journal.jsonl", len(told.boots) + 1)).is_file():
        number = len(told.boots) + 1
        seen = replay(chunks(path), make)
        boot = BootRecord(number, hello=seen.hello is not None, reason=why, journal=path.name)
        boot.console = numbered("console.log", number)
        told.boots.append(boot)
        for segment, account in enumerate(seen.accounts):
            outcome = Outcome.LOST if account.problem else Outcome.ENDED
            reason = why if account.problem else ""
            told.workloads.append(WorkloadRecord(account.workload, outcome=outcome, reason=reason, boot=number, segment=segment))
    return told


def _judge_all(
    told: CellRecord, replays: Mapping[int, Replay], blame: Mapping[int, tuple[CrashReport, ...]], planned: Planned
) -> dict[str, WorkloadResult]:
    results: dict[str, WorkloadResult] = {}
    for workload in told.workloads:
        properties = tuple(planned.get(workload.workload, ()))
        result = _judge_one(workload, told, replays, blame, properties)
        old = results.get(result.workload)
        # Run twice (soak): what was seen bad is not taken back by a later good one.
        if old is None or not (old.verdict.bad or old.verdict is Verdict.LOST):
            results[result.workload] = result
    return results


def _judge_one(
    workload: WorkloadRecord,
    told: CellRecord,
    replays: Mapping[int, Replay],
    blame: Mapping[int, tuple[CrashReport, ...]],
    properties: tuple[str, ...],
) -> WorkloadResult:
    boots = {b.number: b for b in told.boots}
    boot = boots.get(workload.boot) or (told.boots[-1] if told.boots else None)
    seen = replays.get(workload.boot)
    account = _account(workload, seen)
    crashes: tuple[CrashReport, ...] = ()
    if boot is not None and (not boot.hello or _guilty(told, boot) is workload):
        crashes = blame.get(boot.number, ())
    if seen is not None and account is not None and account.reset is not None and not any(c.fatal for c in crashes):
        tainted = taint_report(_taint_before(seen, account), account.reset.taint)
        crashes += (tainted,) if tainted else ()
    first = seen.first_reset if seen is not None and _kept_from_beginning(workload, told, seen) else None
    report = worst(crashes)
    moment = seen.timeline.at(report.text) if report is not None and seen is not None else None
    return judge_workload(Evidence(workload, boot, account, crashes, properties, told.reason, first, moment))


def _kept_from_beginning(workload: WorkloadRecord, told: CellRecord, seen: Replay) -> bool:
    """Its boot came to no workload, and it was the one whose turn it was."""
    return not seen.accounts and next(w for w in told.workloads if w.boot == workload.boot) is workload


def _account(workload: WorkloadRecord, seen: Replay | None) -> Account | None:
    """Its segment: the one that the guest room names if that is of this workload, else the first of its name."""
    accounts = seen.accounts if seen else []
    if 0 <= workload.segment < len(accounts) and accounts[workload.segment].workload == workload.workload:
        return accounts[workload.segment]
    return next((a for a in accounts if a.workload == workload.workload), None)


def _guilty(told: CellRecord, boot: BootRecord) -> WorkloadRecord | None:
    """The workload that a report on this boot's console belongs to.

    The guest is booted again after a crash or a taint, so it is the one in progress, or the last one that ended and
    whose reset was in progress.
    """
    ran = [w for w in told.workloads if w.boot == boot.number and w.outcome is not Outcome.NOTRUN]
    return next((w for w in ran if w.outcome is Outcome.CRASHED), ran[-1] if ran else None)


def _taint_before(seen: Replay, account: Account) -> int:
    """The taint at the reset before this workload."""
    index = next(i for i, a in enumerate(seen.accounts) if a is account)
    reset = seen.accounts[index - 1].reset if index else seen.first_reset
    return (reset.taint or 0) if reset else _taint_at_hello(seen.hello)


def _taint_at_hello(hello: Record | None) -> int:
    taint = (hello or {}).get("taint")
    return taint if type(taint) is int else 0


def _crashes(directory: Path, boot: BootRecord) -> tuple[CrashReport, ...]:
    """Reports on the console between hello and the host's own requests for evidence; with no hello, all of them."""
    try:
        with (directory / (boot.console or numbered("console.log", boot.number))).open("rb") as f:
            raw = f.read(CONSOLE_MAX)
    except OSError as e:
        log.debug("no console of boot %d in %s: %s", boot.number, directory, e.strerror)
        return ()
    start = boot.console_from if boot.hello else 0
    above = raw.count(b"\n", 0, start)
    text = raw[start : boot.console_to].decode("utf-8", "replace")
    return tuple(dataclasses.replace(c, line=c.line + above) for c in extract(text))


def _warnings(told: CellRecord, replays: Mapping[int, Replay]) -> tuple[str, ...]:
    """What went wrong around the workloads without being KSM's fault."""
    lines: list[str] = []
    for number, seen in replays.items():
        resets = [("before the first workload", seen.first_reset), *((f"after {a.workload}", a.reset) for a in seen.accounts)]
        for where, reset in resets:
            if reset is not None and not reset.ok:
                lines.append(f"boot {number}: the reset {where} was not clean: {reset.why or 'no reason given'}")
        size = (seen.hello or {}).get("page_size", told.page_size)
        if told.page_size and size != told.page_size:
            lines.append(f"boot {number}: the guest's pages have {size} bytes, those of target {told.target} {told.page_size}")
        if taint := _taint_at_hello(seen.hello):
            lines.append(f"boot {number}: the kernel was tainted ({taint}) before any workload")
        if seen.anchor:
            lines.append(f"boot {number}: MADV_MERGEABLE failed with {seen.anchor} in init's own process: ksmd may scan unasked")
        if seen.fault:
            lines.append(f"boot {number}: journal damaged: {seen.fault}")
        if seen.blind:
            lines.append(f"boot {number}: the second witness's looks are not judged to the end: {seen.blind}")
        lines += [f"{account.workload}: {note}" for account in seen.accounts for note in _not_judged(account)]
    if told.boots and not told.finished:
        lines.append("the cell was not finished")
    return tuple(dict.fromkeys(lines))


# Oracle._catch_up: scans that the reset before the workload made, as in most good runs.
_BENIGN = "they are taken for the reset's"


def _not_judged(account: Account) -> list[str]:
    """The oracle's notes, of those that differ in numbers only the first."""
    alike: dict[str, list[str]] = {}
    for note in account.notes:
        if not note.endswith(_BENIGN):
            alike.setdefault(re.sub(r"\d+", "N", note), []).append(note)
    cut = [f"reclaim (ret record {seq}) did not come to rest within its deadline" for seq in account.deadlines]
    if cut:
        alike[cut[0]] = cut
    return [same[0] + (f" (and {len(same) - 1} more like it)" if len(same) > 1 else "") for same in alike.values()]


def _facts(told: CellRecord, replays: Mapping[int, Replay]) -> dict[str, str]:
    """What the guest and the guest room say of themselves, for the report."""
    facts = {"accel": told.accel, "accel_reason": told.accel_reason, "cpu": told.cpu, "qemu": told.qemu}
    facts["boots"] = str(len(told.boots))
    names = ("release", "machine", "page_size", "endian", "cpus", "mem_kb", "swap_kb", "cmdline")
    for seen in replays.values():
        hello = seen.hello or {}
        facts |= {name: str(hello[name]) for name in names if name in hello}
    return {k: v for k, v in facts.items() if v}

# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a mutant: pure rules over the verdicts of its workloads."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ExitCode
from harness.findings import Finding
from harness.mutation.mutant import Mutant
from harness.results import CellResult, Verdict, WorkloadResult


class Fate(enum.StrEnum):
    """What became of one mutant on one target."""

    KILLED = "killed"  # a workload judged the kernel bad
    SURVIVED = "survived"  # every workload passed, or was skipped
    NOT_TESTABLE = "not testable"  # this config or target lacks what it changes, or what would show it
    NO_BUILD = "does not build"  # the patch does not apply, or the kernel does not compile
    UNJUDGED = "not judged"  # the guest did not boot, was lost, or the host failed: tried again next time
    CLEAN = "clean"  # a benign control that passed
    FLAGGED = "flagged"  # a benign control that was judged bad

    @property
    def final(self) -> bool:
        """Known once and for all, for this kernel, these workloads and this oracle."""
        return self is not Fate.UNJUDGED

    @property
    def bad(self) -> bool:
        """The harness, not the kernel, has failed: it missed a mutant, or flagged what is good."""
        return self in (Fate.SURVIVED, Fate.FLAGGED)


@dataclass(frozen=True)
class Judgement:
    """A fate and what it rests on.  ``named`` are all the properties that findings or crashes name."""

    fate: Fate
    reason: str = ""  # for all but KILLED and CLEAN: why
    workload: str = ""  # KILLED, FLAGGED: the first workload that judged it bad, …
    verdict: str = ""  # … with this verdict,
    prop: str = ""  # … for this property,
    signature: str = ""  # … with this signature; of a CRASH or HANG "CRASH:P6"
    finding: str = ""  # first line of what it said
    named: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()  # workloads that this kernel or target cannot run
    passed: tuple[str, ...] = ()


def judge(mutant: Mutant, cell: CellResult, order: Sequence[str]) -> Judgement:
    """The fate of a mutant from its cell; ``order`` is that in which the workloads ran.

    A workload that judged the kernel bad counts, whatever became of the others: the guest is stopped then.
    """
    rank = {name: number for number, name in enumerate(order)}
    results = sorted(cell.workloads, key=lambda w: rank.get(w.workload, len(rank)))
    skipped = tuple(w.workload for w in results if w.verdict is Verdict.SKIP)
    passed = tuple(w.workload for w in results if w.verdict is Verdict.PASS)
    bad = [w for w in results if w.verdict.bad]
    if bad:
        return _killed(mutant, bad, skipped, passed)
    lost = next((w for w in results if not w.verdict.judged), None)
    if lost is not None:
        fate = Fate.NO_BUILD if lost.verdict is Verdict.BUILD else Fate.UNJUDGED
        where = "" if fate is Fate.NO_BUILD else f"{lost.workload}: {lost.verdict}: "
        return Judgement(fate, f"{where}{lost.reason}", skipped=skipped, passed=passed)
    if lacking := _lacking(mutant, results):
        return Judgement(Fate.NOT_TESTABLE, lacking, skipped=skipped, passed=passed)
    if mutant.benign:
        return Judgement(Fate.CLEAN, skipped=skipped, passed=passed)
    reason = f"all {len(passed)} workloads passed" + (f"; skipped: {', '.join(skipped)}" if skipped else "")
    return Judgement(Fate.SURVIVED, reason, skipped=skipped, passed=passed)


def _killed(mutant: Mutant, bad: Sequence[WorkloadResult], skipped: tuple[str, ...], passed: tuple[str, ...]) -> Judgement:
    first = bad[0]
    named = tuple(dict.fromkeys(p for w in bad for p in [*(f.prop for f in w.findings), w.prop] if p))
    finding = chief(first)
    return Judgement(
        fate=Fate.FLAGGED if mutant.benign else Fate.KILLED,
        reason=first.reason if mutant.benign else "",
        workload=first.workload,
        verdict=first.verdict.value,
        prop=finding.prop if finding else first.prop,
        signature=finding.signature if finding else f"{first.verdict}:{first.prop}".rstrip(":"),
        finding=finding.summary if finding else first.reason,
        named=named,
        skipped=skipped,
        passed=passed,
    )


def chief(workload: WorkloadResult) -> Finding | None:
    """The finding that stands for a FAIL; what a crash or a hang had found before stays in the cell's report."""
    if workload.verdict is not Verdict.FAIL or not workload.findings:
        return None
    return min(workload.findings, key=lambda f: f.follows)


def _lacking(mutant: Mutant, results: Sequence[WorkloadResult]) -> str:
    """Why this target cannot show the mutant, "" if it can: what would show the expected property was skipped."""
    skips = [w for w in results if w.verdict is Verdict.SKIP]
    if len(skips) == len(results):
        return "every workload is skipped: " + "; ".join(dict.fromkeys(w.reason for w in skips))
    if not mutant.expected:
        return ""
    showing = [w for w in results if set(w.properties) & set(mutant.expected)]
    if not showing or any(w.verdict is not Verdict.SKIP for w in showing):
        return ""
    what = "/".join(mutant.expected)
    return f"what shows {what} is skipped: " + "; ".join(f"{w.workload}: {w.reason}" for w in showing)


def right(mutant: Mutant, judgement: Judgement) -> bool | None:
    """Whether an expected property was named; None where none is expected, or where a crash or a hang came before."""
    if not mutant.expected or judgement.fate is not Fate.KILLED:
        return None
    named = bool(set(mutant.expected) & set(judgement.named))
    return named or (None if judgement.verdict in (Verdict.CRASH, Verdict.HANG) else False)


def misnamed(mutant: Mutant, judgement: Judgement) -> bool:
    """Whether it was killed, by a crash perhaps, and only other properties than the expected ones were named."""
    asked = bool(mutant.expected) and judgement.fate is Fate.KILLED
    return asked and bool(judgement.named) and right(mutant, judgement) is not True


def exit_code(fates: Sequence[tuple[Fate, str]]) -> ExitCode:
    """Of a campaign, from each mutant's fate and what is argued of it: a survivor that is equivalent is none."""
    if any(fate.bad and not (fate is Fate.SURVIVED and argued == "equivalent") for fate, argued in fates):
        return ExitCode.BAD
    if not fates or any(fate in (Fate.UNJUDGED, Fate.NO_BUILD) for fate, _ in fates):
        return ExitCode.CANNOT_JUDGE
    return ExitCode.GOOD

# SPDX-License-Identifier: GPL-2.0-or-later
"""In which order a mutant's workloads run: those first that are likely to kill it, for the least time.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

KINSHIP = 8.0
"""How much more a kill in the mutant's own function tells than one elsewhere."""

LEAST = 0.1  # seconds: the time between two workloads (reset) counts as well


@dataclass(frozen=True)
class Runner:
    """A workload that can be run: what it shows, and its guest time on the unmodified kernel in seconds."""

    name: str
    properties: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One workload's run on a mutant that is done with: whether it judged it bad."""

    workload: str
    killed: bool
    function: str = ""


def rank(
    runners: Sequence[Runner], trials: Iterable[Trial], expected: Sequence[str] = (), function: str = ""
) -> tuple[Runner, ...]:
    """All runners, the most promising first.

    Those that show an expected property come before all others.  Among equals it is the rate of kills seen so far (with
    one kill in two runs assumed of what never ran) over the time a run costs; the order given decides the rest.
    """
    kills: dict[str, float] = dict.fromkeys((r.name for r in runners), 1.0)
    runs: dict[str, float] = dict.fromkeys((r.name for r in runners), 2.0)
    for trial in trials:
        if trial.workload in runs:
            weight = KINSHIP if function and trial.function == function else 1.0
            runs[trial.workload] += weight
            kills[trial.workload] += weight * trial.killed
    return tuple(sorted(runners, key=lambda r: (not set(r.properties) & set(expected), -_worth(r, kills, runs))))


def _worth(runner: Runner, kills: Mapping[str, float], runs: Mapping[str, float]) -> float:
    return kills[runner.name] / runs[runner.name] / max(runner.seconds, LEAST)

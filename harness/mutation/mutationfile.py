# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign's results as a whole: mutate.json, schema version 1 (docs/results.md)."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ExitCode
from harness.mutation.argued import EQUIVALENT, Argument
from harness.mutation.fate import Fate, exit_code
from harness.mutation.outcome import Outcome
from harness.report.output import replace

SCHEMA = 1
NAME = "mutate.json"


@dataclass(frozen=True)
class Score:
    """A campaign: its outcomes in the order in which they came, and what is argued of survivors."""

    kernel: str
    outcomes: tuple[Outcome, ...]
    arguments: Mapping[str, Argument]
    command: tuple[str, ...] = ()
    started: str = ""  # ISO 8601, UTC
    finished: str = ""  # empty while it goes on
    version: str = ""

    @property
    def sorted(self) -> tuple[Outcome, ...]:
        """By target and name."""
        return tuple(sorted(self.outcomes, key=lambda o: (o.target, o.mutant)))

    def argued(self, outcome: Outcome) -> Argument | None:
        """What is argued of a survivor; of others nothing is asked."""
        return self.arguments.get(outcome.mutant) if outcome.fate is Fate.SURVIVED else None

    def counts(self) -> dict[str, int]:
        """Mutants by fate, in the order of Fate; and of those that survived, how many are argued equivalent."""
        seen = Counter(outcome.fate for outcome in self.outcomes)
        counts = {fate.value: seen[fate] for fate in Fate}
        arguments = [self.argued(outcome) for outcome in self.outcomes]
        return counts | {EQUIVALENT: sum(a is not None and a.verdict == EQUIVALENT for a in arguments)}

    def rate(self) -> float | None:
        """Killed of all that were judged and are not argued equivalent, 0 to 1; None without any."""
        counts = self.counts()
        judged = counts[Fate.KILLED] + counts[Fate.SURVIVED] - counts[EQUIVALENT]
        return counts[Fate.KILLED] / judged if judged else None

    def exit_code(self) -> ExitCode:
        """1 when a mutant survived or a benign one was flagged, else 125 when something was not judged, else 0."""
        told = [(outcome.fate, a.verdict if (a := self.argued(outcome)) else "") for outcome in self.outcomes]
        return exit_code(told)

    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        rate = self.rate()
        return {
            "schema": SCHEMA,
            "version": self.version,
            "kernel": self.kernel,
            "command": list(self.command),
            "started": self.started,
            "finished": self.finished,
            "exit_code": int(self.exit_code()),
            "counts": self.counts(),
            "rate": None if rate is None else round(rate, 4),
            "mutants": [o.data() | {"argued": dataclasses.asdict(a) if (a := self.argued(o)) else None} for o in self.sorted],
        }


def write(directory: Path, score: Score) -> Path:
    """Replace DIRECTORY/mutate.json as a whole.  HostError if that cannot be done."""
    return replace(directory / NAME, json.dumps(score.data(), indent=1) + "\n")


def is_ours(directory: Path) -> bool:
    """Whether an earlier campaign left its mutate.json there."""
    try:
        data = json.loads((directory / NAME).read_bytes())
        return isinstance(data, dict) and data.get("schema") == SCHEMA
    except (OSError, ValueError, RecursionError):
        return False

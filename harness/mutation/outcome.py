# SPDX-License-Identifier: GPL-2.0-or-later
"""One mutant's result as plain data, and as it is kept in DIR/mutants/TARGET/NAME/mutant.json."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.mutation.fate import Fate, Judgement, right
from harness.mutation.mutant import Mutant
from harness.mutation.ranking import Trial
from harness.store import write_atomically

NAME = "mutant.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant on one target.  Times are wall time in seconds.

    ``key`` names all that the fate depends on; ``directory`` is relative to the campaign's; ``ran`` are the workloads in the
    order of their turns, as far as they had one.
    """

    mutant: str
    target: str
    key: str
    digest: str
    judgement: Judgement
    benign: bool = False
    expected: tuple[str, ...] = ()
    right: bool | None = None
    function: str = ""
    operator: str = ""
    line: str = ""
    description: str = ""
    build_seconds: float = 0.0
    guest_seconds: float = 0.0
    ran: tuple[str, ...] = ()
    costs: tuple[tuple[str, float], ...] = ()  # guest time of each workload that passed
    directory: str = ""
    earlier: bool = False  # judged with other workloads or another oracle than now

    @property
    def fate(self) -> Fate:
        """Shorthand."""
        return self.judgement.fate

    def trials(self) -> list[Trial]:
        """What it tells for the ranking."""
        found = [Trial(name, False, self.function) for name in self.judgement.passed]
        if self.fate is Fate.KILLED:
            found.append(Trial(self.judgement.workload, True, self.function))
        return found

    def data(self) -> dict[str, Any]:
        """As JSON has it (docs/results.md)."""
        data = dataclasses.asdict(self)
        del data["judgement"], data["costs"]
        return {"mutant": data.pop("mutant"), "target": data.pop("target"), **dataclasses.asdict(self.judgement), **data} | {
            "costs": dict(self.costs)
        }


def outcome(mutant: Mutant, target: str, key: str, judgement: Judgement, **more: Any) -> Outcome:
    """The outcome of a mutant."""
    return Outcome(
        mutant=mutant.name,
        target=target,
        key=key,
        digest=mutant.digest,
        judgement=judgement,
        benign=mutant.benign,
        expected=mutant.expected,
        right=right(mutant, judgement),
        function=mutant.function,
        operator=mutant.operator,
        line=mutant.line,
        description=mutant.description,
        **more,
    )


def keep(directory: Path, result: Outcome) -> None:
    """Write mutant.json, the last file of a mutant that is done with.  OSError when the disk is full."""
    write_atomically(directory / NAME, json.dumps(result.data(), indent=1) + "\n")


def kept(directory: Path) -> Outcome | None:
    """What an earlier campaign left, or None where it left nothing that is whole."""
    try:
        data = json.loads((directory / NAME).read_text(encoding="utf-8"))
        names = {f.name for f in dataclasses.fields(Judgement)}
        told = {name: data.pop(name) for name in names}
        told = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
        data["costs"] = tuple((str(name), float(cost)) for name, cost in data["costs"].items())
        data = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        return Outcome(judgement=Judgement(**told | {"fate": Fate(told["fate"])}), **data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

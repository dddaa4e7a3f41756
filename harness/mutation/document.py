# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign as a part of a Markdown file (docs/mutation.md), which each campaign replaces for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.mutation.fate import Fate
from harness.mutation.mutationfile import Score
from harness.mutation.outcome import Outcome
from harness.mutation.table import remark, summary, wanted
from harness.report.markdown import table, write_part
from harness.report.text import line


def write(path: Path, title: str, score: Score) -> None:
    """Replace the part ``title`` of the file, or add it.  UsageError if that is no file to do it with."""
    write_part(path, title, part(title, score))


def part(title: str, score: Score) -> str:
    """The Markdown of one campaign."""
    outcomes = score.sorted
    parts = [f"## {title}\n", f"{summary(score)}.\n"]
    if any(o.function for o in outcomes):
        parts += ["By function:\n", _by(outcomes, "function"), "By operator:\n", _by(outcomes, "operator")]
    parts += ["By workload:\n", _killers(outcomes)]
    if missed := [o for o in outcomes if o.fate.bad]:
        parts += ["Survivors, and what is argued of them:\n", _survivors(missed, score)]
    parts += ["All mutants:\n", _all(outcomes, score)]
    return "\n".join(parts)


def _by(outcomes: Sequence[Outcome], attribute: str) -> str:
    rows = []
    for name in sorted({getattr(o, attribute) for o in outcomes} - {""}):
        seen = Counter(o.fate for o in outcomes if getattr(o, attribute) == name)
        rest = ", ".join(f"{n} {fate}" for fate, n in seen.items() if fate not in (Fate.KILLED, Fate.SURVIVED))
        rows.append((f"`{name}`" if attribute == "function" else name, seen[Fate.KILLED], seen[Fate.SURVIVED], rest))
    return table((attribute, "killed", "survived", "else"), rows)


def _killers(outcomes: Sequence[Outcome]) -> str:
    """Which workload came first; what comes later in the order kills less for that reason alone."""
    killed = [o.judgement for o in outcomes if o.fate is Fate.KILLED]
    seen = Counter(told.workload for told in killed)
    rows = []
    for workload, number in seen.most_common():
        signatures = Counter(told.signature for told in killed if told.workload == workload)
        rows.append((workload, number, ", ".join(f"{name} ({n})" for name, n in signatures.most_common(4))))
    return table(("workload", "killed first", "most often by"), rows)


def _survivors(missed: Sequence[Outcome], score: Score) -> str:
    rows = []
    for o in missed:
        argued = score.argued(o)
        rows.append((o.mutant, o.description, argued.verdict if argued else "?", argued.reason if argued else o.judgement.reason))
    return table(("mutant", "what it does", "argued", "why"), rows)


def _all(outcomes: Sequence[Outcome], score: Score) -> str:
    rows = []
    for o in outcomes:
        told = o.judgement
        rows.append(
            (o.mutant, o.fate.value, told.workload, told.signature, wanted(o), line(told.finding or remark(o, score), 120))
        )
    return table(("mutant", "verdict", "by", "names", "wanted", "told"), rows)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign as rows, for the terminal and for documents."""

from __future__ import annotations

from harness.mutation.argued import EQUIVALENT
from harness.mutation.fate import Fate
from harness.mutation.mutationfile import Score
from harness.mutation.outcome import Outcome
from harness.report.text import line

Row = dict[str, object]


def rows(score: Score) -> list[Row]:
    """One row per mutant and target."""
    return [_row(outcome, score) for outcome in score.sorted]


def _row(outcome: Outcome, score: Score) -> Row:
    told = outcome.judgement
    seconds = f"{outcome.build_seconds:.1f} + {outcome.guest_seconds:.1f}" if outcome.guest_seconds else ""
    return {
        "mutant": outcome.mutant,
        "target": outcome.target,
        "verdict": outcome.fate.value,
        "by": told.workload,
        "names": told.signature,
        "wanted": wanted(outcome),
        "seconds": seconds,
        "told": line(told.finding or remark(outcome, score), 160),
    }


def wanted(outcome: Outcome) -> str:
    """The property that should be named, and what was named if it is another one."""
    expected = " ".join(outcome.expected)
    if outcome.right is False:
        return f"{expected}, not {' '.join(outcome.judgement.named)}"
    return expected


def remark(outcome: Outcome, score: Score) -> str:
    """Why it is as it is, for what was not killed."""
    argued = score.argued(outcome)
    return f"{argued.verdict}: {argued.reason}" if argued else outcome.judgement.reason


def summary(score: Score) -> str:
    """The answer in one line."""
    counts = score.counts()
    words = [f"{counts[fate]} {fate}" for fate in Fate if counts[fate]]
    if counts[EQUIVALENT]:
        words = [w + f" ({counts[EQUIVALENT]} argued equivalent)" if w.endswith(Fate.SURVIVED) else w for w in words]
    wrong = sum(o.right is False for o in score.outcomes)
    more = f"; {wrong} for another property than the expected one" if wrong else ""
    rate = score.rate()
    share = f"; {rate:.1%} of what could be judged was killed" if rate is not None else ""
    return f"{score.kernel}: {', '.join(words) or 'no mutant was run'}{more}{share}"

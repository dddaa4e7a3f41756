# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit code, whatever is asked for; and a run that is asked for one symptom only (``--only SIGNATURE``), for a bisection.

Only that symptom is bad; anything else that is wrong with a kernel does not tell whether it would be there.
"""

from __future__ import annotations

import fnmatch

from harness.errors import ExitCode
from harness.report.demands import unmet
from harness.report.problems import Problem, problems
from harness.results import RunResult


def matches(only: str, signature: str) -> bool:
    """Whether a signature is the one asked for: the same, or fitting it as a file's name fits a pattern in a shell."""
    return signature == only or fnmatch.fnmatchcase(signature, only)


def shown(run: RunResult) -> tuple[Problem, ...]:
    """The problems that are what was asked for.  What may be a mere consequence of another problem is not."""
    return tuple(p for p in problems(run) if p.verdict.bad and not p.follows and matches(run.only, p.signature))


def others(run: RunResult) -> tuple[str, ...]:
    """The signatures of what is bad in another way."""
    ours = set(shown(run))
    return tuple(dict.fromkeys(p.signature for p in problems(run) if p.verdict.bad and p not in ours))


def exit_code(run: RunResult) -> ExitCode:
    """The run's exit code: of any failure, or of the one that was asked for, where any other failure is "cannot judge".

    A run that would be good is "cannot judge" too if what was to be judged was not.
    """
    code = run.exit_code()
    if run.only and shown(run):
        return ExitCode.BAD
    if run.only and code is ExitCode.BAD:
        return ExitCode.CANNOT_JUDGE
    return ExitCode.CANNOT_JUDGE if code is ExitCode.GOOD and unmet(run) else code

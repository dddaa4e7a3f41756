# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml of a campaign: a suite per target, a case per mutant; a case that fails is a mutant that was missed."""

from __future__ import annotations

from pathlib import Path

import junit_xml

from harness.mutation.fate import Fate
from harness.mutation.mutationfile import Score
from harness.mutation.outcome import Outcome
from harness.report.junit import NAME, document
from harness.report.output import replace
from harness.report.text import line


def write(directory: Path, score: Score) -> Path:
    """Replace DIRECTORY/junit.xml.  HostError if that cannot be done."""
    return replace(directory / NAME, junit(score))


def junit(score: Score) -> bytes:
    """The document."""
    suites = []
    for target in dict.fromkeys(o.target for o in score.sorted):
        name = f"ksm-harness.mutate.{target}"
        cases = [_case(name, o, score) for o in score.sorted if o.target == target]
        facts = {"spec": score.kernel, "target": target, "harness": score.version}
        suites.append(junit_xml.TestSuite(name, cases, timestamp=score.started or None, properties=facts))
    return document(suites)


def _case(suite: str, outcome: Outcome, score: Score) -> junit_xml.TestCase:
    seconds = outcome.build_seconds + outcome.guest_seconds
    case = junit_xml.TestCase(line(outcome.mutant), suite, elapsed_sec=seconds)
    told, argued = outcome.judgement, score.argued(outcome)
    reason = line(told.reason or told.finding)
    if outcome.fate is Fate.SURVIVED and argued is not None and argued.verdict == "equivalent":
        case.add_skipped_info(line(f"equivalent: {argued.reason}"))
    elif outcome.fate.bad:
        text = f"{argued.verdict}: {argued.reason}" if argued else ""
        case.add_failure_info(f"{outcome.fate}: {reason}", text, outcome.fate.value)
    elif outcome.fate is Fate.NOT_TESTABLE:
        case.add_skipped_info(reason)
    elif outcome.fate in (Fate.UNJUDGED, Fate.NO_BUILD):
        case.add_error_info(f"{outcome.fate}: {reason}", None, outcome.fate.value)
    else:
        case.stdout = (
            f"{outcome.fate} by {told.workload}: {line(told.signature)}: {line(told.finding)}" if told.workload else None
        )
    return case

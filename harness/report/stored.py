# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's directory as a whole: all reports of a result, and a stored run judged again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.declared import Declared
from harness.report.html import write_html
from harness.report.junit import write_junit
from harness.report.runfile import load_run, write_run
from harness.results import RunResult
from harness.verdict import rejudge


def write_reports(directory: Path, run: RunResult) -> tuple[Path, ...]:
    """Write run.json, junit.xml and report.html, each as a whole; gives their paths.  HostError if one cannot be written."""
    return write_run(directory, run), write_junit(directory, run), write_html(directory, run)


def judge(directory: Path, declared: tuple[Declared, ...] | None = None) -> RunResult:
    """``ksm-harness judge DIR``: the oracle again over what the guests left, no guest; all reports are replaced.

    ``declared``, if given, takes the place of what the run had declared.
    """
    run = load_run(directory)
    if declared is not None:
        run = dataclasses.replace(run, declared=declared)
    run = rejudge(run, directory)
    write_reports(directory, run)
    return run


def report(directory: Path) -> tuple[RunResult, tuple[Path, ...]]:
    """``ksm-harness report DIR``: junit.xml and report.html again from run.json, which stays, and the stored journals."""
    run = load_run(directory)
    return run, (write_junit(directory, run), write_html(directory, run))

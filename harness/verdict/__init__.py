# SPDX-License-Identifier: GPL-2.0-or-later
"""From what a guest left on disk to verdicts: compares, and outranks.  Runs no guest."""

from harness.verdict.cell import judge_cell, rejudge
from harness.verdict.judging import Evidence, judge_workload

__all__ = ["Evidence", "judge_cell", "judge_workload", "rejudge"]

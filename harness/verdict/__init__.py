# SPDX-License-Identifier: GPL-2.0-or-later
"""From what a guest left on disk to verdicts: compares, and outranks.  Runs no guest."""

from harness.verdict.cell import judge_cell, rejudge
from harness.verdict.judging import Evidence, judge_workload
from harness.verdict.knowledge import Knowledge
from harness.verdict.live import Live

__all__ = ["Evidence", "Knowledge", "Live", "judge_cell", "judge_workload", "rejudge"]

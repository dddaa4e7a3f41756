# SPDX-License-Identifier: GPL-2.0-or-later
"""What people and machines read of a run: run.json, JUnit, one HTML page, the terminal."""

from harness.report.html import write_html
from harness.report.junit import write_junit
from harness.report.progress import Progress
from harness.report.runfile import load_run, write_run
from harness.report.stored import judge, report, write_reports
from harness.report.symptom import exit_code, matches
from harness.report.terminal import plain, show, show_rows, table, to_json

__all__ = [
    "Progress", "exit_code", "judge", "load_run", "matches", "plain", "report", "show", "show_rows", "table", "to_json",
    "write_html", "write_junit", "write_reports", "write_run",
]  # fmt: skip

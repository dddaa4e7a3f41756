# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a run on the terminal: verdicts, problems with their first lines, where the reports are."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.errors import ExitCode
from harness.report.demands import gains, unmet
from harness.report.problems import Problem, count, problems
from harness.report.symptom import exit_code, others
from harness.report.text import fit, line
from harness.results import RunResult, Verdict, WorkloadResult

MAX_PROBLEMS = 12

_STYLES = {Verdict.PASS: "green", Verdict.SKIP: "dim"} | {v: "bold red" for v in Verdict if v.bad}
_UNJUDGED = "yellow"


def console(file: TextIO | None = None) -> Console:
    """Where tables go.  Neither a terminal's width nor colours where there is no terminal."""
    file = file or sys.stdout
    return Console(file=file, highlight=False, markup=False, emoji=False, width=None if file.isatty() else 160)


def show(run: RunResult, paths: Sequence[Path] = (), file: TextIO | None = None) -> None:
    """Print the final table."""
    console(file).print(table(run, paths))


def plain(run: RunResult, paths: Sequence[Path] = ()) -> str:
    """The same as text without colours, for logs and summaries."""
    out = Console(highlight=False, markup=False, emoji=False, width=160, no_color=True, force_terminal=False)
    with out.capture() as capture:
        out.print(table(run, paths))
    return "".join(text.rstrip() + "\n" for text in capture.get().splitlines())


def table(run: RunResult, paths: Sequence[Path] = ()) -> RenderableType:
    """Workloads by cells, then one paragraph for each problem, then the answer and the paths of the reports."""
    parts: list[RenderableType] = [_matrix(run)]
    found = problems(run)
    for problem in found[:MAX_PROBLEMS]:
        parts += [Text(""), _problem(problem)]
    if len(found) > MAX_PROBLEMS:
        parts += [Text(""), Text(f"{len(found) - MAX_PROBLEMS} more problems are in the reports.")]
    parts += [Text("")] if run.declared else []
    parts += [Text(line(f"declared: {d}", 400), style=_UNJUDGED, overflow="fold") for d in run.declared]
    missed = unmet(run)
    parts += [Text("")] if missed else []
    parts += [Text(line(str(s), 400), style=f"bold {_UNJUDGED}", overflow="fold") for s in missed[:MAX_PROBLEMS]]
    if len(missed) > MAX_PROBLEMS:
        parts += [Text(f"{len(missed) - MAX_PROBLEMS} more demands that were not met are in the reports.")]
    parts += [Text(line(text, 400), style="dim", overflow="fold") for text in gains(run)[:MAX_PROBLEMS]]
    for cell in run.cells:
        parts += [Text(f"{line(cell.cell)}: {line(w, 400)}", style=_UNJUDGED, overflow="fold") for w in cell.warnings[:6]]
    parts += [Text(""), answer(run)]
    parts += [Text(f"  {fit(str(p))}", style="dim", overflow="ignore", no_wrap=True) for p in paths]
    return Group(*parts)


def _matrix(run: RunResult) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    grid.add_column("workload", no_wrap=True)
    grid.add_column("shows", style="dim")
    for cell in run.cells:
        grid.add_column(Text(line(cell.cell)), no_wrap=True)
    by_name: dict[str, dict[str, WorkloadResult]] = {}
    for cell in run.cells:
        for w in cell.workloads:
            by_name.setdefault(w.workload, {})[cell.cell] = w
    new = {(s.cell, s.workload) for s in unmet(run)}
    for name, cells in by_name.items():
        shows = next((w.properties for w in cells.values() if w.properties), ())
        grid.add_row(
            Text(line(name)), Text(line(" ".join(shows))), *(_word(cells.get(c.cell), (c.cell, name) in new) for c in run.cells)
        )
    return grid


def _word(workload: WorkloadResult | None, unexpected: bool) -> Text:
    if workload is None:
        return Text("")
    verdict = workload.verdict
    if unexpected:
        return Text(f"{verdict} !", style=_UNJUDGED)
    return Text(workload.word, style=_STYLES.get(verdict, _UNJUDGED) if workload.is_test else "dim")


def _problem(problem: Problem) -> Text:
    style = _STYLES.get(problem.verdict, _UNJUDGED)
    spots = problem.spots
    places = ", ".join(f"{line(p.cell)}/{line(p.workload)}" for p in spots[:8])
    if len(spots) > 8:
        places += f" and {len(spots) - 8} more"
    text = Text(overflow="fold")
    text.append(f"{problem.verdict} ", style=style)
    if problem.finding is not None:
        follows = ", may follow from another" if problem.follows else ""
        text.append(f"{line(problem.signature)} ({problem.finding.tier}{follows}) ")
    text.append(f"in {places}\n  {line(problem.summary, 400)}")
    if problem.finding is not None:
        text.append(f"\n  expected  {line(problem.finding.expected)}\n  seen      {line(problem.finding.seen)}", style="dim")
    return text


def answer(run: RunResult) -> Text:
    """The last line: what the exit code says, in words."""
    tests = [w for c in run.cells for w in c.tests]
    bad = sum(w.verdict.bad for w in tests)
    lost = sum(not w.verdict.judged for w in tests)
    total = len(tests)
    code = exit_code(run)
    if run.only and code is not ExitCode.GOOD and (bad or code is ExitCode.BAD):
        if code is ExitCode.BAD:
            return Text(f"{line(run.kernel)}: bad, by {line(run.only)}", style="bold red")
        words = ", ".join(line(signature) for signature in others(run)[:4])
        return Text(f"{line(run.kernel)}: bad in another way than by {line(run.only)}: {words}", style=f"bold {_UNJUDGED}")
    if code is ExitCode.GOOD:
        return Text(f"{line(run.kernel)}: good ({_skips(run, total)})", style="bold green")
    unjudged = f", {lost} could not be judged" if lost else ""
    if run.exit_code() is ExitCode.GOOD:
        words = f"{count(len(unmet(run)), 'demand')} not met"
        return Text(f"{line(run.kernel)}: not judged as was asked ({words})", style=f"bold {_UNJUDGED}")
    if code is ExitCode.BAD:
        return Text(f"{line(run.kernel)}: bad ({bad} of {total} workloads{unjudged})", style="bold red")
    if not lost:
        why = f"all workloads were skipped: {line(tests[0].reason)}" if tests else "no workload that ran shows a property"
        return Text(f"{line(run.kernel)}: could not be judged ({why})", style=f"bold {_UNJUDGED}")
    return Text(f"{line(run.kernel)}: could not be judged ({lost} of {total} workloads were not)", style=f"bold {_UNJUDGED}")


def _skips(run: RunResult, total: int) -> str:
    skipped = sum(w.verdict is Verdict.SKIP for c in run.cells for w in c.tests)
    return f"{count(total - skipped, 'workload')} passed" + (f", {skipped} skipped" if skipped else "")


Rows = Sequence[Mapping[str, Any]]


def to_json(rows: Rows) -> str:
    """What ``--json`` prints for a table: a list of objects."""
    return json.dumps([dict(row) for row in rows], indent=1, default=str)


def show_rows(rows: Rows, as_json: bool = False, file: TextIO | None = None) -> None:
    """Print any table of the command: rows with the same keys, which are the headings."""
    if as_json:
        print(to_json(rows), file=file or sys.stdout)
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    headings = list(dict.fromkeys(key for row in rows for key in row))
    for heading in headings:
        grid.add_column(heading.replace("_", " "), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_cell(row.get(h, ""))) for h in headings))
    console(file).print(grid)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return line(" ".join(str(v) for v in value), 2000)
    return line("" if value is None else str(value), 2000)

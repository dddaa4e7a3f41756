# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run is expected to come to, cell by cell: what passes, and what is skipped for which reason.

A file of TOML, made from a run that was good (``ksm-harness expect DIR``) and handed in with ``--expect FILE``:

    schema = 1

    [cells."x86_64".pass]
    "new_fork" = ["P1"]

    [cells."x86_64".skip]
    "numa_nodes" = "the guest has one NUMA node"
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import tomlfile
from harness.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from harness.results import RunResult, WorkloadResult

SCHEMA = 1


@dataclass(frozen=True)
class Expected:
    """What one workload is to come to: its properties pass, or it is skipped, with this reason."""

    properties: tuple[str, ...] = ()
    skip: str | None = None


Cell = Mapping[str, Expected]  # by workload
Expectation = Mapping[str, Cell]  # by cell


def recorded(runs: Iterable[RunResult]) -> Expectation:
    """What these runs came to.  UsageError where one is not good, or two have a cell of the same name."""
    cells: dict[str, Cell] = {}
    for run in runs:
        if run.exit_code() is not ExitCode.GOOD or not run.finished:
            raise UsageError(f"the run of {run.kernel} was not good: only what a good run came to can be expected of the next")
        for cell in run.cells:
            if cell.cell in cells:
                raise UsageError(f"two runs have a cell {cell.cell!r}; record them in two files")
            cells[cell.cell] = {w.workload: _expected(w) for w in cell.tests}
    return cells


def _expected(workload: WorkloadResult) -> Expected:
    skipped = workload.verdict == "SKIP"
    return Expected(skip=workload.reason) if skipped else Expected(workload.properties)


def to_toml(expectation: Expectation) -> str:
    """The file's text."""
    lines = ["# Made by `ksm-harness expect`; `ksm-harness run --expect` holds a run against it.", f"schema = {SCHEMA}"]
    for name, cell in expectation.items():
        for part, told in to_data({name: cell})[name].items():
            lines += ["", f"[cells.{_text(name)}.{part}]"]
            lines += [f"{_text(workload)} = {_list(what) if part == 'pass' else _text(what)}" for workload, what in told.items()]
    return "\n".join(lines) + "\n"


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(_text(t) for t in texts)}]"


def _text(text: str) -> str:
    """A basic string of TOML: JSON's, but for what stands for no character, and DEL."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")


def load(path: Path) -> Expectation:
    """Read a file.  UsageError names it and the key that is wrong."""
    data = tomlfile.read(path, "the expectation")
    if data.get("schema") != SCHEMA:
        raise UsageError(f"{path}: schema {data.get('schema')!r:.40}, this ksm-harness reads {SCHEMA}; record it again")
    return from_data(data.get("cells", {}), f"{path}: cells")


def from_data(data: object, where: str) -> Expectation:
    """The same from tables; UsageError names the place of what is wrong."""
    return {name: _cell(cell, f"{where}.{name}") for name, cell in _table(data, where).items()}


def to_data(expectation: Expectation) -> dict[str, Any]:
    """Tables that ``from_data`` reads."""
    return {
        name: {
            "pass": {w: list(e.properties) for w, e in cell.items() if e.skip is None},
            "skip": {w: e.skip for w, e in cell.items() if e.skip is not None},
        }
        for name, cell in expectation.items()
    }


def _table(data: object, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UsageError(f"{where}: a table is wanted here, not {type(data).__name__}")
    return data


def _cell(data: object, where: str) -> Cell:
    table = _table(data, where)
    for key in table.keys() - {"pass", "skip"}:
        raise UsageError(f"{where}.{key}: a cell has the tables pass and skip")
    found: dict[str, Expected] = {}
    for workload, properties in _table(table.get("pass", {}), f"{where}.pass").items():
        if not isinstance(properties, list) or not all(isinstance(p, str) for p in properties):
            raise UsageError(f"{where}.pass.{workload}: a list of properties is wanted here")
        found[workload] = Expected(tuple(properties))
    for workload, reason in _table(table.get("skip", {}), f"{where}.skip").items():
        if not isinstance(reason, str):
            raise UsageError(f"{where}.skip.{workload}: a reason in words is wanted here")
        if workload in found:
            raise UsageError(f"{where}: {workload} is expected to pass and to be skipped; it can do one of them")
        found[workload] = Expected(skip=reason)
    return found

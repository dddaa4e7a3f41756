# SPDX-License-Identifier: GPL-2.0-or-later
"""run.json: a RunResult on disk, schema version 1 (docs/results.md)."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from harness import declared, expectation, paths
from harness.declared import Declared
from harness.drawing import COLUMNS, Box, Drawing, Link, Panel
from harness.errors import UsageError
from harness.findings import Finding, Tier
from harness.oracle.semantics import DECLARABLE
from harness.report.demands import unmet
from harness.report.output import replace
from harness.report.problems import problems
from harness.report.properties import by_property
from harness.report.symptom import exit_code
from harness.results import CellResult, CrashReport, RunResult, Verdict, WorkloadResult

SCHEMA = 1
NAME = "run.json"

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def write_run(directory: Path, run: RunResult) -> Path:
    """Replace DIRECTORY/run.json as a whole.  HostError if that cannot be done."""
    return replace(directory / NAME, json.dumps(to_data(run), indent=1) + "\n")


def load_run(directory: Path) -> RunResult:
    """Read DIRECTORY/run.json (or a file named itself).  UsageError says what is wrong with it."""
    path = directory / NAME if paths.is_directory(directory) else directory
    try:
        data = json.loads(paths.content(path))
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}; name the directory of a run (as given to --out)") from e
    except (ValueError, RecursionError) as e:
        raise UsageError(f"{path} is not JSON: {e}") from e
    return from_data(data, str(path))


def to_data(run: RunResult) -> dict[str, Any]:
    """A run as JSON data.  ``verdict``, ``shortfalls`` and ``problems`` are derived, for readers; loading ignores them."""
    return {
        "schema": SCHEMA,
        "version": run.version,
        "kernel": run.kernel,
        "command": list(run.command),
        "started": run.started,
        "finished": run.finished,
        "only": run.only,
        "require": list(run.require),
        "expect": expectation.to_data(run.expect) if run.expect is not None else None,
        "declared": [dataclasses.asdict(d) for d in run.declared],
        "exit_code": int(exit_code(run)),
        "cells": [_cell_data(c) for c in run.cells],
        "shortfalls": [dataclasses.asdict(s) for s in unmet(run)],
        "problems": [
            {"signature": p.signature, "verdict": p.verdict, "summary": p.summary, "cells": list(p.cells)} for p in problems(run)
        ],
    }


def _cell_data(cell: CellResult) -> dict[str, Any]:
    return {
        "cell": cell.cell,
        "target": cell.target,
        "facts": dict(cell.facts),
        "warnings": list(cell.warnings),
        "timings": dict(cell.timings),
        "workloads": [_workload_data(w) for w in cell.workloads],
    }


def _workload_data(workload: WorkloadResult) -> dict[str, Any]:
    numbers = {id(f): i for i, f in enumerate(workload.findings, start=1)}
    return {
        "workload": workload.workload,
        "verdict": workload.verdict,
        "reason": workload.reason,
        "operation": workload.operation,
        "prop": workload.prop,
        "seconds": workload.seconds,
        "boot": workload.boot,
        "complete": workload.complete,
        "properties": [
            {
                "property": p.prop,
                "verdict": p.verdict,
                "reason": p.reason,
                "listed": p.listed,
                "findings": [{"number": numbers[id(f)], "signature": f.signature} | dataclasses.asdict(f) for f in p.findings],
            }
            for p in by_property(workload)
        ],
        "crashes": [dataclasses.asdict(c) for c in workload.crashes],
        "remarks": list(workload.remarks),
        "drawings": [_drawing_data(d) for d in workload.drawings],
    }


def _drawing_data(drawing: Drawing) -> dict[str, Any]:
    def panel(seen: Panel | None) -> dict[str, Any] | None:
        if seen is None:
            return None
        parts = {"boxes": [dataclasses.asdict(b) for b in seen.boxes], "links": [dataclasses.asdict(n) for n in seen.links]}
        return {"title": seen.title, **parts, "left_out": seen.left_out}

    return {"seq": drawing.seq, "before": panel(drawing.before), "after": panel(drawing.after)}


class _Node:
    """A JSON object with the place where it stands, for errors that name it.  Keys that nobody asks for are ignored."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UsageError(f"{where}: an object is wanted here, not {type(value).__name__}")
        self.data: Mapping[str, Any] = value
        self.where = where

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of ``key``, of type ``kind``; missing keys need a default."""
        value = self.data.get(key, default)
        if kind is float and type(value) is int:
            value = float(value)
        if value is None or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UsageError(f"{self.where}.{key}: {kind.__name__} is wanted here, not {self.data.get(key)!r:.80}")
        return value

    def word(self, key: str, kind: type[E]) -> E:
        """One word of an enumeration."""
        text = self.get(key, str)
        try:
            return kind(text)
        except ValueError:
            raise UsageError(f"{self.where}.{key}: {text!r:.80} is none of {', '.join(kind)}") from None

    def nodes(self, key: str) -> list[_Node]:
        """The objects of a list, none if the key is missing."""
        return [_Node(v, f"{self.where}.{key}[{i}]") for i, v in enumerate(self.get(key, list, []))]

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        values = self.get(key, list, [])
        if not all(isinstance(v, str) for v in values):
            raise UsageError(f"{self.where}.{key}: a list of strings is wanted here")
        return tuple(values)

    def mapping(self, key: str, convert: Callable[[Any], T]) -> dict[str, T]:
        """An object whose values are all of one type."""
        try:
            return {str(k): convert(v) for k, v in self.get(key, dict, {}).items()}
        except (TypeError, ValueError) as e:
            raise UsageError(f"{self.where}.{key}: {e}") from e


def from_data(data: object, where: str = NAME) -> RunResult:
    """JSON data to a run.  UsageError names the place of what is wrong."""
    node = _Node(data, where)
    schema = node.get("schema", int)
    if schema != SCHEMA:
        raise UsageError(f"{where}: schema {schema}, this ksm-harness reads {SCHEMA}; use the version that wrote it")
    return RunResult(
        cells=tuple(_cell(c) for c in node.nodes("cells")),
        kernel=node.get("kernel", str, ""),
        command=node.texts("command"),
        only=node.get("only", str, ""),
        require=node.texts("require"),
        expect=expectation.from_data(wanted, f"{where}.expect") if (wanted := node.data.get("expect")) is not None else None,
        declared=tuple(_declared(d) for d in node.nodes("declared")),
        started=node.get("started", str, ""),
        finished=node.get("finished", str, ""),
        version=node.get("version", str, ""),
    )


def _declared(node: _Node) -> Declared:
    known = {"reason": node.get("reason", str), "reviewed-by": node.get("reviewed_by", str), "value": node.data.get("value")}
    return declared.from_data({node.get("field", str): known}, node.where, DECLARABLE)[0]


def _cell(node: _Node) -> CellResult:
    cell = node.get("cell", str)
    if "/" in cell or "\0" in cell or cell in ("", ".", ".."):  # it names a directory
        raise UsageError(f"{node.where}.cell: {cell!r} cannot be a cell's name")
    return CellResult(
        cell=cell,
        target=node.get("target", str, ""),
        workloads=tuple(_workload(w) for w in node.nodes("workloads")),
        facts=node.mapping("facts", str),
        warnings=node.texts("warnings"),
        timings=node.mapping("timings", float),
    )


def _workload(node: _Node) -> WorkloadResult:
    name = node.get("workload", str)
    properties = node.nodes("properties")
    found = [(f.get("number", int, 0), _finding(f, name)) for p in properties for f in p.nodes("findings")]
    return WorkloadResult(
        workload=name,
        properties=tuple(p.get("property", str) for p in properties if p.get("listed", bool, True)),
        verdict=node.word("verdict", Verdict),
        reason=node.get("reason", str, ""),
        findings=tuple(f for _, f in sorted(found, key=lambda pair: pair[0])),
        crashes=tuple(_crash(c) for c in node.nodes("crashes")),
        operation=node.get("operation", str, ""),
        prop=node.get("prop", str, ""),
        seconds=node.get("seconds", float, 0.0),
        boot=node.get("boot", int, 1),
        remarks=node.texts("remarks"),
        drawings=tuple(_drawing(d) for d in node.nodes("drawings")),
        complete=node.get("complete", bool, not node.get("operation", str, "")),
    )


def _finding(node: _Node, workload: str) -> Finding:
    words = {k: node.get(k, str, "") for k in ("summary", "expected", "seen", "why", "pages")}
    return Finding(
        prop=node.get("prop", str),
        kind=node.get("kind", str),
        op=node.get("op", str),
        tier=node.word("tier", Tier),
        workload=node.get("workload", str, workload),
        seq=node.get("seq", int, 0),
        actors=node.texts("actors"),
        follows=node.get("follows", bool, False),
        **typing.cast("dict[str, Any]", words),
    )


def _crash(node: _Node) -> CrashReport:
    return CrashReport(
        kind=node.get("kind", str),
        title=node.get("title", str, ""),
        text=node.get("text", str, ""),
        line=node.get("line", int, 0),
        fatal=node.get("fatal", bool),
    )


def _drawing(node: _Node) -> Drawing:
    before = node.data.get("before")
    return Drawing(
        seq=node.get("seq", int, 0),
        before=_panel(_Node(before, f"{node.where}.before")) if before is not None else None,
        after=_panel(_Node(node.get("after", dict), f"{node.where}.after")),
    )


def _panel(node: _Node) -> Panel:
    boxes = tuple(_box(b) for b in node.nodes("boxes"))
    links = tuple(Link(n.get("left", int), n.get("right", int), n.get("strong", bool, False)) for n in node.nodes("links"))
    if any(not 0 <= end < len(boxes) for link in links for end in (link.left, link.right)):
        raise UsageError(f"{node.where}.links: a link leads to a box that is not there")
    return Panel(node.get("title", str, ""), boxes, links, node.get("left_out", int, 0))


def _box(node: _Node) -> Box:
    column = node.get("column", int)
    if not 0 <= column < len(COLUMNS):
        raise UsageError(f"{node.where}.column: there are {len(COLUMNS)} columns, and no number {column}")
    words = node.get("title", str, ""), node.get("text", str, "")
    return Box(column, *words, node.get("count", int, 1), node.get("odd", bool, False))

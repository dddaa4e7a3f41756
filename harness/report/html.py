# SPDX-License-Identifier: GPL-2.0-or-later
"""report.html: one file that holds all it shows.  Everything a guest wrote is escaped by the template engine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from harness.errors import ExitCode
from harness.findings import Finding
from harness.report.charts import Chart, Series, bar, draw
from harness.report.demands import gains, unmet
from harness.report.graph import graph
from harness.report.output import replace
from harness.report.pagemap import page_map
from harness.report.pagestate import unexpected
from harness.report.problems import problems
from harness.report.properties import PropertyResult, by_property
from harness.report.symptom import exit_code
from harness.report.text import fit, line, seconds
from harness.report.trace import COUNTERS, Pair, Sample, Trace, traces
from harness.results import CellResult, RunResult, Verdict, WorkloadResult

NAME = "report.html"

MARKS = {
    Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.CRASH: "✗", Verdict.HANG: "✗", Verdict.SKIP: "–",
    Verdict.BUILD: "?", Verdict.BOOT: "?", Verdict.LOST: "?", Verdict.INFRA: "?",
}  # fmt: skip

Numbered = tuple[int, Finding]  # a finding and its number in its workload, from 1

_STAGES = ("source", "kernel", "image", "guest", "judge")
_FIRST_FACTS = (
    "release",
    "tree",
    "patches",
    "hold_anon_vma",
    "configuration",
    "config",
    "compiler",
    "qemu",
    "accel",
    "accel_reason",
    "cpu",
    "page_size",
    "endian",
)
_LINKED = (
    "console.log", "dmesg.txt", "journal.jsonl", "evidence.txt", "qemu.cmd", "config", "build.log", "cell.json",
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A page map and what to say above it."""

    ops: str
    svg: Markup


@dataclass(frozen=True)
class WorkloadView:
    """One workload in one cell, ready for the template."""

    anchor: str
    result: WorkloadResult
    properties: tuple[PropertyResult, ...]
    share: float  # of the longest workload of its cell, for the bar
    pictures: tuple[Picture, ...]
    findings: tuple[tuple[Numbered, ...], ...]  # by signature
    charts: tuple[tuple[str, Markup], ...]
    graphs: Mapping[int, Markup]  # what a second witness saw, by the record after which it looked


@dataclass(frozen=True)
class CellView:
    """One cell, ready for the template."""

    anchor: str
    result: CellResult
    workloads: tuple[WorkloadView, ...]
    facts: tuple[tuple[str, str], ...]
    command: str
    links: tuple[tuple[str, str], ...]  # text, relative address
    timings: Markup
    charts: tuple[tuple[str, Markup], ...]


def write_html(directory: Path, run: RunResult) -> Path:
    """Replace DIRECTORY/report.html; the pictures are made from the journals under DIRECTORY/cells."""
    return replace(directory / NAME, html(run, directory))


def html(run: RunResult, directory: Path) -> str:
    """The document."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"line": line, "cut": lambda text, limit: fit(text, limit), "seconds": seconds, "id": slug}
    environment.globals |= {"MARKS": MARKS, "anchor": anchor, "style": Markup(_style())}
    cells = tuple(_cell(cell, directory) for cell in run.cells)
    text = environment.get_template("report.html.j2").render(
        run=run,
        command=shlex.join(run.command),
        cells=cells,
        names=_workload_names(run),
        table={c.result.cell: {w.result.workload: w for w in c.workloads} for c in cells},
        problems=problems(run),
        shortfalls=unmet(run),
        gains=gains(run),
        unexpected={(s.cell, s.workload) for s in unmet(run)},
        answer=answer(run),
        counts=counts(run),
        Verdict=Verdict,
    )
    return fit(text)  # of the whole: what cannot be shown must not depend on each place in the template


def _style() -> str:
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def slug(text: str) -> str:
    """Fit for an id and for a fragment."""
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII) or "_"


def anchor(cell: str, workload: str = "", number: int = 0) -> str:
    """Where a cell, a workload or a finding is on the page."""
    return slug("--".join([cell] + [workload] * bool(workload) + [str(number)] * bool(number)))


def answer(run: RunResult) -> tuple[str, str]:
    """The one sentence at the top, and the class it is coloured by."""
    if run.cells and not run.finished:
        return "not finished", "unjudged"
    code = exit_code(run)
    if run.only and code is ExitCode.CANNOT_JUDGE and run.exit_code() is ExitCode.BAD:
        return f"bad in another way than by {run.only}", "unjudged"
    if code is ExitCode.CANNOT_JUDGE and run.exit_code() is ExitCode.GOOD:
        return "not judged as was asked", "unjudged"
    return {
        ExitCode.GOOD: ("good", "pass"),
        ExitCode.BAD: (f"bad, by {run.only}" if run.only else "bad", "bad"),
    }.get(code, ("could not be judged", "unjudged"))


def counts(run: RunResult) -> list[tuple[Verdict, int]]:
    """How many workloads ended how, without those that none did."""
    verdicts = [w.verdict for c in run.cells for w in c.tests]
    return [(v, n) for v in Verdict if (n := verdicts.count(v))]


def _workload_names(run: RunResult) -> list[tuple[str, tuple[str, ...]]]:
    """All workloads in their order, each with its properties."""
    names: dict[str, tuple[str, ...]] = {}
    for cell in run.cells:
        for w in cell.workloads:
            names[w.workload] = names.get(w.workload) or w.properties
    return list(names.items())


def _cell(cell: CellResult, directory: Path) -> CellView:
    place = directory / "cells" / cell.cell
    wanted = {w.workload: [f.seq for f in w.findings] for w in cell.workloads}
    traced = traces(place, wanted)
    last = {t.workload: t for t in traced}
    by_boot = {(t.workload, t.boot): t for t in traced}
    longest = max((w.seconds for w in cell.workloads), default=0.0) or 1.0
    return CellView(
        anchor=anchor(cell.cell),
        result=cell,
        workloads=tuple(
            _workload(cell, w, by_boot.get((w.workload, w.boot)) or last.get(w.workload), longest) for w in cell.workloads
        ),
        facts=_facts(cell),
        command=_read(place / "qemu.cmd"),
        links=_links(place, directory),
        timings=bar(_timings(cell)),
        charts=_overview(traced),
    )


def _workload(cell: CellResult, workload: WorkloadResult, trace: Trace | None, longest: float) -> WorkloadView:
    return WorkloadView(
        anchor=anchor(cell.cell, workload.workload),
        result=workload,
        properties=by_property(workload),
        share=workload.seconds / longest,
        pictures=tuple(_picture(workload, pair) for pair in trace.pairs) if trace else (),
        findings=_grouped(workload),
        charts=_charts(trace.samples, ()) if trace else (),
        graphs={drawing.seq: graph(drawing) for drawing in workload.drawings},
    )


def _grouped(workload: WorkloadResult) -> tuple[tuple[Numbered, ...], ...]:
    groups: dict[tuple[str, bool], list[Numbered]] = {}
    for number, f in enumerate(workload.findings, start=1):
        groups.setdefault((f.signature, f.follows), []).append((number, f))
    return tuple(tuple(g) for g in groups.values())


def _picture(workload: WorkloadResult, pair: Pair) -> Picture:
    shown = [f for f in workload.findings if pair.before.seq < f.seq <= pair.after.seq]
    return Picture(", ".join(pair.ops), page_map(pair, unexpected(shown)))


def _overview(traced: list[Trace]) -> tuple[tuple[str, Markup], ...]:
    samples = [s for t in traced for s in t.samples]
    bands, at = [], 0
    for t in traced:
        bands.append((at, len(t.samples), t.workload))
        at += len(t.samples)
    return _charts(samples, tuple(bands), 1120.0, 120.0)


def _charts(
    samples: list[Sample], bands: tuple[tuple[int, int, str], ...], width: float = 540.0, height: float = 96.0
) -> tuple[tuple[str, Markup], ...]:
    labels = tuple(s.label for s in samples)

    def series(*names: str) -> tuple[Series, ...]:
        return tuple(Series(n, tuple(s.values.get(n) for s in samples)) for n in names)

    ksm = Chart("KSM counters", series(*COUNTERS), labels, bands, " pages")
    swap = Chart("SwapFree, kB", series("SwapFree"), labels, bands, " kB", from_zero=False)
    return tuple((c.title, svg) for c in (ksm, swap) if len(samples) > 1 and (svg := draw(c, width, height)))


def _timings(cell: CellResult) -> list[tuple[str, float]]:
    names = [n for n in _STAGES if n in cell.timings] + sorted(n for n in cell.timings if n not in _STAGES)
    return [(n, cell.timings[n]) for n in names]


def _facts(cell: CellResult) -> tuple[tuple[str, str], ...]:
    facts: Mapping[str, str] = {"target": cell.target} | cell.facts
    keys = ["target", *(k for k in _FIRST_FACTS if k in facts), *(k for k in facts if k not in _FIRST_FACTS and k != "target")]
    return tuple((k.replace("_", " "), facts[k]) for k in keys if facts[k])


def _links(place: Path, directory: Path) -> tuple[tuple[str, str], ...]:
    """The cell's files, the second and later boots' after the first's."""
    try:
        there = sorted(p.name for p in place.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError:
        return ()
    there.sort(key=lambda n: next((i for i, known in enumerate(_LINKED) if _is_of(n, known)), len(_LINKED)))
    return tuple((name, quote(str((place / name).relative_to(directory)))) for name in there[:60])


def _is_of(name: str, known: str) -> bool:
    stem, _, suffix = known.partition(".")
    return name == known or (name.startswith(f"{stem}.") and name.endswith(f".{suffix}"))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as f:
            return f.read(16 << 10).decode("utf-8", "replace").strip()
    except OSError:
        return ""

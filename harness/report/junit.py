# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml: a suite per cell, a case per workload and property."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import junit_xml

from harness import __version__
from harness.guest.record import numbered
from harness.report.demands import Shortfall, unmet
from harness.report.output import replace
from harness.report.properties import PropertyResult, by_property
from harness.report.text import fit, line
from harness.results import CellResult, RunResult, Verdict, WorkloadResult

NAME = "junit.xml"
MAX_TEXT = 64 << 10  # characters in one element; the whole is in the attached files

# In this order at the head of each suite; further facts follow.
FACTS = ("release", "tree", "patches", "config", "compiler", "qemu", "accel", "accel_reason", "page_size")


def write_junit(directory: Path, run: RunResult) -> Path:
    """Replace DIRECTORY/junit.xml.  Names of suites and cases carry no revision: Jenkins compares runs by them."""
    return replace(directory / NAME, junit(run, directory))


def junit(run: RunResult, directory: Path) -> bytes:
    """The document; ``directory`` is where the attached files are."""
    return document([_suite(run, cell, directory.absolute()) for cell in run.cells])


def document(suites: Sequence[junit_xml.TestSuite]) -> bytes:
    """Suites as a file, without what the schema of Jenkins' xUnit plugin does not know or allow."""
    root = ElementTree.fromstring(junit_xml.to_xml_report_string(suites, prettyprint=False, encoding="utf-8"))
    for element in root.iter():
        element.attrib.pop("disabled", None)
        if "time" in element.attrib:
            element.set("time", f"{float(element.attrib['time']):.3f}")
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _line(text: str, limit: int = 300) -> str:
    return _tame(line(text, limit))


def _text(text: str) -> str:
    return _tame(fit(text, MAX_TEXT))


def _tame(text: str) -> str:
    """A guest names no file of the host."""
    return text.replace("[[ATTACHMENT", "[ATTACHMENT")


def _name(text: str) -> str:
    """Fit for a place in a dotted class name."""
    return re.sub(r"[^\w+-]", "_", text) or "_"


def _suite(run: RunResult, cell: CellResult, directory: Path) -> junit_xml.TestSuite:
    name = f"ksm-harness.{_name(cell.cell)}"
    missed = [s for s in unmet(run) if s.cell == cell.cell]
    cases = [case for w in cell.tests for case in _cases(name, w, directory / "cells" / cell.cell, missed)]
    cases += _demands(name, run, missed)
    return junit_xml.TestSuite(name, cases, timestamp=run.started or None, properties=_facts(run, cell))


def _facts(run: RunResult, cell: CellResult) -> dict[str, str]:
    facts = {"spec": run.kernel, "target": cell.target, "harness": run.version or __version__}
    facts |= {key: cell.facts.get(key, "") for key in FACTS}
    facts |= cell.facts
    facts |= {f"warning.{i}": text for i, text in enumerate(cell.warnings, start=1)}
    return {_line(k): _line(v, 4000) for k, v in facts.items()}


def _demands(suite: str, run: RunResult, missed: Sequence[Shortfall]) -> list[junit_xml.TestCase]:
    """A case for each property that is required; and one for an expectation that knows nothing of the cell."""
    texts = {s.prop: s.text for s in missed if not s.workload}
    names = [*run.require, *([""] if "" in texts else [])]
    cases = []
    for prop in names:
        case = junit_xml.TestCase(_line(prop) or "all", f"{suite}.{'require' if prop else 'expect'}")
        if prop in texts:
            case.add_error_info(_line(texts[prop]), _text(texts[prop]), Verdict.SKIP.value)
        cases.append(case)
    return cases


def _cases(suite: str, workload: WorkloadResult, directory: Path, missed: Sequence[Shortfall]) -> list[junit_xml.TestCase]:
    classname = f"{suite}.{_name(workload.workload)}"
    # Never begun, so that its properties are not known: still one case, or the loss would not be seen.
    shown = by_property(workload) or (PropertyResult("all", workload.verdict, workload.reason),)
    share = workload.seconds / len(shown)
    unexpected = next((s.text for s in missed if s.workload == workload.workload and not s.prop), "")
    cases = []
    for prop in shown:
        case = junit_xml.TestCase(_line(prop.prop), classname, elapsed_sec=share, allow_multiple_subelements=True)
        if unexpected:
            case.add_error_info(_line(unexpected), _text(unexpected), Verdict.SKIP.value)
        else:
            _outcome(case, prop, workload)
        if prop.verdict not in (Verdict.PASS, Verdict.SKIP):
            case.stdout = _attachments(directory, workload)
        cases.append(case)
    for gone in (s for s in missed if s.workload == workload.workload and s.prop):
        case = junit_xml.TestCase(_line(gone.prop), classname)
        case.add_error_info(_line(gone.text), _text(gone.text), Verdict.SKIP.value)
        cases.append(case)
    return cases


def _outcome(case: junit_xml.TestCase, prop: PropertyResult, workload: WorkloadResult) -> None:
    verdict, message = prop.verdict, _line(f"{prop.verdict}: {prop.reason}")
    if verdict is Verdict.SKIP:
        case.add_skipped_info(_line(prop.reason) or "no reason given")
    elif verdict is Verdict.FAIL:
        first = prop.findings[0]  # one failure a case, since consumers count elements; its text has all findings
        case.add_failure_info(_line(f"{first.signature}: {first.summary}"), _text(_findings_text(prop)), "FAIL")
    elif verdict.bad:
        case.add_failure_info(message, _text(_crash_text(workload)), verdict.value)
    elif verdict is not Verdict.PASS:
        case.add_error_info(message, _text(_lost_text(prop, workload)), verdict.value)


def _findings_text(prop: PropertyResult) -> str:
    return "\n".join(
        f"{f.signature} [{f.tier}] record {f.seq}\n  {f.summary}\n"
        f"  expected: {f.expected}\n  seen:     {f.seen}\n  why:      {f.why}\n  pages:    {f.pages or '-'}\n"
        for f in prop.findings
    )


def _crash_text(workload: WorkloadResult) -> str:
    head = f"{workload.reason}\nin progress: {workload.operation or 'nothing'} {workload.prop}\n\n"
    return head + "\n".join(c.text for c in workload.crashes)


def _lost_text(prop: PropertyResult, workload: WorkloadResult) -> str:
    found = f"\nfindings, not counted:\n{_findings_text(prop)}" if prop.findings else ""
    return prop.reason + found + "".join(f"\n{c.text}" for c in workload.crashes)


def _attachments(directory: Path, workload: WorkloadResult) -> str:
    """Files of the boot that the workload ran in, in the form of Jenkins' attachments plugin."""
    of_boot = (numbered(name, workload.boot) for name in ("console.log", "journal.jsonl", "evidence.txt", "qemu.cmd"))
    names = (*of_boot, "dmesg.txt", "config", "build.log")
    return "\n".join(f"[[ATTACHMENT|{fit(str(directory / n))}]]" for n in names if (directory / n).is_file())

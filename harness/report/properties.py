# SPDX-License-Identifier: GPL-2.0-or-later
"""A workload's result spread over the properties it shows: what run.json and JUnit have a place for each of."""

from __future__ import annotations

from dataclasses import dataclass

from harness.findings import Finding
from harness.results import Verdict, WorkloadResult


@dataclass(frozen=True)
class PropertyResult:
    """One property of one workload; ``listed`` is whether the workload says it shows it."""

    prop: str
    verdict: Verdict
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    listed: bool = True


def by_property(workload: WorkloadResult) -> tuple[PropertyResult, ...]:
    """The listed properties in their order, then those that only a finding names."""
    extra = tuple(dict.fromkeys(f.prop for f in workload.findings if f.prop not in workload.properties))
    return tuple(_property(workload, p, p not in extra) for p in workload.properties + extra)


def _property(workload: WorkloadResult, prop: str, listed: bool) -> PropertyResult:
    findings = tuple(f for f in workload.findings if f.prop == prop)
    verdict, reason = workload.verdict, workload.reason
    if verdict is Verdict.FAIL:
        verdict, reason = _of_failed(workload, findings)
    elif verdict in (Verdict.CRASH, Verdict.HANG):
        verdict, reason = _of_stopped(workload, prop, findings)
    return PropertyResult(prop, verdict, reason, findings, listed)


def _of_failed(workload: WorkloadResult, findings: tuple[Finding, ...]) -> tuple[Verdict, str]:
    if findings:
        return Verdict.FAIL, findings[0].summary
    if not workload.complete:  # nothing more is known
        return Verdict.LOST, f"the journal ended {f'during {workload.operation}' if workload.operation else 'early'}"
    return Verdict.PASS, ""


def _of_stopped(workload: WorkloadResult, prop: str, findings: tuple[Finding, ...]) -> tuple[Verdict, str]:
    """A crash belongs to the property in progress; if none was, to all."""
    if workload.prop not in workload.properties or prop == workload.prop:
        return workload.verdict, workload.reason
    if findings:
        return Verdict.FAIL, findings[0].summary
    return Verdict.LOST, f"{workload.verdict} in {workload.prop}: {workload.reason}"

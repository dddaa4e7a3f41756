# SPDX-License-Identifier: GPL-2.0-or-later
"""With a second witness a broken kernel's fault is named at the very operation that makes it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from harness import looks
from harness.drawing import Box
from harness.findings import Finding
from harness.graph import Graph
from harness.looks import Look
from harness.report import write_html
from harness.results import Verdict

from .conftest import MUTANTS, Ended, Harness

pytestmark = pytest.mark.system

LEAK = MUTANTS / "12-leak-put-remove-item.patch"
NO_REFERENCE = MUTANTS / "16-fork-early-return.patch"
STABLE_FLAG = 0x200


def test_the_unmodified_kernel_agrees_with_the_model_everywhere(harness: Harness) -> None:
    ended = harness("--witness")
    assert ended.code == 0, ended.told()
    assert all(verdict == "PASS" for verdict in ended.verdicts().values()), ended.told()
    assert not any(w.drawings for c in ended.run.cells for w in c.workloads)


def surplus(graph: Graph) -> int:
    """By how much the refcounts of anon_vmas exceed what items, vmas and descendants account for; reckoned here once more."""
    anon_vmas = {**graph.anon_vmas, **{a: v for a, v in graph.former.items() if v.active == 0 and v.refcount}}
    items = sum(1 for item in graph.items.values() if item.flags & STABLE_FLAG)
    linked = sum(1 for v in anon_vmas.values() if v.vmas)
    descendants = sum(1 for v in anon_vmas.values() if v.root != v.address)
    return sum(v.refcount for v in anon_vmas.values()) - items - linked - descendants


def of(ended: Ended, workload: str, number: int) -> list[Look]:
    """The looks of a workload that was the boot's one with this number."""
    assert list(ended.verdicts())[number] == workload
    return [look for look in looks.read_all(ended.out / "cells" / "x86_64" / looks.name(1)) if look.segment == number]


def test_a_leaked_reference_is_named_at_the_operation_that_leaks_it(harness: Harness) -> None:
    """put_anon_vma is missing where an item leaves the stable tree: at a scan, and at run=2."""
    shown = ("ref_leak", "owner_exit", "unmerge", "remap", "many_items")
    ended = harness("--witness", "--patch", LEAK, "--workload", ",".join(shown))
    assert ended.code == 1, ended.told()
    leaking = []
    for number, name in enumerate(ended.verdicts()):
        pairs = itertools.pairwise(of(ended, name, number))
        first = next((look.seq for before, look in pairs if surplus(look.graph) > max(0, surplus(before.graph))), None)
        if first is None:
            continue
        leaking.append(name)
        at = [f for f in ended.workload(name).findings if f.seq == first]
        assert [(f.prop, f.kind) for f in at] == [("P6", "reference-leak")], (name, ended.told())
        assert at[0].op in ("scan", "run"), at
    assert {"ref_leak", "owner_exit", "unmerge", "remap"} <= set(leaking)
    assert "P6:reference-leak:scan" in {f.signature for f in ended.workload("ref_leak").findings}
    assert "P6:reference-leak:run" in {f.signature for f in ended.workload("unmerge").findings}


def odd(ended: Ended, workload: str, finding: Finding) -> list[Box]:
    (drawing,) = (d for d in ended.workload(workload).drawings if d.seq == finding.seq)
    assert drawing.before is not None and not any(box.odd for box in drawing.before.boxes)
    return [box for box in drawing.after.boxes if box.odd]


def test_an_item_without_a_reference_is_named_at_the_scan_that_makes_it(harness: Harness, tmp_path: Path) -> None:
    """And drawn.  Without a witness it shows when a later scan, reclaim or migration follows the item's anon_vma, and crashes."""
    ended = harness("--witness", "--patch", NO_REFERENCE, "--workload", "fork_item")
    assert ended.code == 1, ended.told()
    result = ended.workload("fork_item")
    crashed = re.fullmatch(r"(?:scan|reclaim) \(seq (\d+)\)", result.operation)
    assert result.verdict is Verdict.CRASH and crashed, ended.told()
    first = result.findings[0]
    assert first.signature == "P15:item-anon-vma:scan"
    assert first.actors == ("C", "E")
    assert "holds no anon_vma" in first.summary and "after scan (record" in first.summary
    assert first.seq < int(crashed[1])
    marked = odd(ended, "fork_item", first)
    assert [box.text for box in marked] == ["stable, no anon_vma"] * len(marked)
    assert {box.title.partition("[")[0] for box in marked} == {"C.a", "E.a"}
    assert write_html(tmp_path, ended.run).read_text(encoding="utf-8").count('<svg class="graph"') == len(result.drawings)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks into the kernel's memory, drawn: what is alike is one box, what is wrong is marked, and both looks are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from harness.drawing import Box, Drawing, Panel
from harness.errors import UsageError
from harness.findings import Finding
from harness.report.graph import graph
from harness.report.html import html
from harness.report.runfile import from_data, to_data
from harness.results import CellResult, RunResult, Verdict, WorkloadResult
from tests.unit.oracle_story import N
from tests.unit.watched_story import Watched, merged
from tests.unit.witness_corruptions import item_in_another_node, references, without_item

SVG = "{http://www.w3.org/2000/svg}"


def drawn(story: Watched) -> Drawing:
    (drawing,) = story.oracle.drawings
    return drawing


def boxes(panel: Panel | None, column: int) -> dict[str, Box]:
    assert panel is not None
    return {box.title: box for box in panel.boxes if box.column == column}


def linked(panel: Panel, left: str, right: str) -> list[bool]:
    """Whether strongly, for each link between boxes of these titles."""
    found = [(panel.boxes[link.left].title, panel.boxes[link.right].title, link.strong) for link in panel.links]
    return [strong for a, b, strong in found if (a, b) == (left, right)]


def test_nothing_is_drawn_of_looks_that_are_well() -> None:
    assert merged().oracle.drawings == []


def test_equal_runs_are_one_box_and_lines_lead_from_nodes_to_the_vmas_of_owner_and_forks() -> None:
    story = Watched()
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.look(references(-1))
    panel = drawn(story).after
    assert boxes(panel, 0) == {"kpfn 0x1001 …": Box(0, "kpfn 0x1001 …", "2 items each", N)}
    assert {t: b.count for t, b in boxes(panel, 1).items()} == {f"P1.a[0..{N - 1}]": N, f"P2.a[0..{N - 1}]": N}
    assert {t: (b.text, b.odd) for t, b in boxes(panel, 2).items()} == {
        "C.a": ("refcount 1, root: P1.a", False),
        "P1.a": ("refcount 17, 18 is right", True),
        "P2.a": ("refcount 17", False),
    }
    assert set(boxes(panel, 3)) == {f"{actor}.a[0..{N - 1}]" for actor in ("P1", "P2", "C")}
    assert linked(panel, f"P1.a[0..{N - 1}]", "P1.a") == [False]
    assert linked(panel, "P1.a", f"P1.a[0..{N - 1}]") == [True]
    assert linked(panel, "P1.a", f"C.a[0..{N - 1}]") == [False]  # where the walk finds the fork
    assert linked(panel, "C.a", f"P1.a[0..{N - 1}]") == []


def test_the_look_before_stands_above() -> None:
    story = Watched()
    story.merged("P1", "P2")
    story.fork("P1", "C")
    story.look()
    story.look(references(1, "P2"))
    drawing = drawn(story)
    assert boxes(drawing.before, 2)["P2.a"] == Box(2, "P2.a", "refcount 17")
    assert boxes(drawing.after, 2)["P2.a"] == Box(2, "P2.a", "refcount 18, 17 is right", odd=True)


def test_an_item_that_is_missing_leaves_a_mark() -> None:
    story = merged()
    story.look(without_item)
    after = boxes(drawn(story).after, 1)
    assert after["C.a[3]"] == Box(1, "C.a[3]", "no rmap_item", odd=True)
    assert after[f"C.a[0..2,4..{N - 1}]"].count == N - 1
    assert boxes(drawn(story).before, 1)[f"C.a[0..{N - 1}]"].count == N


def test_an_item_in_another_node_stands_alone() -> None:
    story = merged()
    story.look(item_in_another_node)
    panel = drawn(story).after
    assert boxes(panel, 1)["C.a[3]"].odd
    assert sorted((b.count, b.text) for b in boxes(panel, 0).values()) == [(1, "2 items"), (1, "4 items"), (14, "3 items each")]


def test_what_another_observation_found_is_drawn_too() -> None:
    story = merged()
    story.kernel, kernel = None, story.kernel
    contents = [[1, 77, 0]] + [[1, i + 1, 0] for i in range(1, N)]
    assert story.verify("C", contents=contents)
    story.kernel = kernel
    assert story.look() == []
    assert not any(box.odd for box in drawn(story).after.boxes)


def test_as_svg_everything_is_inside_and_once() -> None:
    story = merged()
    story.look()
    story.look(references(1))
    drawing = drawn(story)
    root = etree.fromstring(str(graph(drawing)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    rects = root.findall(f"{SVG}rect")
    assert drawing.before is not None
    assert len(rects) == len(drawing.before.boxes) + len(drawing.after.boxes)
    corners = [tuple(float(r.get(k, "")) for k in ("x", "y", "width", "height")) for r in rects]
    assert all(x >= 0 and x + w <= width and y >= 0 and y + h <= height for x, y, w, h in corners)
    for i, (x, y, w, h) in enumerate(corners):
        assert not any(x < u + s and u < x + w and y < v + t and v < y + h for u, v, s, t in corners[:i])
    assert [r.get("class") for r in rects if "odd" in (r.get("class") or "")] == ["b2 odd"]
    assert "marked: P1.a: refcount 19, 18 is right" in (root.get("aria-label") or "")


def test_a_column_that_is_too_long_is_cut_but_not_what_is_wrong() -> None:
    story = Watched()
    story.merged("P1", "P2", npages=4)
    for i in range(45):
        story.fork("P1", f"C{i:02}")
    story.look(references(-1, "C44"))
    panel = drawn(story).after
    assert panel.left_out > 0
    assert boxes(panel, 2)["C44.a"].odd
    assert "more boxes would not fit" in graph(drawn(story))


def result(story: Watched, findings: list[Finding]) -> RunResult:
    workload = WorkloadResult("w", ("P6",), Verdict.FAIL, "x", tuple(findings), drawings=tuple(story.oracle.drawings))
    return RunResult((CellResult("x86_64", "x86_64", (workload,)),), "debian:6.1")


def test_it_is_kept_in_the_run_and_shown_in_the_report(tmp_path: Path) -> None:
    story = merged()
    run = result(story, story.look(references(1)))
    again = from_data(json.loads(json.dumps(to_data(run))))
    assert again == run
    text = html(again, tmp_path)
    assert text.count('<svg class="graph"') == 1
    assert f"memory at record {story.seq}" in text


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda panel: panel["links"][0].update(right=99), "links"),
        (lambda panel: panel["boxes"][0].update(column=4), "column"),
        (lambda panel: panel.update(boxes=7), "boxes"),
    ],
)
def test_damage_is_named(change: Any, where: str) -> None:
    story = merged()
    story.look(references(1))
    data = to_data(result(story, []))
    change(data["cells"][0]["workloads"][0]["drawings"][0]["after"])
    with pytest.raises(UsageError, match=where):
        from_data(data)

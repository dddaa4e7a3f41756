# SPDX-License-Identifier: GPL-2.0-or-later
"""report.html: one file, no script, nothing from outside, everything escaped; the pictures say what the journal says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from lxml import html as lxml_html
from markupsafe import Markup

from harness.findings import Finding
from harness.guest.record import Outcome
from harness.report.charts import Chart, Series, bar, draw
from harness.report.html import html, write_html
from harness.report.pagemap import page_map
from harness.report.pagestate import Row, Span, blocks, rows_of, ties, unexpected
from harness.report.trace import Pair, State, Trace, read_traces
from harness.results import CellResult, RunResult, Verdict, WorkloadResult
from harness.verdict import judge_cell
from tests.unit.results_sample import hostile, sample, still_mapped
from tests.unit.story import (
    CACHED_FLAGS,
    KSM_FLAGS,
    LOCKED_FLAGS,
    PLAIN_FLAGS,
    Journal,
    new_fork,
    shared_pages,
    swapped,
    write_cell,
)


def page(text: str) -> Any:  # the stubs' unions of what an XPath may give help nobody
    return lxml_html.document_fromstring(text)


def classes(svg: str, css: str) -> list[Any]:
    found: list[Any] = page(f"<body>{svg}</body>").xpath(f"//*[contains(concat(' ', @class, ' '), ' {css} ')]")
    return found


# The page


@pytest.mark.parametrize("make", [sample, hostile])
def test_self_contained_and_without_scripts(tmp_path: Path, make: object) -> None:
    run = sample(tmp_path) if make is sample else hostile(tmp_path)
    root = page(html(run, tmp_path))
    assert not root.xpath("//script | //link | //iframe | //object | //embed | //img | //base | //form")
    assert not root.xpath("//@*[starts-with(name(), 'on')]")
    for address in root.xpath("//@href | //@src"):
        assert address.startswith(("#", "cells/")) or address in ("run.json", "junit.xml"), address
    assert "@import" not in html(run, tmp_path)
    assert "url(http" not in html(run, tmp_path)


def test_hostile_text_is_text(tmp_path: Path) -> None:
    text = html(hostile(tmp_path), tmp_path)
    text.encode("utf-8")
    assert not any(c in text for c in "\0\x1b\u202e")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert all(" " not in i and "<" not in i for i in page(text).xpath("//@id"))


def test_written_as_a_whole_and_without_any_cell_on_disk(tmp_path: Path) -> None:
    assert write_html(tmp_path, sample()) == tmp_path / "report.html"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert page((tmp_path / "report.html").read_text(encoding="utf-8")).xpath("string(//h1)") == "debian:6.1: bad"


def test_matrix_has_every_verdict_with_its_reason_and_a_link_that_leads_somewhere(tmp_path: Path) -> None:
    run = sample(tmp_path)
    root = page(html(run, tmp_path))
    ids = set(root.xpath("//@id"))
    rows = {r.xpath("string(th)"): r for r in root.xpath("//table[@class='matrix']/tbody/tr")}
    assert list(rows) == [w.workload for w in run.cells[0].workloads]
    for workload in run.cells[0].workloads:
        chips = rows[workload.workload].xpath(".//a[contains(@class, 'chip')]")
        assert [c.text.split()[1] for c in chips] == [workload.verdict] * 2
        assert chips[0].get("title") == workload.reason
    assert {a[1:] for a in root.xpath("//a/@href") if a.startswith("#")} <= ids
    assert len(ids) == len(root.xpath("//@id"))


def test_one_problem_is_shown_once_with_all_its_cells(tmp_path: Path) -> None:
    root = page(html(sample(tmp_path), tmp_path))
    heads = [p.xpath("string(.//code)") for p in root.xpath("//div[starts-with(@class, 'problem')]")]
    assert heads.count("P1:still-mapped:reclaim") == 1
    (problem,) = root.xpath("//div[starts-with(@class, 'problem')][.//code = 'P1:still-mapped:reclaim']")
    assert problem.xpath("string(.//*[@class='scope'])") == "2 cells, 2 workloads"


def test_failing_workloads_are_open_and_passing_ones_are_not(tmp_path: Path) -> None:
    root = page(html(sample(tmp_path), tmp_path))
    opened = {d.get("id"): d.get("open") is not None for d in root.xpath("//details[starts-with(@class, 'load')]")}
    assert opened["x86_64--new_fork"] is True
    assert opened["x86_64--many_forks"] is False
    assert opened["x86_64--old"] is False
    assert opened["x86_64--cut"] is True


def test_the_unexpected_pages_are_outlined_where_they_are(tmp_path: Path) -> None:
    root = page(html(sample(tmp_path), tmp_path))
    failing = root.xpath("//details[@id='x86_64--new_fork']")[0]
    (odd,) = failing.xpath(".//*[@class='odd']")
    label = failing.xpath(".//*[name()='text'][contains(@class, 'bad')]")
    assert [text.text for text in label] == ["C.a"]
    assert float(odd.get("width")) == pytest.approx(503, abs=1)
    assert not root.xpath("//details[@id='x86_64--many_forks']//*[@class='odd']")


def test_links_to_the_cells_files_are_relative_and_exist(tmp_path: Path) -> None:
    run = sample(tmp_path)
    (tmp_path / "cells" / "x86_64" / "odd #name?.txt").write_text("x")
    root = page(html(run, tmp_path))
    links = root.xpath("//p[@class='files'][1]/a")
    assert [a.text for a in links[:2]] == ["console.log", "journal.jsonl"]
    assert "cells/x86_64/odd%20%23name%3F.txt" in [a.get("href") for a in links]


@pytest.mark.parametrize(
    ("verdicts", "finished", "word"),
    [
        ([Verdict.PASS, Verdict.SKIP], "x", "good"),
        ([Verdict.PASS, Verdict.LOST], "x", "could not be judged"),
        ([Verdict.LOST, Verdict.HANG], "x", "bad"),
        ([], "x", "could not be judged"),
        ([Verdict.PASS], "", "not finished"),
    ],
)
def test_answer(tmp_path: Path, verdicts: list[Verdict], finished: str, word: str) -> None:
    workloads = tuple(WorkloadResult(f"w{i}", ("P1",), v) for i, v in enumerate(verdicts))
    run = RunResult((CellResult("c", "c", workloads),), "k", finished=finished)
    assert page(html(run, tmp_path)).xpath("string(//h1)") == f"k: {word}"


def test_stays_small_with_ragged_maps(tmp_path: Path) -> None:
    names = [f"w{i}" for i in range(14)]
    journal = Journal()
    journal.hello()
    finding = still_mapped("w", "P1", 3)
    for name in names:
        journal.begin(name, ("P1",))
        for k in range(8):
            runs = [r for i in range(128) for r in ([1, "P", i * 7 + k, 1, KSM_FLAGS, 2], [1, "N"])]
            journal.obs(f"cycle {k}", {a: {"a": runs} for a in ("P1", "P2", "C", "D")}, k, k)
            journal.do("reclaim", memcg="t", keep=[])
        journal.end()
    cells = []
    for name in ("a", "b", "c", "d"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        (tmp_path / "cells" / name / "journal.jsonl").write_bytes(journal.data)
        loads = tuple(WorkloadResult(n, ("P1",), Verdict.FAIL, "r", (finding,) * 3) for n in names)
        cells.append(CellResult(name, name, loads, {"release": "6.1"}))
    text = html(RunResult(tuple(cells), "k", finished="x"), tmp_path)
    assert len(text) < 2 << 20
    assert text.count('class="map"') == 56


# Page states


def test_rows_of_an_observation() -> None:
    runs = [[3, "P", 100, 1, KSM_FLAGS, 3], [2, "P", 9, 0, LOCKED_FLAGS, 1], [1, "S", 64, 1], [4, "N"]]
    (row,) = rows_of({"procs": {"P1": {"areas": {"a": runs}}}})
    assert row.name == "P1.a"
    assert [(s.first, s.count, s.kind, s.locked, s.place) for s in row.spans] == [
        (0, 3, "ksm", False, 100),
        (3, 2, "ksm", True, 9),
        (5, 1, "swap", False, 64),
        (6, 4, "none", False, None),
    ]
    assert rows_of({"procs": {"P1": {"areas": {"a": [[1, "P", 5, 1, PLAIN_FLAGS, 1]]}}}})[0].spans[0].kind == "plain"


@pytest.mark.parametrize(
    "procs",
    [
        None,
        [],
        {"P1": None},
        {"P1": {"areas": 3}},
        {"P1": {"areas": {"a": "x"}}},
        {"P1": {"areas": {"a": [[0, "N"], [-1, "N"], ["1", "S"], 7]}}},
        {"P1": {"areas": {"a": [[1 << 40, "N"]]}}},
        {"P1": {"areas": {"a": [[1, "P", 1, 1, "zz", None]]}}},
    ],
)
def test_strange_observations_make_no_picture_and_no_error(procs: object) -> None:
    rows = rows_of({"procs": procs})
    page_map(Pair(State("a", 1, rows), State("b", 2, rows), ()), {})


def test_neighbours_that_look_alike_are_one_block() -> None:
    row = Row(
        "P", "a", (Span(0, 2, "ksm", place=7), Span(2, 3, "ksm", place=90), Span(5, 1, "swap", place=1), Span(6, 1, "swap", True))
    )
    assert [(s.first, s.count, s.kind, parts) for s, parts in blocks(row)] == [
        (0, 5, "ksm", 2),
        (5, 1, "swap", 1),
        (6, 1, "swap", 1),
    ]


def test_ties_are_the_pages_with_one_page_frame() -> None:
    one = Row("A", "a", (Span(0, 4, "ksm", place=100, stride=1), Span(4, 4, "swap", place=10, stride=1)))
    other = Row(
        "B",
        "a",
        (Span(0, 2, "ksm", place=100, stride=1), Span(2, 3, "ksm", place=500, stride=1), Span(5, 3, "swap", place=11, stride=1)),
    )
    assert ties(one, other) == [(0, 2, "ksm"), (5, 3, "swap")]
    # The same number as a page frame and as a place in swap is nothing in common.
    assert ties(Row("A", "a", (Span(0, 1, "ksm", place=3),)), Row("B", "a", (Span(0, 1, "swap", place=3),))) == []


def test_ties_of_different_strides_reach_one_page() -> None:
    level = Row("A", "a", (Span(0, 4, "ksm", place=100, stride=0),))
    rising = Row("B", "a", (Span(0, 4, "ksm", place=100, stride=1),))
    assert ties(level, rising) == [(0, 1, "ksm")]


def test_pages_named_by_findings() -> None:
    finding = still_mapped("w", "P1", 3)
    several = dataclasses.replace(finding, pages="C.a[3], C.b[0..15] and D.a[7..2]")
    assert unexpected([finding, several]) == {"C.a": [(0, 256), (3, 1)], "C.b": [(0, 16)]}


def state(seq: int, **rows: list[list[object]]) -> State:
    return State("s", seq, rows_of({"procs": {actor: {"areas": {"a": runs}} for actor, runs in rows.items()}}))


def test_map_of_locked_gone_and_new_rows() -> None:
    before = state(1, A=shared_pages(8, 2), B=shared_pages(8, 2))
    after = state(2, A=[[4, "P", 0x12000, 1, LOCKED_FLAGS, 1], [4, "S", 3, 1]], C=[[8, "N"]])
    svg = page_map(Pair(before, after, ("reclaim",)), {})
    assert len(classes(svg, "lock")) == 1
    assert svg.count("no such process") == 2
    assert len(classes(svg, "tie")) == 1


def test_many_rows_alike_are_one() -> None:
    many = state(1, **{f"C{i}": swapped(4) for i in range(200)})
    svg = page_map(Pair(many, many, ()), {})
    assert "C0.a ×200" in svg
    assert len(svg) < 3000


def test_outline_beyond_the_area_is_cut() -> None:
    small = state(1, C=shared_pages(4, 1, CACHED_FLAGS))
    svg = page_map(Pair(small, small, ()), {"C.a": [(2, 1000), (900, 5)]})
    (odd,) = classes(svg, "odd")
    assert float(odd.get("width", "")) == pytest.approx(2 * 20 + 3)


def test_outline_of_a_row_that_is_gone_draws_nothing() -> None:
    assert not classes(
        page_map(Pair(state(1, C=shared_pages(4, 1)), state(2, D=shared_pages(4, 1)), ()), {"C.a": [(0, 4)]}), "odd"
    )


# Which observations are shown


def traced(journal: Journal, wanted: dict[str, list[int]] | None = None) -> Trace:
    return read_traces([journal.data], 1, wanted or {})[-1]


def test_the_pair_around_reclaim_is_shown() -> None:
    journal = Journal()
    journal.hello()
    new_fork(journal)
    trace = traced(journal)
    (pair,) = trace.pairs
    assert (pair.before.label, pair.after.label, pair.ops) == ("forked", "after reclaim", ("reclaim",))
    assert [s.values["pages_sharing"] for s in trace.samples] == [0, 256, 256, 256]
    assert trace.samples[-1].values["SwapFree"] < 131068


def test_the_pair_at_which_a_finding_shows_goes_before() -> None:
    journal = Journal()
    journal.hello()
    journal.begin("w", ("P1",))
    seqs = []
    for k in range(9):
        journal.do("reclaim", memcg="t", keep=[])
        seqs.append(journal.obs(f"o{k}", {"P1": {"a": swapped(2)}}, 1, 1))
    journal.end()
    assert [p.after.label for p in traced(journal, {"w": [seqs[4], seqs[7] - 1]}).pairs] == ["o4", "o7"]
    assert [p.after.label for p in traced(journal).pairs] == ["o1"]
    assert len(traced(journal, {"w": seqs}).pairs) == 3


def test_without_reclaim_first_and_last() -> None:
    journal = Journal()
    journal.hello()
    journal.begin("w", ("P7",))
    for k in range(3):
        journal.obs(f"o{k}", {"P1": {"a": swapped(2)}}, k, k)
    (pair,) = traced(journal).pairs
    assert (pair.before.label, pair.after.label) == ("o0", "o2")


# Charts


def test_chart_scales_breaks_and_labels() -> None:
    chart = Chart(
        "t", (Series("a", (0, 10, None, 5)), Series("b", (None,) * 4)), ("w", "x", "y", "z"), ((0, 2, "one"), (2, 2, "two"))
    )
    svg = draw(chart)
    assert svg.count("<polyline") == 2
    assert svg.count("<circle") == 3
    assert "x: a 10" in svg
    assert ">10</text>" in svg


def test_chart_drops_points_on_a_level_line() -> None:
    svg = draw(Chart("t", (Series("a", (7,) * 300),), ()))
    assert len(svg) < 800


@pytest.mark.parametrize("values", [(), (None, None)])
def test_chart_of_nothing(values: tuple[int | None, ...]) -> None:
    assert draw(Chart("t", (Series("a", values),), ())) == Markup("")


def test_bar_is_proportional_and_escaped() -> None:
    svg = bar([("kernel", 3.0), ("<b>", 1.0), ("none", 0.0)], 400.0)
    widths = [float(e.get("width", "")) for e in classes(svg, "s0") + classes(svg, "s1") if e.get("height") == "14"]
    assert widths == pytest.approx([298.5, 98.5])
    assert "<b>" not in svg
    assert bar([("none", 0.0)]) == Markup("")


def test_findings_of_one_signature_fold(tmp_path: Path) -> None:
    findings: tuple[Finding, ...] = tuple(still_mapped("w", "P2", 3, who) for who in ("C", "D", "E"))
    run = RunResult((CellResult("c", "c", (WorkloadResult("w", ("P2",), Verdict.FAIL, "r", findings),)),), "k")
    root = page(html(run, tmp_path))
    assert len(root.xpath("//div[@class='finding']")) == 3
    assert root.xpath("string(//details[@class='same']/summary)") == "2 more of the same problem"


def test_pair_with_merged_pages_goes_before_one_without() -> None:
    journal = Journal()
    journal.hello()
    journal.begin("w", ("P5",))
    for label, runs in (("o0", swapped(2)), ("o1", shared_pages(2, 2)), ("o2", swapped(2)), ("o3", swapped(2))):
        journal.do("reclaim", memcg="t", keep=[])
        journal.obs(label, {"P1": {"a": runs}}, 1, 1)
    (pair,) = traced(journal).pairs
    assert (pair.before.label, pair.after.label) == ("o1", "o2")


def test_large_control_does_not_shrink_the_rest() -> None:
    before = State("s", 1, (*state(1, C=shared_pages(4, 1)).rows, Row("Z", "z", (Span(0, 1000, "plain"),))))
    svg = page_map(Pair(before, before, ()), {})
    assert {float(r.get("width", "")) for r in classes(svg, "ksm")} == {80.0}
    assert {float(r.get("width", "")) for r in classes(svg, "plain")} == {500.0}


def test_from_the_journal_of_a_broken_kernel_to_the_outline(tmp_path: Path) -> None:
    """Nothing scripted: the oracle judges, and what it names is outlined in the map after reclaim."""
    journal = Journal()
    journal.hello()
    new_fork(journal, stuck=("C",))
    directory = tmp_path / "cells" / "x86_64"
    write_cell(directory, [journal], [("new_fork", Outcome.ENDED, 1, "")])
    cell = judge_cell(directory, "x86_64", "x86_64", {"new_fork": ("P1",)})
    root = page(html(RunResult((cell,), "k", finished="x"), tmp_path))
    (odd,) = root.xpath("//*[@class='odd']")
    labels = [text.text for text in root.xpath("//*[name()='text'][contains(@class, 'r')][not(contains(@class, 'grid'))]")]
    row = labels.index("C.a")
    others = [float(r.get("y")) for r in root.xpath("//*[name()='rect'][@class='ksm']") if float(r.get("x")) > 500]
    assert [float(odd.get("y")) + 1.5] == others
    assert labels[: row + 1] == ["P1.a", "P2.a", "C.a"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""run.json: what is written is what is read, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.drawing import Box, Drawing, Link, Panel
from harness.errors import HostError, UsageError
from harness.findings import Finding, Tier
from harness.report.runfile import from_data, load_run, to_data, write_run
from harness.results import CellResult, CrashReport, RunResult, Verdict, WorkloadResult
from tests.unit.results_sample import hostile, sample

TEXT = st.text(max_size=12)
PROPS = st.sampled_from(["P1", "P2", "P3", "", "x"])
FINDINGS = st.builds(
    Finding,
    PROPS,
    TEXT,
    TEXT,
    st.sampled_from(Tier),
    TEXT,
    st.integers(0, 1 << 40),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.lists(TEXT, max_size=2).map(tuple),
    TEXT,
    st.booleans(),
)
PANELS = st.builds(
    Panel,
    TEXT,
    st.just((Box(0, "a", "b", 3), Box(1, "c", "", odd=True))),
    st.sampled_from([(), (Link(0, 1), Link(1, 0, True))]),
    st.integers(0, 3),
)
DRAWINGS = st.builds(Drawing, st.integers(0, 99), st.none() | PANELS, PANELS)
CRASHES = st.builds(CrashReport, TEXT, TEXT, TEXT, st.integers(0, 99), st.booleans())
WORKLOADS = st.builds(
    WorkloadResult,
    TEXT,
    st.lists(PROPS, max_size=3, unique=True).map(tuple),
    st.sampled_from(Verdict),
    TEXT,
    st.lists(FINDINGS, max_size=4).map(tuple),
    st.lists(CRASHES, max_size=2).map(tuple),
    TEXT,
    TEXT,
    st.floats(0, 1e6),
    st.integers(1, 9),
    st.lists(TEXT, max_size=1).map(tuple),
    st.booleans(),
    st.lists(DRAWINGS, max_size=2).map(tuple),
)
CELLS = st.builds(
    CellResult,
    st.sampled_from(["x86_64", "ppc64.64k"]),
    TEXT,
    st.lists(WORKLOADS, max_size=3).map(tuple),
    st.dictionaries(TEXT, TEXT, max_size=3),
    st.lists(TEXT, max_size=2).map(tuple),
    st.dictionaries(TEXT, st.floats(0, 1e6), max_size=2),
)
RUNS = st.builds(RunResult, st.lists(CELLS, max_size=2).map(tuple), TEXT, st.lists(TEXT, max_size=3).map(tuple), TEXT, TEXT, TEXT)


@given(RUNS)
def test_round_trip(run: RunResult) -> None:
    assert from_data(json.loads(json.dumps(to_data(run)))) == run


@pytest.mark.parametrize("run", [sample(), hostile()])
def test_round_trip_on_disk(tmp_path: Path, run: RunResult) -> None:
    path = write_run(tmp_path, run)
    assert path == tmp_path / "run.json"
    assert load_run(tmp_path) == run
    assert load_run(path) == run
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_layout_is_cell_workload_property_verdict_findings() -> None:
    data = to_data(sample())
    assert data["schema"] == 1
    assert data["exit_code"] == 1
    workload = next(w for w in data["cells"][0]["workloads"] if w["workload"] == "new_fork")
    (prop,) = workload["properties"]
    assert (prop["property"], prop["verdict"]) == ("P1", "FAIL")
    assert prop["findings"][0]["signature"] == "P1:still-mapped:reclaim"
    assert prop["findings"][0]["tier"] == "safety"
    problem = next(p for p in data["problems"] if p["signature"] == "P1:still-mapped:reclaim")
    assert problem["cells"] == ["x86_64", "ppc64"]


def test_property_that_the_workload_does_not_list_has_a_place_of_its_own() -> None:
    workload = next(w for w in to_data(sample())["cells"][0]["workloads"] if w["workload"] == "unmerge")
    assert [(p["property"], p["verdict"], p["listed"]) for p in workload["properties"]] == [
        ("P18", "PASS", True),
        ("P1", "FAIL", False),
    ]


def test_unknown_keys_are_ignored_everywhere() -> None:
    def sprinkle(value: Any) -> Any:
        if isinstance(value, list):
            return [sprinkle(v) for v in value]
        if isinstance(value, dict) and not {"release", "judge"} & value.keys():  # facts and timings are all keys
            return {k: sprinkle(v) for k, v in value.items()} | {"from the future": [1]}
        return value

    run = sample()
    assert from_data(sprinkle(json.loads(json.dumps(to_data(run))))) == run


def _with(path: list[str | int], value: object) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(to_data(sample())))
    node: Any = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schema"], 2, "schema 2"),
        (["schema"], None, "run.json.schema"),
        (["cells"], {}, "run.json.cells: list is wanted"),
        (["cells", 1, "workloads", 0, "verdict"], "FINE", "cells[1].workloads[0].verdict: 'FINE' is none of PASS, FAIL"),
        (["cells", 0, "workloads", 0, "seconds"], "1", "cells[0].workloads[0].seconds"),
        (["cells", 0, "workloads", 0, "boot"], True, "cells[0].workloads[0].boot"),
        (["cells", 0, "workloads", 0, "properties", 0, "findings", 0, "tier"], "x", "properties[0].findings[0].tier"),
        (["cells", 0, "cell"], "../../etc", "cannot be a cell's name"),
        (["cells", 0, "timings"], {"guest": "long"}, "cells[0].timings"),
        (["command"], [1], "run.json.command"),
        (["cells", 0, "workloads", 2, "crashes"], ["oops"], "crashes[0]: an object is wanted"),
    ],
)
def test_what_is_wrong_is_named(path: list[str | int], value: object, message: str) -> None:
    with pytest.raises(UsageError) as e:
        from_data(_with(path, value))
    assert message in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"run\.json"):
        load_run(tmp_path)


def test_missing_file_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name the directory of a run"):
        load_run(tmp_path)


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot write"):
        write_run(tmp_path / "gone", sample())

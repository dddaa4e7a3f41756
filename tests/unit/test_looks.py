# SPDX-License-Identifier: GPL-2.0-or-later
"""The second witness's looks on disk: what is written is read, whole or while it grows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import looks
from harness.graph import AnonVma, Chain, Graph, Item, Mm, Node, Page, Slot, Vma
from tests.unit.kernel_heap import Story

WORD = st.integers(0, (1 << 64) - 1)
WORDS = st.lists(WORD, max_size=4).map(tuple)
KINDS = {"int": WORD, "str": st.text(max_size=15), "tuple[int, ...]": WORDS}


def things(kind: type) -> st.SearchStrategy[Any]:
    fields = [KINDS[field.type] for field in kind.__dataclass_fields__.values()]  # type: ignore[attr-defined]
    return st.lists(st.builds(kind, *fields), max_size=4)


def maps(kind: type) -> st.SearchStrategy[Any]:
    key = next(iter(kind.__dataclass_fields__))  # type: ignore[attr-defined]
    return things(kind).map(lambda found: {getattr(thing, key): thing for thing in found})


GRAPHS = st.builds(
    Graph, items=maps(Item), nodes=maps(Node), chains=maps(Chain), unstable=WORDS, anon_vmas=maps(AnonVma),
    former=maps(AnonVma), vmas=maps(Vma), mms=maps(Mm), slots=things(Slot).map(tuple), pages=maps(Page),
    counters=st.dictionaries(st.sampled_from(["ksm_pages_shared", "seqnr"]), WORD),
    faults=st.lists(st.text(), max_size=2).map(tuple),
)  # fmt: skip


@given(GRAPHS)
def test_round_trip(graph: Graph) -> None:
    assert looks.from_data(json.loads(json.dumps(looks.to_data(graph)))) == graph


def graphs(n: int) -> list[Graph]:
    found = []
    for i in range(n):
        story = Story()
        story.heap.variable("ksm_pages_shared", i)
        found.append(story.heap.looker().look())
    return found


def write(path: Path, *graphs: Graph) -> list[looks.Look]:
    writer = looks.Writer(path)
    for seq, graph in enumerate(graphs):
        writer.write(2, seq, graph)
    writer.close()
    return [looks.Look(2, seq, graph) for seq, graph in enumerate(graphs)]


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / looks.name(1)
    one, two = graphs(2)
    assert looks.read_all(path) == []
    assert looks.read_all(path) == [] != write(path, one, one, two, one)
    assert [look.graph for look in looks.read_all(path)] == [one, one, two, one]
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert len(lines) == 4
    assert json.loads(lines[1]) == {"segment": 2, "of": 1, "same": True}


def test_read_while_it_grows(tmp_path: Path) -> None:
    whole, growing = tmp_path / "whole", tmp_path / looks.name(2)
    told = write(whole, *graphs(3))
    data, found = whole.read_bytes(), list[looks.Look]()
    reader = looks.Reader(growing)
    assert list(reader.read()) == []
    with growing.open("wb", buffering=0) as out:
        for at in range(0, len(data), 97):
            out.write(data[at : at + 97])
            found += reader.read()
    assert found == told
    assert reader.fault == ""
    reader.close()


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_a_file_that_is_cut_short(cut: int, tmp_path: Path) -> None:
    path = tmp_path / looks.name(1)
    told = write(path, *graphs(3))
    path.write_bytes(path.read_bytes()[:-cut])
    assert looks.read_all(path) == told[:2]


@pytest.mark.parametrize(
    "line",
    [b"not JSON", b"[]", b'{"segment":0,"of":1}', b'{"segment":0,"of":1,"graph":{"items":[[1,2],[3]]}}',
     b'{"segment":0,"of":1,"graph":{"items":7}}', b'{"segment":0,"of":1,"graph":{"slots":[[1],["x"],[[1]]],"nodes":[[1]]}}',
     b'{"segment":0,"of":null,"graph":{}}', b"[" * 100000],
)  # fmt: skip
def test_damage_is_told_and_ends_it(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / looks.name(1)
    told = write(path, *graphs(1))
    good = path.read_bytes()
    path.write_bytes(good + gzip.compress(line + b"\n") + good)
    reader = looks.Reader(path)
    assert list(reader.read()) == told
    assert reader.fault.startswith("damaged: ")
    path.write_bytes(good + b"garbage" * 9)
    reader = looks.Reader(path)
    assert list(reader.read()) == told
    assert reader.fault.startswith("damaged: ")


def test_a_full_file_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / looks.name(1)
    one, two, three = graphs(3)
    write(path, one)
    monkeypatch.setattr(looks, "MOST", int(1.5 * path.stat().st_size))
    write(path, one, two, three)
    reader = looks.Reader(path)
    assert [look.graph for look in reader.read()] == [one]
    assert "are kept of one boot" in reader.fault
    assert json.loads(gzip.decompress(path.read_bytes()).splitlines()[-1])["of"] == 1


def test_names() -> None:
    assert [looks.name(boot) for boot in (1, 2)] == ["witness.jsonl.gz", "witness.2.jsonl.gz"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""After a roam: books and censuses, from records alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness.findings import Finding
from harness.oracle import JournalContradiction, Oracle

HELLO = {"kind": "hello", "cpus": 1, "ksm_files": ["max_page_sharing"], "vmstat_keys": ["cow_ksm"], "proc_files": []}
KSM, ANON = "201800", "1800"
Pages = Mapping[str, list[list[Any]]]

# Two processes of four pages each: content 1 in five of them, one page of its own each for the rest.
BOOKS = {"W0": [[3, 1, 0], [1, 7, 0]], "W1": [[2, 1, 0], [1, 8, 0], [1, 9, 0]]}
MERGED: Pages = {
    "W0": [[3, "P", 100, 0, KSM, 5], [1, "P", 200, 0, ANON, 1]],
    "W1": [[2, "P", 100, 0, KSM, 5], [1, "P", 300, 0, ANON, 1], [1, "P", 400, 0, ANON, 1]],
}
SETTLED = {"pages_shared": "1", "pages_sharing": "4", "pages_unshared": "3", "pages_volatile": "0", "max_page_sharing": "256"}


class Story:
    """Records of a workload that roams."""

    def __init__(self) -> None:
        begin = {"seq": 0, "kind": "begin", "workload": "soak", "properties": ["P1"], "args": {}, "page_size": 4096}
        self.oracle = Oracle(HELLO, begin)
        self.seq = 0
        self.found: list[Finding] = []
        self.op("spawn", {"actor": "Z", "memcg": "t"}, pid=9)
        self.op("map", {"actor": "Z", "area": "z", "addr": "1000000000", "bytes": 4096})
        self.op("fill", {"actor": "Z", "area": "z", "first": 0, "count": 1, "tag": 99, "step": 0})

    def step(self, kind: str, **fields: Any) -> None:
        self.seq += 1
        self.found += self.oracle.step({"seq": self.seq, "kind": kind, "t": self.seq, "p": "", **fields})

    def op(self, name: str, arguments: Mapping[str, Any] | None = None, **results: Any) -> None:
        self.step("op", op=name, **(arguments or {}))
        self.step("ret", of=self.seq, op=name, rc=0, errno="", **results)

    def roam(self, wrong: Any = (), died: Any = ()) -> None:
        population = {
            name: {"pid": pid, "areas": {"a": {"addr": "1", "npages": 4, "book": book, "mergeable": [[4, True]]}}}
            for pid, (name, book) in enumerate(BOOKS.items(), start=10)
        }
        self.op("roam", {"ms": 1, "seed": "1"}, deeds={}, troubles={}, wrong=list(wrong), died=list(died), population=population)

    def settle(self, settled: bool = True) -> None:
        self.op("settle", scans=4, settled=settled, counters=[[1, 4, 3, 0]] * 5)

    def observe(
        self, pages: Pages = MERGED, ksm: Mapping[str, str] = SETTLED, items: Mapping[str, int] | None = None, **more: Any
    ) -> None:
        procs: dict[str, Any] = {n: {"pid": pid, "areas": {"a": pages[n]}} for pid, n in enumerate(BOOKS, start=10) if n in pages}
        for name, number in (items or {}).items():
            procs[name]["stat"] = {"ksm_rmap_items": number}
        procs["Z"] = {"pid": 9, "areas": {"z": [[1, "P", 900, 0, ANON, 1]]}}
        self.step("obs", label="x", stable=True, reads=2, ksm=dict(ksm), vmstat={}, meminfo={}, procs=procs, **more)

    @property
    def signatures(self) -> list[str]:
        return [f.signature for f in self.found]


@pytest.fixture
def story() -> Story:
    told = Story()
    told.roam()
    return told


def test_what_is_as_it_must_be(story: Story) -> None:
    story.settle()
    story.observe(slab={"anon_vma": 20, "ksm_rmap_item": 8}, frames={"ksm": 1, "ksm_swapcache": 0, "unmapped": 5})
    story.op("verify", {"actor": "W0", "area": "a", "first": 0, "count": 4}, contents=[[3, 1, 0], [1, 7, 0]])
    assert story.signatures == []


def test_bytes_of_others_and_of_nobody(story: Story) -> None:
    story.op("verify", {"actor": "W0", "area": "a", "first": 0, "count": 4}, contents=[[3, 1, 0], [1, 9, 0]])
    story.op("verify", {"actor": "W1", "area": "a", "first": 0, "count": 4}, contents=[[2, 1, 0], [1, -1, 0], [1, 9, 0]])
    assert story.signatures == ["P16:leak:verify", "P16:content:verify"]


def test_what_roamers_saw_themselves() -> None:
    story = Story()
    story.roam(wrong=[["W0", "a", 3, 7, -1]], died=[["W1", 7, -1]])
    assert story.signatures == ["P16:content:roam", "P16:killed:roam"]


def test_one_frame_with_two_contents(story: Story) -> None:
    pages = {**MERGED, "W0": [[4, "P", 100, 0, KSM, 6]]}
    story.observe({**pages, "W1": [[2, "P", 100, 0, KSM, 6], *MERGED["W1"][1:]]})
    assert story.signatures == ["P17:leak:roam"]


def test_mapcount_and_lost_pages(story: Story) -> None:
    story.observe({**MERGED, "W0": [[3, "P", 100, 0, KSM, 4], [1, "N"]]})
    assert story.signatures == ["P16:lost:roam", "P14:mapcount:roam"]


@pytest.mark.parametrize("name", ["pages_shared", "pages_sharing", "pages_unshared", "pages_volatile"])
def test_each_counter(story: Story, name: str) -> None:
    story.settle()
    story.observe(ksm={**SETTLED, name: str(int(SETTLED[name]) + 1)})
    assert story.signatures == [f"P14:counter-{name}:settle"]


def test_equal_pages_that_stay_apart(story: Story) -> None:
    story.settle()
    counters = {**SETTLED, "pages_sharing": "3", "pages_unshared": "4"}
    pages = {
        "W0": [[2, "P", 100, 0, KSM, 4], [1, "P", 500, 0, ANON, 1], MERGED["W0"][1]],
        "W1": [[2, "P", 100, 0, KSM, 4], *MERGED["W1"][1:]],
    }
    story.observe(pages, counters)
    assert story.signatures == ["P14:not-ksm:settle"]
    full = Story()
    full.roam()
    full.settle()
    full.observe(pages, {**counters, "max_page_sharing": "4"})
    assert full.signatures == []


def test_a_page_that_nobody_maps(story: Story) -> None:
    story.settle()
    story.observe(frames={"ksm": 2, "ksm_swapcache": 0, "unmapped": 5})
    assert story.signatures == ["P6:page-leak:settle"]


def test_items_that_stay_after_run_2(story: Story) -> None:
    story.op("run", {"value": "2"})
    story.observe(ksm={**SETTLED, "pages_sharing": "0", "pages_unshared": "0"})
    assert story.signatures == ["P18:still-ksm:run", "P18:counter-pages_shared:run"]


# Frame 100 may have lost its node: fork made both its ptes, which lie at one address.  Frame 150 cannot.
RELATIVES: Pages = {
    "W0": [[1, "P", 100, 0, KSM, 2], [2, "P", 150, 0, KSM, 3], MERGED["W0"][1]],
    "W1": [[1, "P", 100, 0, KSM, 2], [1, "P", 150, 0, KSM, 3], *MERGED["W1"][1:]],
}
NO_RELATIVES: Pages = {
    "W0": [[1, "P", 100, 0, KSM, 2], [2, "P", 150, 0, KSM, 3], MERGED["W0"][1]],
    "W1": [[1, "P", 150, 0, KSM, 3], [1, "P", 100, 0, KSM, 2], *MERGED["W1"][1:]],
}
NODELESS = {**SETTLED, "pages_sharing": "2", "pages_volatile": "2"}


def test_pages_without_a_node_explain_what_they_can(story: Story) -> None:
    story.settle()
    story.observe(RELATIVES, NODELESS, slab={"anon_vma": 20, "ksm_rmap_item": 8})
    assert story.signatures == []


@pytest.mark.parametrize(
    ("pages", "counters", "expected"),
    [
        (NO_RELATIVES, NODELESS, ["pages_shared", "pages_sharing", "pages_volatile"]),
        (RELATIVES, {**NODELESS, "pages_sharing": "1", "pages_volatile": "3"}, ["pages_sharing", "pages_volatile"]),
        (RELATIVES, {**NODELESS, "pages_unshared": "5", "pages_volatile": "0"}, ["pages_unshared", "pages_volatile"]),
        (RELATIVES, {**NODELESS, "pages_volatile": "1"}, ["pages_volatile"]),
        (RELATIVES, {**NODELESS, "pages_shared": "0", "pages_volatile": "3"}, ["pages_shared", "pages_volatile"]),
    ],
)
def test_and_no_more(story: Story, pages: Pages, counters: Mapping[str, str], expected: list[str]) -> None:
    story.settle()
    story.observe(pages, counters)
    assert set(story.signatures) == {f"P14:counter-{name}:settle" for name in expected}


def test_after_run_2_every_ksm_page_has_a_node(story: Story) -> None:
    story.op("run", {"value": "2"})
    story.op("mergeable", {"actor": "W0", "area": "a", "first": 0, "count": 4})
    story.settle()
    story.observe(RELATIVES, NODELESS)
    assert story.signatures == [f"P14:counter-pages_{name}:settle" for name in ("shared", "sharing", "volatile")]


def test_but_not_after_reads_that_may_have_made_pages(story: Story) -> None:
    story.op("run", {"value": "2"})
    story.op("read", {"actor": "W0", "area": "a", "first": 0, "count": 4})
    story.settle()
    story.observe(RELATIVES, NODELESS)
    assert story.signatures == []


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({"W0": [[1, "P"], [3, "S"]], "W1": [[1, "P"], [3, "S"]]}, []),
        ({"W0": [[2, "P"], [2, "S"]], "W1": [[4, "S"]]}, ["P1:still-mapped:reclaim"]),
    ],
)
def test_reclaim_gets_all_but_pages_without_a_node(story: Story, present: Mapping[str, Any], expected: list[str]) -> None:
    story.settle()
    story.observe(RELATIVES, NODELESS)
    states = {"Z": {"z": [[1, "S"]]}, **{name: {"a": runs} for name, runs in present.items()}}
    attempt = {"rc": 0, "errno": "", "ms": 1, "states": states}
    story.op("reclaim", {"memcg": "t", "keep": []}, attempts=[attempt], control="gone", lingering=0, why="quiet")
    assert story.signatures == expected


def test_a_pid_that_comes_round_again_inherits_anew(story: Story) -> None:
    story.settle()
    story.observe(items={"W1": 4})
    story.op("exit", {"actor": "W1"})
    story.settle()
    alone = {"W0": [[3, "P", 100, 0, KSM, 3], MERGED["W0"][1]]}
    story.observe(alone, {**SETTLED, "pages_sharing": "2", "pages_unshared": "1"})
    story.roam()
    story.settle()
    story.observe(items={"W1": 36})
    assert story.signatures == []
    story.settle()
    story.observe(items={"W1": 35})
    assert story.signatures == ["P15:counter-ksm_rmap_items:settle"]


def test_what_never_comes_to_rest(story: Story) -> None:
    story.settle(settled=False)
    assert story.signatures == ["P14:unsettled:settle"]


def test_leaks_when_all_have_exited(story: Story) -> None:
    zero = dict.fromkeys(SETTLED, "0")
    for anon_vmas in (20, 25):
        for name in list(BOOKS) if anon_vmas == 20 else []:
            story.op("exit", {"actor": name})
        story.op("settle", scans=4, settled=True, counters=[[0, 0, 0, 0]])
        procs = {"Z": {"pid": 9, "areas": {"z": [[1, "P", 900, 0, ANON, 1]]}}}
        story.step(
            "obs", label="x", stable=True, reads=2, ksm=zero, vmstat={}, meminfo={}, procs=procs,
            slab={"anon_vma": anon_vmas, "ksm_rmap_item": 0}, frames={"ksm": 0, "ksm_swapcache": 0, "unmapped": anon_vmas * 20},
        )  # fmt: skip
    assert story.signatures == ["P6:reference-leak:exit", "P6:page-leak:exit"]


def test_a_census_of_others_is_a_contradiction(story: Story) -> None:
    story.op("exit", {"actor": "W1"})
    with pytest.raises(JournalContradiction, match="lists the actors"):
        story.observe()

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a second witness saw, compared with the model: each single thing that is wrong in the kernel's memory is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.graph import Graph
from harness.oracle import Oracle
from tests.unit.oracle_story import recorded
from tests.unit.watched_story import Corruption, Watched, merged, put
from tests.unit.witness_corruptions import SINGLE
from tests.unit.witness_graph import Kernel


@pytest.mark.parametrize(("corrupt", "signatures"), SINGLE, ids=lambda v: getattr(v, "__name__", None))
def test_each_single_thing_that_is_wrong_is_named_once(corrupt: Corruption, signatures: set[str]) -> None:
    story = merged()
    found = story.look(corrupt)
    assert {f.signature for f in found} == signatures, found
    assert all("(record " in f.summary for f in found)
    story.oracle._judge._told.clear()  # each signature is told once in any case; a look repeats nothing by itself
    assert story.look(corrupt) == []


def test_chains_and_dups() -> None:
    story = Watched(p="P20")
    story.op("set", file="max_page_sharing", value="2")
    story.filled(*(f"P{i}" for i in range(1, 7)), npages=2)
    story.scan(3)
    assert story.model.ksmd.tree.chains == 2

    def dup_lost(story: Watched, seen: Graph) -> Graph:
        """A dup stands in the tree by itself."""
        chain = next(iter(seen.chains.values()))
        dup = seen.nodes[chain.dups[0]]
        counters = {**seen.counters, "ksm_stable_node_dups": seen.counters["ksm_stable_node_dups"] - 1}
        return replace(
            seen,
            nodes=put(seen.nodes, replace(dup, chain=0)),
            chains=put(seen.chains, replace(chain, dups=chain.dups[1:])),
            counters=counters,
        )

    def chains_mixed(story: Watched, seen: Graph) -> Graph:
        """A dup hangs in the chain of another content."""
        one, two = seen.chains.values()
        dup = replace(seen.nodes[one.dups[0]], chain=two.address)
        one, two = replace(one, dups=one.dups[1:]), replace(two, dups=(dup.address, *two.dups))
        return replace(seen, nodes=put(seen.nodes, dup), chains=put(seen.chains, one, two))

    assert [f.signature for f in story.look(dup_lost)] == ["P20:chain:scan"]
    story.oracle._judge._told.clear()
    assert story.look() == []
    assert [f.signature for f in story.look(chains_mixed)] == ["P20:chain:scan"]


def test_recorded_workloads_of_real_guests_go_through_with_looks() -> None:
    """The model's own graph after every record of all workloads compares clean: nothing in the comparison is at odds with it."""
    for target in ("x86_64", "ppc64"):
        hello, segments = recorded(target)
        for segment in segments:
            oracle = Oracle(hello, segment[0])
            kernel = Kernel(oracle.model, oracle.page_size)
            for record in segment[1:]:
                oracle.step(record)
                if record["kind"] in ("ret", "obs"):
                    found = oracle.look(record["seq"], kernel.look())
                    assert found == [], (segment[0]["workload"], record["seq"], found)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Recorded journals of unmodified kernels, tampered with: no change of an observation goes unseen."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from harness.oracle.runs import KPF_KSM
from tests.unit.oracle_story import Record, recorded, replayed


def _segment(target: str, workload: str) -> tuple[Record, list[Record]]:
    hello, segments = recorded(target)
    return hello, deepcopy(next(s for s in segments if s[0]["workload"] == workload))


@pytest.mark.parametrize("target", ["x86_64", "ppc64"])
def test_recorded_fork_stays_mapped(target: str) -> None:
    hello, segment = _segment(target, "new_fork")
    (ret,) = (r for r in segment if r["kind"] == "ret" and r["op"] == "reclaim")
    runs = ret["attempts"][-1]["states"]["C"]["a"]
    runs[:] = [[count, "P"] for count, _ in runs]
    found = list(replayed(hello, segment))
    assert found[0].signature == "P1:still-mapped:reclaim"
    assert all(f.follows for f in found[1:])


@pytest.mark.parametrize("workload", ["swapin", "cow", "unmerge", "fork_item", "failed_merge", "many_items", "split_vma"])
@pytest.mark.parametrize("name", ["pages_shared", "pages_sharing"])
def test_recorded_counter_is_off(workload: str, name: str) -> None:
    hello, segment = _segment("x86_64", workload)
    last = next(r for r in reversed(segment) if r["kind"] == "obs")
    last["ksm"][name] = str(int(last["ksm"][name]) + 1)
    assert [f.kind for f in replayed(hello, segment)] == [f"counter-{name}"]


def _observed_areas(segment: list[Record]) -> list[tuple[int, str, str]]:
    return [
        (i, actor, area)
        for i, r in enumerate(segment) if r["kind"] == "obs"
        for actor, proc in r["procs"].items() for area in proc["areas"]
    ]  # fmt: skip


def _gone(run: list[Any]) -> None:
    run[1:] = ["N"]


def _other_mapcount(run: list[Any]) -> None:
    run[5] += 1


def _other_kind(run: list[Any]) -> None:
    run[4] = f"{int(run[4], 16) ^ KPF_KSM:x}"


@pytest.mark.parametrize("workload", ["new_fork", "swapin", "cow", "locked", "split_vma", "owner_exit"])
@pytest.mark.parametrize("change", [_gone, _other_mapcount, _other_kind])
def test_no_page_of_a_recorded_observation_can_be_changed_unseen(workload: str, change: Callable[[list[Any]], None]) -> None:
    """In every observation and area, the first page: gone, mapped once more, plain instead of KSM or the reverse."""
    hello, segment = _segment("ppc64", workload)
    tried = 0
    for i, actor, name in _observed_areas(segment):
        run = segment[i]["procs"][actor]["areas"][name][0]
        if run[1] == "N" or (change is not _gone and run[1] != "P"):
            continue
        tried += 1
        changed = [*segment[:i], deepcopy(segment[i])]
        runs = changed[i]["procs"][actor]["areas"][name]
        head, tail = [1, *run[1:]], [run[0] - 1, run[1], run[2] + run[3], *run[3:]]
        change(head)
        runs[0:1] = [head, tail] if run[0] > 1 else [head]
        assert list(replayed(hello, changed)), f"{workload}: record {i}, {actor}.{name}"
    assert tried

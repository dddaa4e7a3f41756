# SPDX-License-Identifier: GPL-2.0-or-later
"""Configurations, and what must be judged: on real guests that are set up as these say."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.results import Verdict

from .conftest import MUTANTS, Ended, Harness, execute

pytestmark = pytest.mark.system

OFFLINING = {  # kernels that are broken where memory goes offline, and by what that is seen
    "19-cancel-wakes-nobody": "HANG",
    "19-offline-stays-at-cancel": "HANG",
    "19-scans-while-offlining": "P19:trees-in-use:offline",
}
SOME = "new_fork,fork_tree,many_items,stale_swap,swapin,special"


@pytest.mark.parametrize("config", ["zram", "thp", "defaults", "zram,thp"])
def test_one_kernel_in_several_configurations(config: str, harness: Harness) -> None:
    ended = harness("--config", config, "--workload", SOME)
    assert ended.code == 0, ended.told()
    assert ended.facts()["configuration"] == f"base x86_64 {config.replace(',', ' ')}"


@pytest.mark.parametrize("config", ["zram", "thp", "defaults"])
def test_a_lost_second_pass_is_seen_in_each(config: str, harness: Harness) -> None:
    ended = harness("--config", config, "--workload", "new_fork", "--patch", MUTANTS / "01-no-second-pass.patch")
    assert ended.code == 1, ended.told()
    assert ended.workload("new_fork").findings[0].signature == "P1:still-mapped:reclaim"


def test_what_a_kernel_lacks_makes_it_not_judged(tmp_path: Path, harness: Harness) -> None:
    wants = tmp_path / "wants.config"
    wants.write_text("guest: lru_gen=y\n")
    ended = harness("--config", wants, "--workload", "new_fork,cow")
    assert ended.code == 125, ended.told()
    assert {w.verdict for w in ended.run.cells[0].workloads} == {Verdict.SKIP}
    assert "lru_gen=y: No such file or directory" in ended.stdout


def test_a_skip_that_is_new(tmp_path: Path, harness: Harness) -> None:
    wants, expected = tmp_path / "one-node.config", tmp_path / "expected.toml"
    wants.write_text("boot: numa=off\n")
    some = ("--workload", "new_fork,numa_nodes")
    good = harness(*some, "--require", "P1,P20")
    assert good.code == 0, good.told()
    recorded: Ended = execute(good.out, "expect", good.out, "--out", expected)
    assert recorded.code == 0, recorded.told()
    worse = harness(*some, "--config", wants, "--expect", expected)
    assert worse.code == 125, worse.told()
    assert "numa_nodes: was judged before, and is skipped: the guest has one NUMA node" in worse.stdout
    assert execute(worse.out, "expect", worse.out, "--out", expected).code == 0
    same = harness(*some, "--config", wants, "--expect", expected)
    assert same.code == 0, same.told()
    required = harness(*some, "--config", wants, "--require", "P20")
    assert required.code == 125, required.told()


def test_memory_goes_offline(harness: Harness) -> None:
    ended = harness("--config", "movable", "--workload", "offlined")
    assert ended.code == 0, ended.told()
    assert ended.workload("offlined").verdict is Verdict.PASS, ended.told()


@pytest.mark.parametrize("name", OFFLINING)
def test_ksmd_waits_while_memory_goes_offline(name: str, harness: Harness) -> None:
    ended = harness("--config", "movable", "--workload", "offlined", "--patch", MUTANTS / f"{name}.patch")
    assert ended.code == 1, ended.told()
    workload = ended.workload("offlined")
    assert OFFLINING[name] in {workload.verdict.value, *(f.signature for f in workload.findings)}, ended.told()


@pytest.mark.breadth
@pytest.mark.parametrize("config", ["zram", "thp", "defaults", "mglru", "zswap", "numa", "memcg1", "mglru,zram,thp"])
def test_all_workloads_on_a_later_kernel(config: str, harness: Harness) -> None:
    ended = harness("--kernel", "debian:6.12", "--config", config)
    assert ended.code == 0, ended.told()


@pytest.mark.breadth
@pytest.mark.parametrize("target", ["x86_64", "aarch64"])
@pytest.mark.parametrize("config", [(), ("--config", "defaults")])
def test_the_kernel_that_debian_ships(target: str, config: tuple[str, ...], harness: Harness) -> None:
    ended = harness("--kernel", "distro:6.12", "--target", target, *config)
    assert ended.code == 0, ended.told()
    assert ended.facts(target)["tree"].startswith("linux-image-6.12.")

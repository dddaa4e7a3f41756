# SPDX-License-Identifier: GPL-2.0-or-later
"""Each kernel broken on purpose is judged bad, and for the right property; harmless changes are not.

All mutants of one kernel in one campaign: the header of a patch names the property.  Those in tests/mutants/6.12 break
what 6.1 has not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from harness.mutation import mutant

from . import test_configs
from .conftest import MUTANTS, Ended, execute, load_json

pytestmark = pytest.mark.system

ELSEWHERE = frozenset(test_configs.OFFLINING)  # shown in another configuration
PATCHES = {"debian:6.1": MUTANTS, "debian:6.12": MUTANTS / "6.12"}
MARKS = {"debian:6.1": (), "debian:6.12": (pytest.mark.breadth,)}
TRIED = {kernel: {m.name: m for m in mutant.read(where) if m.name not in ELSEWHERE} for kernel, where in PATCHES.items()}


def of_each(*, benign: bool) -> list[Any]:
    """Kernel and mutant, as parameters."""
    of = ((kernel, mutant) for kernel, tried in TRIED.items() for mutant in tried.values() if mutant.benign == benign)
    return [pytest.param(kernel, mutant.name, marks=MARKS[kernel]) for kernel, mutant in of]


Campaign = Callable[[str], Ended]
Fates = Callable[[str], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The campaign of a kernel, at its end: the first who asks has it run."""

    @cache
    def ended(kernel: str) -> Ended:
        directory = tmp_path_factory.mktemp("campaign")
        patches = directory / "patches"
        patches.mkdir()
        for name in TRIED[kernel]:
            shutil.copy(PATCHES[kernel] / f"{name}.patch", patches)
        out = directory / "out"
        return execute(out, "mutate", "--kernel", kernel, "--patches", patches, "--out", out, "--jobs", "2", timeout=6000)

    return ended


@pytest.fixture(scope="module")
def fates(campaign: Campaign) -> Fates:
    """What became of each mutant of a kernel."""

    @cache
    def told(kernel: str) -> dict[str, dict[str, Any]]:
        ended = campaign(kernel)
        assert (ended.out / "mutate.json").is_file(), ended.told()
        return {m["mutant"]: m for m in load_json(ended.out / "mutate.json")["mutants"]}

    return told


@pytest.mark.parametrize("kernel", [pytest.param(kernel, marks=MARKS[kernel]) for kernel in PATCHES])
def test_none_survives(campaign: Campaign, fates: Fates, kernel: str) -> None:
    assert campaign(kernel).code == 0, campaign(kernel).told()
    assert fates(kernel).keys() == TRIED[kernel].keys()


@pytest.mark.parametrize(("kernel", "name"), of_each(benign=False))
def test_broken_kernel_is_bad_for_the_right_property(fates: Fates, kernel: str, name: str) -> None:
    told = fates(kernel)[name]
    assert TRIED[kernel][name].expected, "its header names no property"
    assert told["fate"] == "killed", told
    assert set(TRIED[kernel][name].expected) & set(told["named"]), told


@pytest.mark.parametrize(("kernel", "name"), of_each(benign=True))
def test_harmless_change_is_good(fates: Fates, kernel: str, name: str) -> None:
    assert fates(kernel)[name]["fate"] == "clean", fates(kernel)[name]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Each kernel broken on purpose is judged bad, and for the right property; harmless changes are not.

All of tests/mutants in one campaign: the header of a patch names the property.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.mutation import mutant

from . import test_configs
from .conftest import MUTANTS, Ended, execute, load_json

pytestmark = pytest.mark.system

ELSEWHERE = frozenset(test_configs.OFFLINING)  # shown in another configuration
TRIED = {m.name: m for m in mutant.read(MUTANTS) if m.name not in ELSEWHERE}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The campaign, at its end."""
    directory: Path = tmp_path_factory.mktemp("campaign")
    patches = directory / "patches"
    patches.mkdir()
    for tried in TRIED.values():
        shutil.copy(MUTANTS / f"{tried.name}.patch", patches)
    out = directory / "out"
    return execute(out, "mutate", "--patches", patches, "--out", out, "--jobs", "2", timeout=6000)


@pytest.fixture(scope="module")
def fates(campaign: Ended) -> dict[str, dict[str, Any]]:
    """What became of each."""
    assert (campaign.out / "mutate.json").is_file(), campaign.told()
    return {m["mutant"]: m for m in load_json(campaign.out / "mutate.json")["mutants"]}


def test_none_survives(campaign: Ended, fates: dict[str, dict[str, Any]]) -> None:
    assert campaign.code == 0, campaign.told()
    assert fates.keys() == TRIED.keys()


@pytest.mark.parametrize("name", [m.name for m in TRIED.values() if not m.benign])
def test_broken_kernel_is_bad_for_the_right_property(fates: dict[str, dict[str, Any]], name: str) -> None:
    told = fates[name]
    assert TRIED[name].expected, "its header names no property"
    assert told["fate"] == "killed", told
    assert set(TRIED[name].expected) & set(told["named"]), told


@pytest.mark.parametrize("name", [m.name for m in TRIED.values() if m.benign])
def test_harmless_change_is_good(fates: dict[str, dict[str, Any]], name: str) -> None:
    assert fates[name]["fate"] == "clean", fates[name]

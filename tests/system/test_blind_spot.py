# SPDX-License-Identifier: GPL-2.0-or-later
"""The blind spot (P22) is remarked upon, and a kernel that has none is not bad."""

from __future__ import annotations

import pytest

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system


def test_a_kernel_without_the_blind_spot_is_good(harness: Harness) -> None:
    ended = harness("--patch", MUTANTS / "B22-benign-root-anon-vma.patch")
    assert ended.code == 0, ended.told()
    assert any("other semantics, not an error" in r for r in ended.workload("blind_spot").remarks)


def test_the_blind_spot_is_remarked_upon(harness: Harness) -> None:
    ended = harness("--workload", "blind_spot")
    assert ended.code == 0, ended.told()
    assert any("a known limit, not an error" in r for r in ended.workload("blind_spot").remarks)

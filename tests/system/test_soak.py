# SPDX-License-Identifier: GPL-2.0-or-later
"""A short soak: clean on the unmodified kernel, and not on one that loses a page's reference now and then."""

from __future__ import annotations

import pytest

from .conftest import MUTANTS, Harness

pytestmark = pytest.mark.system
SOAK = ("--smp", "2", "--workload", "soak", "--arg", "seconds=5")


def test_the_unmodified_kernel_is_good(harness: Harness) -> None:
    ended = harness(*SOAK)
    assert ended.code == 0, ended.told()
    assert ended.workload("soak").complete


def test_a_reference_that_is_kept_is_found(harness: Harness) -> None:
    ended = harness(*SOAK, "--patch", MUTANTS / "70-page-reference-kept.patch", "--fail-fast")
    assert ended.code == 1, ended.told()
    assert any(f.signature == "P6:page-leak:settle" for f in ended.workload("soak").findings), ended.told()

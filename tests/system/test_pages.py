# SPDX-License-Identifier: GPL-2.0-or-later
"""Every page size that an architecture has, and both of Power's MMUs: the same workloads, judged by the same model."""

from __future__ import annotations

import pytest

from harness.results import Verdict
from harness.targets import Target, choose, table

from .conftest import Ended, execute

pytestmark = [pytest.mark.system, pytest.mark.breadth]

ROWS = choose(["pages", "hash"], table())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """All workloads on them; builds four kernels where no earlier run has."""
    out = tmp_path_factory.mktemp("pages") / "out"
    return execute(out, "run", "--target", "pages,hash", "--out", out, timeout=6000)


def test_all_pass(pages: Ended) -> None:
    assert pages.code == 0, pages.told()
    cells = {c.cell: {w.workload: w.verdict for w in c.workloads} for c in pages.run.cells}
    assert list(cells) == [target.name for target in ROWS]
    for cell, verdicts in cells.items():
        assert verdicts == dict.fromkeys(verdicts, Verdict.PASS), cell


@pytest.mark.parametrize("row", ROWS, ids=[target.name for target in ROWS])
def test_the_guest_has_the_pages_and_the_mmu_of_its_row(pages: Ended, row: Target) -> None:
    facts = pages.facts(row.name)
    assert facts["page_size"] == str(row.page_size)
    if row.kernel_arch == "powerpc":
        dmesg = (pages.out / "cells" / row.name / "dmesg.txt").read_text(encoding="utf-8", errors="replace")
        assert ("hash-mmu: Initializing" in dmesg) == (row.group == "hash")
        assert ("radix-mmu: Mapped" in dmesg) == (row.group != "hash")


def test_rows_of_one_kernel_share_it(pages: Ended, good: Ended) -> None:
    key = {row.name: pages.facts(row.name)["kernel_key"] for row in ROWS}
    assert key["aarch64-4k"] == good.facts("aarch64")["kernel_key"]
    for arch in ("ppc64", "ppc64le"):
        assert key[f"{arch}-64k"] == key[f"{arch}-64k-hash"] == good.facts(arch)["kernel_key"]
        assert key[f"{arch}-4k"] == key[f"{arch}-4k-hash"]
    assert len(set(key.values())) == 7

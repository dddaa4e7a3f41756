# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kernels come from: a developer's own tree, patches, images; and what happens when that goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import load_run
from harness.store import Store

from .conftest import Ended, Harness, execute, leave_no_copies

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def tree(good: Ended, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout like a developer's: a copy of Debian's source, built in place once (which leaves .config and objects)."""
    source = sorted((Store().root / "src").glob("debian-6.1-*/linux"))[-1]
    tree = tmp_path_factory.mktemp("tree") / "linux"
    subprocess.run(["cp", "-a", "--", str(source), str(tree)], check=True)
    subprocess.run(["make", "-s", "-C", str(tree), "defconfig", "prepare"], check=True, stdout=subprocess.DEVNULL)
    yield tree
    leave_no_copies(f"tree:{tree}")


def listing(tree: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    found = {}
    for directory, _, names in os.walk(tree):
        for name in names:
            path = Path(directory, name)
            status = path.lstat()
            found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def test_a_developers_tree(tree: Path, harness: Harness) -> None:
    before = listing(tree)
    ended = harness("--kernel", f"tree:{tree}")
    assert ended.code == 0, ended.told()
    assert listing(tree) == before, "the tree was touched"

    ksm = tree / "mm/ksm.c"
    clean = ksm.read_text(encoding="utf-8")
    broken = clean.replace("if (!search_new_forks++)\n\t\tgoto again;", "search_new_forks++;")
    assert broken != clean
    ksm.write_text(broken, encoding="utf-8")
    try:
        bad = harness("--kernel", f"tree:{tree}", "--workload", "new_fork")
    finally:
        ksm.write_text(clean, encoding="utf-8")
    assert bad.code == 1, bad.told()
    assert bad.facts()["tree"] != ended.run.cells[0].facts["tree"] or bad.out == ended.out
    again = harness("--kernel", f"tree:{tree}", "--workload", "new_fork")
    assert again.code == 0, again.told()
    assert again.facts()["kernel_cached"] == "yes"


def test_a_ready_image(good: Ended, harness: Harness) -> None:
    image = good.facts()["kernel"]
    ended = harness("--kernel", f"image:{image}", "--workload", "new_fork")
    assert ended.code == 0, ended.told()


def test_a_patch_that_does_not_apply(good: Ended, harness: Harness, tmp_path: Path) -> None:
    patch = tmp_path / "stale.patch"
    patch.write_text("--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -1,3 +1,3 @@\n-no such line\n+nor this\n nothing\n here\n")
    ended = harness("--patch", patch, "--workload", "new_fork")
    assert ended.code == 125, ended.told()
    assert ended.verdicts() == {"new_fork": "BUILD"}
    assert "stale.patch" in ended.workload("new_fork").reason


def test_a_patch_that_does_not_compile(good: Ended, harness: Harness, tmp_path: Path) -> None:
    patch = tmp_path / "typo.patch"
    patch.write_text(
        "--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -264,7 +264,7 @@\n static int ksm_max_page_sharing = 256;\n \n"
        " /* Number of pages ksmd should scan in one batch */\n-static unsigned int ksm_thread_pages_to_scan = 100;\n"
        "+static unsigned int ksm_thread_pages_to_scan = oops;\n \n /* Milliseconds ksmd should sleep between batches */\n"
        " static unsigned int ksm_thread_sleep_millisecs = 20;\n"
    )
    ended = harness("--patch", patch, "--workload", "new_fork")
    assert ended.code == 125, ended.told()
    assert "mm/ksm.c:267:" in ended.workload("new_fork").reason, ended.told()
    assert "error:" in ended.workload("new_fork").reason
    assert "mm/ksm.c:267:" in (ended.out / "cells" / "x86_64" / "build.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [None, "", "not a patch\n", "--- a/../../x\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n"])
def test_what_is_no_patch(good: Ended, harness: Harness, tmp_path: Path, text: str | None) -> None:
    patch = tmp_path / "x.patch"
    if text is not None:
        patch.write_text(text)
    ended = harness("--patch", patch, "--workload", "new_fork")
    assert ended.code == 129, ended.told()
    assert ended.stderr.count("\n") <= 3


def test_an_installed_wheel_needs_no_checkout(good: Ended, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(root)], check=True
    )
    (wheel,) = tmp_path.glob("ksm_harness-*.whl")
    installed = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(installed), str(wheel)], check=True
    )
    out = tmp_path / "out"
    ended = execute(out, "run", "--workload", "new_fork", "--out", out, PYTHONPATH=str(installed), PYTHONSAFEPATH="1")
    assert ended.code == 0, ended.told()
    place = subprocess.run(
        [sys.executable, "-c", "import harness; print(harness.__file__)"],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
    ).stdout  # fmt: skip
    assert place.startswith(str(installed))
    shutil.rmtree(installed)


def test_kvm_is_used_only_where_it_works(good: Ended, harness: Harness) -> None:
    ended = harness("--workload", "new_fork", "--require-kvm")
    facts = good.facts()
    if facts["accel"] == "kvm":
        assert ended.code == 0, ended.told()
    else:
        assert ended.code == 125, ended.told()
        assert "KVM" in ended.told()
        assert load_run(good.out).cells[0].facts["accel_reason"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""git bisect run, as README has it: the commit is found that brought a symptom, whatever else is wrong with others.

The history is made of a real kernel: innocent edits, one culprit, commits that do not build, that do not boot, and that fail in
another way.  KSM_HARNESS_BISECT_COMMITS is its length.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.source import parse_spec, resolve
from harness.store import Store

from .conftest import MUTANTS, execute, leave_no_copies

pytestmark = pytest.mark.system

COMMITS = max(16, int(os.environ.get("KSM_HARNESS_BISECT_COMMITS", "16")))
SYMPTOM = "P1:still-mapped:reclaim"
WORDS = ("--workload", "new_fork", "--only", SYMPTOM, "--fail-fast")

# Part of the history, in sixteenths.  The first that bisection looks at is in the middle, and does not build.
NO_BUILD, NO_BOOT, OTHERWISE, CULPRIT = (8, 9), (10, 11), (4, 6), 13


def git(root: Path, *words: str) -> str:
    argv = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class History:
    """A repository with a checkout, and its commits from the first."""

    root: Path
    commits: tuple[str, ...]

    def at(self, sixteenth: int) -> str:
        """The commit at this part of the history."""
        return self.commits[sixteenth * (len(self.commits) - 1) // 16]


class Builder:
    """Makes commits on top of one another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commits: list[str] = []

    def commit(self, title: str, *paths: str) -> None:
        git(self.root, "update-index", "--", *paths)
        tree = git(self.root, "write-tree")
        parent = ["-p", self.commits[-1]] if self.commits else []
        self.commits.append(git(self.root, "commit-tree", tree, *parent, "-m", title))

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, (path, old)
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def append(self, path: str, line: str) -> None:
        with (self.root / path).open("a", encoding="utf-8") as f:
            f.write(f"{line}\n")

    def patch(self, name: str, *options: str) -> None:
        argv = ["patch", "-p1", "-s", *options, "-d", str(self.root), "-i", str(MUTANTS / f"{name}.patch")]
        subprocess.run(argv, check=True)


MAIN, KSM = "init/main.c", "mm/ksm.c"
RUNS, PANICS = "\tkernel_init_freeable();\n", '\tkernel_init_freeable();\n\tpanic("bad commit");\n'
BUILDS, BUILDS_NOT = "\nstatic int ksmd_should_run(void)\n{\n", "\nstatic int ksmd_should_run(void)\n{ oops\n"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    source = resolve(parse_spec("debian:6.1"), Store()).root
    root = tmp_path_factory.mktemp("bisect") / "linux"
    subprocess.run(["cp", "-a", "--", str(source), str(root)], check=True)
    git(root, "init", "-q")
    git(root, "-c", "core.looseCompression=0", "add", "-A", "-f", ".")
    made = Builder(root)
    made.commit("Linux 6.1", "Makefile")
    places = {n * COMMITS // 16: n for n in range(17)}
    for number in range(1, COMMITS + 1):
        path = (KSM, "mm/rmap.c", "mm/vmscan.c")[number % 3]
        made.append(path, f"/* innocent edit {number} */")
        changed, title = {path}, f"innocent edit {number}"
        match places.get(number):
            case 4:
                made.patch("29-unmerge-leaves-items")
                changed, title = {path, KSM}, "items stay"
            case 6:
                made.patch("29-unmerge-leaves-items", "-R")
                changed, title = {path, KSM}, "items go again"
            case 8:
                made.replace(KSM, BUILDS, BUILDS_NOT)
                changed, title = {path, KSM}, "does not build"
            case 9:
                made.replace(KSM, BUILDS_NOT, BUILDS)
                changed, title = {path, KSM}, "builds again"
            case 10:
                made.replace(MAIN, RUNS, PANICS)
                changed, title = {path, MAIN}, "does not boot"
            case 11:
                made.replace(MAIN, PANICS, RUNS)
                changed, title = {path, MAIN}, "boots again"
            case 13:
                made.patch("01-no-second-pass")
                changed, title = {path, KSM}, "culprit"
        made.commit(title, *changed)
    git(root, "update-ref", "refs/heads/main", made.commits[-1])
    git(root, "symbolic-ref", "HEAD", "refs/heads/main")
    assert git(root, "status", "--porcelain", "--untracked-files=no") == ""
    yield History(root, tuple(made.commits))
    leave_no_copies(f"tree:{root}", f"git:{root}@main")


def harness_words(*words: str | Path) -> Sequence[str]:
    return [sys.executable, "-m", "harness", "run", *map(str, words)]


def test_the_culprit_is_named(history: History, tmp_path: Path) -> None:
    root = history.root
    git(root, "bisect", "start", history.commits[-1], history.commits[0])
    argv = ["git", "bisect", "run", *harness_words("--kernel", "tree:.", "--out", tmp_path / "out", *WORDS)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(argv, cwd=root, env=env, capture_output=True, text=True, timeout=3000, check=False)
    told = f"{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
    log = git(root, "bisect", "log")
    git(root, "bisect", "reset", "main")
    print(log)
    assert ended.returncode == 0, told
    culprit = history.at(CULPRIT)
    assert f"{culprit} is the first bad commit" in ended.stdout, told
    middle = history.commits[NO_BUILD[0] * COMMITS // 16 : NO_BUILD[1] * COMMITS // 16]
    assert set(re.findall(r"^git bisect skip (\w+)", log, re.MULTILINE)) & set(middle), "it met no commit that does not build"
    assert git(root, "status", "--porcelain", "--untracked-files=no") == ""


@pytest.mark.parametrize(
    ("place", "code", "verdict"),
    [
        (0, 0, "PASS"),
        (OTHERWISE[0], 125, "FAIL"),
        (NO_BUILD[0], 125, "BUILD"),
        (NO_BOOT[0], 125, "BOOT"),
        (CULPRIT, 1, "FAIL"),
    ],
)
def test_what_bisection_is_told_of_each_kind(history: History, tmp_path: Path, place: int, code: int, verdict: str) -> None:
    git(history.root, "checkout", "-q", history.at(place))
    out = tmp_path / "out"
    ended = execute(out, "run", "--kernel", f"tree:{history.root}", "--out", out, *WORDS)
    assert ended.code == code, ended.told()
    assert ended.verdicts() == {"new_fork": verdict}
    assert ended.facts()["revision"] == history.at(place)


def test_a_revision_without_a_checkout_is_the_same_kernel(history: History, tmp_path: Path) -> None:
    git(history.root, "checkout", "-q", history.commits[0])
    out = tmp_path / "out"
    ended = execute(out, "run", "--kernel", f"git:{history.root}/.git@{history.at(CULPRIT)}", "--out", out, *WORDS)
    assert ended.code == 1, ended.told()
    assert ended.facts()["kernel_cached"] == "yes", "the bisection has built it"
    assert ended.facts()["revision"] == history.at(CULPRIT)
    assert git(history.root, "rev-parse", "HEAD") == history.commits[0]

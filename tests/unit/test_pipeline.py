# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run does with its directory, and that a lost cell is one cell; no kernel is built and no guest boots here."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from harness import outdir, pipeline, targets
from harness.cli import main
from harness.errors import ExitCode, HostError, UsageError
from harness.image import workload_table
from harness.kernel import Kernel
from harness.kernel import build as real_build
from harness.report import Progress, load_run, write_reports
from harness.results import RunResult, Verdict
from harness.source import Source
from harness.store import Store
from harness.targets import Target
from tests.unit.results_sample import sample

REFUSED = "--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -1 +1 @@\n-what is not there\n+x\n"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(tmp_path / "store"))
    return Store()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As little of a kernel as resolve() takes for one."""
    root = tmp_path / "linux"
    (root / "arch").mkdir(parents=True)
    (root / "mm").mkdir()
    (root / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n")
    (root / "mm" / "ksm.c").write_text("/* nothing */\n")
    return root


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    """One that does not apply to ``tree``: the verdict is BUILD, at once."""
    path = tmp_path / "fix.patch"
    path.write_text(REFUSED)
    return path


def words(tree: Path, patch: Path, out: Path) -> list[str]:
    return ["run", "--kernel", f"tree:{tree}", "--patch", str(patch), "--workload", "new_fork", "--out", str(out)]


def content(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The directory of a finished run."""
    out = tmp_path / "out"
    out.mkdir()
    write_reports(out, sample(out))
    return out


def interrupt(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)


def test_a_run_that_dies_before_its_first_cell(
    tree: Path, patch: Path, older: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "resolve", interrupt)
        assert main(words(tree, patch, older)) == ExitCode.INTERRUPTED
    # What holds now, and no verdict of the run before.
    assert sorted(p.name for p in older.iterdir()) == ["run.json", "run.log"]
    run = load_run(older)
    assert (run.cells, run.finished, run.kernel) == ((), "", f"tree:{tree} + {patch.name}")
    # It does not stand in the next one's way, nor would a death before run.json.
    assert main(words(tree, patch, older)) == ExitCode.CANNOT_JUDGE, capsys.readouterr().err
    shutil.rmtree(older / "cells")
    for name in ("run.json", "junit.xml", "report.html"):
        (older / name).unlink()
    assert main(words(tree, patch, older)) == ExitCode.CANNOT_JUDGE, capsys.readouterr().err
    (cell,) = load_run(older).cells
    assert [w.verdict for w in cell.workloads] == [Verdict.BUILD]
    assert cell.facts["hold_anon_vma"].startswith("cannot be told: patch fix.patch does not apply")


def test_cells_that_ended_stay_when_interrupted(tree: Path, patch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ending(Progress):
        def done(self, cell: str, text: str) -> None:
            super().done(cell, text)
            interrupt()

    monkeypatch.setattr("harness.cli.commands.Progress", Ending)
    out = tmp_path / "out"
    assert main([*words(tree, patch, out), "--target", "x86_64,ppc64"]) == ExitCode.INTERRUPTED
    run = load_run(out)
    assert [c.cell for c in run.cells][:1] == ["x86_64"]
    assert run.finished == ""
    assert (out / "run.log").exists()


@pytest.mark.parametrize("wrong", ["kernel", "patch", "config", "no patch"])
def test_bad_input_leaves_an_older_run_alone(wrong: str, tree: Path, patch: Path, older: Path, tmp_path: Path) -> None:
    before = content(older)
    asked = words(tree, patch, older)
    if wrong == "kernel":
        (tree / "Makefile").write_text("all:\n")
    elif wrong == "patch":
        patch.write_text("nothing of the kind\n")
    elif wrong == "no patch":
        patch.unlink()
    else:
        (tmp_path / "mine.config").write_text("KSM please\n")
        asked += ["--config", str(tmp_path / "mine.config")]
    assert main(asked) == ExitCode.USAGE
    assert content(older) == before


@pytest.mark.parametrize("existing", [False, True])
def test_bad_input_that_shows_late_leaves_nothing(existing: bool, patch: Path, tmp_path: Path) -> None:
    image, out = tmp_path / "vmlinux", tmp_path / "out"
    image.write_bytes(b"\x7fELF" + bytes(1000))
    if existing:
        out.mkdir()
    assert main(["run", "--kernel", f"image:{image}", "--patch", str(patch), "--out", str(out)]) == ExitCode.USAGE
    assert out.exists() == existing
    assert not existing or not list(out.iterdir())


def test_what_is_not_ours_is_refused_and_left_alone(tree: Path, patch: Path, tmp_path: Path) -> None:
    for name, text in (("thesis.txt", "x"), ("run.json", '{"laps": 3}'), ("run.json", "{"), ("cells/stem", "x")):
        out = tmp_path / f"out-{name.replace('/', '-')}-{len(text)}"
        (out / "cells").mkdir(parents=True)
        (out / name).write_text(text)
        before = content(out)
        assert main(words(tree, patch, out)) == ExitCode.USAGE
        assert content(out) == before
    (tmp_path / "file").write_text("x")
    assert main(words(tree, patch, tmp_path / "file")) == ExitCode.USAGE


def test_runs_beside_each_other_are_ours(older: Path) -> None:
    outdir.refuse_foreign(older.parent / "new")
    inner = older / "6.1"
    inner.mkdir()
    write_reports(inner, sample(inner))
    for name in ("run.json", "junit.xml", "report.html"):
        (older / name).unlink()
    with pytest.raises(UsageError, match="no run of ours"):
        outdir.refuse_foreign(older)  # cells/ is of nobody
    (older / "cells").rename(older.parent / "cells")
    outdir.refuse_foreign(older)


def test_out_is_not_inside_the_tree(tree: Path, patch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tree)
    before = content(tree)
    for out in (tree / "out", tree, tmp_path / "link" / "a" / "b"):
        assert main(words(tree, patch, out)) == ExitCode.USAGE
        assert "inside the kernel tree" in capsys.readouterr().err
        assert content(tree) == before
        assert not (tree / "out").exists()
    pipeline.check(plan(tree, patch, tmp_path / "linux-out"))


def plan(tree: Path, patch: Path, out: Path, *names: str) -> pipeline.RunPlan:
    row = targets.table()["x86_64"]
    wanted = tuple(dataclasses.replace(row, name=name) for name in names or ("x86_64",))
    return pipeline.RunPlan(f"tree:{tree}", wanted, (workload_table()["new_fork"],), out, patches=(patch,))


def quiet() -> Progress:
    return Progress(io.StringIO(), live=False)


def test_a_full_disk_loses_one_cell(
    tree: Path, patch: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def build(source: Source, target: Target, *rest: Any, **more: Any) -> Kernel:
        if target.name == "a":
            raise OSError(errno.ENOSPC, "No space left on device", str(out / "cells/a/config"))
        return real_build(source, target, *rest, **more)

    monkeypatch.setattr(pipeline, "build", build)
    run = pipeline.execute(plan(tree, patch, out, "a", "b"), store, quiet())
    assert [(c.cell, c.workloads[0].verdict) for c in run.cells] == [("a", Verdict.INFRA), ("b", Verdict.BUILD)]
    assert "No space left on device" in run.cells[0].workloads[0].reason
    assert run.finished
    assert (out / "junit.xml").exists()


def test_a_cells_directory_that_cannot_be_made_loses_one_cell(tree: Path, patch: Path, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A file where a directory is wanted; the table refuses such names.
    run = pipeline.execute(plan(tree, patch, out, "../run.json/a", "b"), store, quiet())
    assert [c.workloads[0].verdict for c in run.cells] == [Verdict.INFRA, Verdict.BUILD]


def test_run_json_that_cannot_be_written_costs_no_cell(tree: Path, patch: Path, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended: list[str] = []

    class Blocking(Progress):
        def cell(self, cell: str, stage: str, detail: str = "", fraction: float | None = None) -> None:
            if not (out / "run.json").is_dir():
                (out / "run.json").unlink()
                (out / "run.json").mkdir()

        def done(self, cell: str, text: str) -> None:
            ended.append(cell)

    with pytest.raises(HostError, match=r"run\.json"):
        pipeline.execute(plan(tree, patch, out, "a", "b"), store, Blocking(io.StringIO(), live=False))
    assert sorted(ended) == ["a", "b"]


def test_a_run_clears_what_the_older_one_left(older: Path) -> None:
    outdir.begin(older, RunResult((), "debian:6.1"))
    assert [p.name for p in older.iterdir()] == ["run.json"]
    assert load_run(older).cells == ()

# SPDX-License-Identifier: GPL-2.0-or-later
"""The command's words, its exit codes, and that no exception of ours ends as 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness import targets
from harness.cli import commands, main
from harness.cli.common import workloads_of
from harness.errors import BootError, BuildError, ExitCode, HostError
from harness.findings import Finding, Tier
from harness.image import workload_table
from harness.report import write_reports, write_run
from harness.results import CellResult, RunResult, Verdict, WorkloadResult


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BuildError("no"), 125),
        (BootError("no"), 125),
        (HostError("no"), 125),
        (OSError(28, "No space left on device", "/x"), 125),
        (KeyboardInterrupt(), 130),
        (ValueError("ours"), 128),
        (AssertionError(), 128),
        (RecursionError(), 128),
        (MemoryError(), 128),
        (ExceptionGroup("several", [ValueError("a"), BuildError("no")]), 125),
        (ExceptionGroup("several", [ExceptionGroup("deep", [KeyError("a")])]), 128),
    ],
)
def test_every_exception_has_its_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> ExitCode:
        raise error

    monkeypatch.setitem(commands.COMMANDS, "doctor", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # TMPDIR is looked at once in a process
    assert main(["doctor"]) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]])
def test_help_is_0(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("what", ["targets", "workloads", "kernels"])
def test_lists_as_json(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert all(isinstance(row, dict) for row in rows)


def test_a_users_target_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = targets.BUILTIN.read_text(encoding="utf-8")
    begin = ours.index("[aarch64]")
    mine = tmp_path / "mine.toml"
    mine.write_text(ours[begin : ours.index("[ppc64]")].replace("[aarch64]", "[board]"))
    assert main(["list", "targets", "--targets", str(mine), "--json"]) == 0
    assert "board" in {row["name"] for row in json.loads(capsys.readouterr().out)}
    mine.write_text('[board]\nkernel_arch = "arm64"\n')
    assert main(["list", "targets", "--targets", str(mine)]) == ExitCode.USAGE
    assert "[board].append is missing" in capsys.readouterr().err
    mine.write_text("[board\n")
    assert main(["list", "targets", "--targets", str(mine)]) == ExitCode.USAGE


def _run(*verdicts: Verdict) -> RunResult:
    finding = Finding("P1", "still-mapped", "reclaim", Tier.SAFETY, "w", 1, "s", "e", "s", "w")
    loads = tuple(WorkloadResult("w", ("P1",), v, findings=(finding,) if v is Verdict.FAIL else ()) for v in verdicts)
    return RunResult((CellResult("x86_64", "x86_64", loads),), "debian:6.1")


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((Verdict.PASS,), 0),
        ((Verdict.PASS, Verdict.SKIP), 0),
        ((Verdict.SKIP,), 125),
        ((), 125),
        *(((Verdict.PASS, bad, Verdict.LOST), 1) for bad in (Verdict.FAIL, Verdict.CRASH, Verdict.HANG)),
        *(((Verdict.PASS, v), 125) for v in (Verdict.BUILD, Verdict.BOOT, Verdict.LOST, Verdict.INFRA)),
    ],
)
def test_exit_code_of_a_run(verdicts: tuple[Verdict, ...], code: int) -> None:
    assert _run(*verdicts).exit_code() == code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["judge", "DIR"], 125),
        (["judge", "DIR", "--json"], 125),
        (["report", "DIR"], 0),
        (["list", "targets"], 128),
        (["list", "targets", "--json"], 128),
    ],
)
def test_a_closed_pipe_does_not_change_the_verdict(words: list[str], code: int, tmp_path: Path) -> None:
    write_run(tmp_path, _run(Verdict.BUILD))
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "harness", *(str(tmp_path) if word == "DIR" else word for word in words)]
    ended = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=Path(__file__).parents[2])
    os.close(write)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_report_leaves_run_json_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reports(tmp_path, _run(Verdict.PASS))
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "note": "of a later version"}))
    (tmp_path / "junit.xml").unlink()
    before = path.read_bytes()
    assert main(["report", str(tmp_path)]) == ExitCode.GOOD
    assert path.read_bytes() == before
    assert (tmp_path / "junit.xml").exists()


def test_all_workloads_and_one_more() -> None:
    table = workload_table(())
    usual = [name for name, workload in table.items() if not workload.on_request]
    assert [w.name for w in workloads_of(("all", "soak", "soak"), table)] == [*usual, "soak"]
    assert [w.name for w in workloads_of(("new_fork", "cow"), table)] == ["new_fork", "cow"]

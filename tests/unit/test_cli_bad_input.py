# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input ends as 129 with one line on stderr, whatever it is: never as a verdict on the kernel, never with a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode
from harness.mutation import generator
from harness.report import write_reports
from harness.results import CellResult, RunResult, Verdict, WorkloadResult


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What one line says."""
    assert main(words) == ExitCode.USAGE, capsys.readouterr().err
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert stderr.startswith("ksm-harness: ")
    return stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["run", "--kernel", "6.1"], "'6.1' does not name a kernel"),
        (["run", "--kernel", "debian:6.1=--help"], "not a Debian package version"),
        (["run", "--kernel", "tree:/nowhere/at/all"], "there is no directory"),
        (["run", "--kernel", "image:/nowhere"], "there is no file"),
        (["run", "--target", "vax"], "there is no target 'vax'; there are x86_64, aarch64, ppc64, ppc64le"),
        *(
            (["run", option, names], f"{option}: {names!r} has an empty name in it")
            for option in ("--target", "--workload", "--config", "--require")
            for names in ("", ",", "a,", ",a", "a,,b", "a, ,b")
        ),
        (["mutate", "--patches", ".", "--only", ""], "--only: '' has an empty name in it"),
        (["mutants", "--out", "new", "--function", "a,"], "--function: 'a,' has an empty name in it"),
        (["doctor", "--target", ""], "--target: '' has an empty name in it"),
        (["run", "--workload", "nap"], "there is no workload 'nap'"),
        (["run", "--workload-source", "/nowhere"], "no workload source at /nowhere"),
        (["run", "--config", "spicy"], "there is no configuration 'spicy'"),
        (["run", "--boot-arg", "a\nb"], "printable"),
        (["run", "--boot-arg", ""], "not empty"),
        (["run", "--boot-arg", "x" * 1501], "has room for 1500"),
        *(
            (["run", option, number], f"{option}: {number!r:.80} is not a whole number from 1 to 256")
            for option in ("--jobs", "--smp")
            for number in ("0", "-1", "257", "1.5", "1e2", "²", "٣", "", "9" * 5000)
        ),
        *((["run", "--memory", size], f"--memory: {size!r}") for size in ("", "-1", "²", "1e9", "9" * 30 + "T")),
        (["run", "--memory", "9" * 400], "is not a size"),
        (["mutants", "--out", "new", "--count", "²"], "--count: '²' is not a whole number"),
        (["mutants", "--out", "new", "--seed", "-1"], "--seed: '-1' is not a whole number"),
        *((["run", "--patience", factor], f"--patience: {factor!r}") for factor in ("nan", "inf", "1e400", "")),
        (["run", "--target", "x86-64"], "there is no target 'x86-64' (do you mean x86_64?); there are"),
        (["run", "--workload", "newfork"], "there is no workload 'newfork' (do you mean new_fork?); there are"),
        (["run", "--config", "zrma"], "there is no configuration 'zrma' (do you mean zram?)"),
        (["run", "--config", "n" * 300], "neither a file nor one of"),
        (["run", "--make-arg", "X=a\nb"], "printable"),
        (["run", "--cc", "nowhere-gcc"], "--cc nowhere-gcc: there is no such program"),
        (["run", "--cc", "./nowhere"], "--cc ./nowhere: there is no such program"),
        (["run", "--boot-arg", "\udcff"], "printable"),
        (["run", "--patience", "-1"], "--patience"),
        (["store", "gc", "--max-size", "9" * 400], "is not a size"),
        (["run", "--make-arg", "LLVM"], "--make-arg LLVM: write it as VARIABLE=VALUE"),
        (["run", "--target", "all", "--cross-compile", "x-"], "cannot be right for several targets"),
        (["run", "--memory", "much"], "--memory: 'much' is not a size"),
        (["run", "--memory", "64M"], "'64M' is not from 128M to 1024G"),
        (["run", "--memory", "513"], "in steps of 2 MiB"),
        (["run", "--arg", "novalue"], "KEY=VALUE"),
        (["run", "--arg", "a=b c"], "KEY=VALUE"),
        (["run", "--accel", "hax"], "--accel"),
        (["run", "--targets", "/nowhere.toml"], "cannot read the target table /nowhere.toml"),
        (["judge", "/nowhere"], "/nowhere"),
        (["report", "/nowhere"], "/nowhere"),
        (["store", "gc", "--max-size", "much"], "much"),
        (["store", "gc", "--max-size", "-1"], "'-1' is not a size"),
    ],
)
def test_bad_words(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(words, capsys)


def test_configurations_that_contradict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each other, or what every kernel needs: seen before anything is done."""
    (tmp_path / "a.config").write_text("CONFIG_TRANSPARENT_HUGEPAGE_MADVISE=y\nCONFIG_X=y\n")
    (tmp_path / "b.config").write_text("# CONFIG_X is not set\n")
    (tmp_path / "c.config").write_text("CONFIG_KSM=n\n")
    (tmp_path / "linux/arch").mkdir(parents=True)
    (tmp_path / "linux/Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\n")
    words = ["run", "--kernel", f"tree:{tmp_path}/linux", "--out", str(tmp_path / "out")]
    assert main([*words, "--config", f"{tmp_path}/a.config", "--config", f"{tmp_path}/b.config"]) == ExitCode.USAGE
    assert "CONFIG_X: a:2 wants y, but b:1 wants n" in capsys.readouterr().err
    assert main([*words, "--config", f"{tmp_path}/c.config"]) == ExitCode.USAGE
    assert "CONFIG_KSM: base:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def good() -> RunResult:
    cell = CellResult("x86_64", "x86_64", (WorkloadResult("new_fork", ("P1",), Verdict.PASS),))
    return RunResult((cell,), "debian:6.1", finished="2026-01-01T00:00:00+00:00")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to stand in, with things in it that are not what they are given for."""
    linux = tmp_path / "linux"
    (linux / "arch").mkdir(parents=True)
    (linux / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n")
    for name in generator.FILES:
        (linux / name).parent.mkdir(parents=True, exist_ok=True)
        (linux / name).write_text("int ksm_walk(void)\n{\n\treturn 1;\n}\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "image").write_bytes(bytes(512))
    (tmp_path / "garbage").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "file").write_text("a line\n")
    (tmp_path / "mutants").mkdir()
    (tmp_path / "mutants" / "a.patch").write_text("--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -3 +3 @@\n-\treturn 1;\n+\treturn 2;\n")
    (tmp_path / "good").mkdir()
    write_reports(tmp_path / "good", good())
    monkeypatch.chdir(tmp_path)
    return tmp_path


NOWHERE = {
    "file/out": "Not a directory",
    "file": "cannot write",
    "/proc/out": "No such file or directory",  # not even root makes one there
    "/sys/out": "cannot write",
    "n" * 300: "File name too long",
}

MORE = {"run": [], "build": [], "mutate": ["--patches", "mutants"], "mutants": ["--function", "ksm_walk"], "contains": []}
WRITING = ("run", "mutate", "mutants")


def words_of(command: str, kernel: str = "tree:linux", out: str = "out") -> list[str]:
    """A command with all that it needs."""
    named = [kernel] if command == "contains" else ["--kernel", kernel]
    return [command, *named, *MORE[command], *(["--out", out] if command in WRITING else [])]


@pytest.mark.parametrize("command", WRITING)
@pytest.mark.parametrize("out", NOWHERE)
def test_a_directory_that_cannot_be_made(command: str, out: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(words_of(command, out=out), capsys)
    assert out in told
    assert NOWHERE[out] in told
    assert "name another directory with --out" in told


def test_a_file_that_cannot_be_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--write-doc is looked at before the campaign begins; expect writes at once."""
    for path in ("mutants", "file/doc.md", "nowhere/doc.md"):
        assert path in refused([*words_of("mutate"), "--write-doc", path], capsys)
        assert path in refused(["table", "good", "--write-doc", path], capsys)
        assert path in refused(["expect", "good", "--out", path], capsys)
    assert not (place / "out").exists()


@pytest.mark.parametrize("command", MORE)
@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        ("tree:mutants", "is not a kernel source tree"),
        ("tree:file", "there is no directory file"),
        ("tarball:linux", "there is no file linux"),
        ("tarball:nowhere.tar.xz", "there is no file nowhere.tar.xz"),
        ("git:linux@HEAD", "is no git repository"),
        ("git:linux@--option", "'--option' is no revision"),
        ("git:linux", "no revision is named"),
        ("git:nowhere@HEAD", "there is no directory nowhere"),
        ("debian:six", "'six' is not a kernel series"),
        ("", "does not name a kernel"),
        ("tree:" + "n" * 300, "there is no directory"),
        ("tree:~nobody-of-this-name/linux", "there is no directory"),
        ("git:~nobody-of-this-name/linux@HEAD", "there is no directory"),
        ("image:pipe", "there is no file"),
        ("image:" + "n" * 300, "there is no file"),
    ],
)
def test_kernels_that_are_none(command: str, kernel: str, says: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(words_of(command, kernel), capsys)
    assert not (place / "out").exists()


@pytest.mark.parametrize("command", ["contains", "mutate", "mutants"])
def test_images_have_no_source(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "image is a ready image" in refused(words_of(command, f"image:{place}/image"), capsys)


ESCAPES = {
    "up.patch": "--- a/../../etc/passwd\n+++ b/../../etc/passwd\n@@ -1 +1 @@\n-x\n+y\n",
    "absolute.patch": "--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-x\n+y\n",
}


@pytest.mark.parametrize("command", ["run", "contains"])
def test_patches_that_are_none(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in ESCAPES.items():
        (place / name).write_text(text)
    (place / "empty.patch").touch()
    wrong = {
        "/dev/full": "no regular file", "pipe": "no regular file",
        "nowhere.patch": "No such file", "mutants": "Is a directory", "empty.patch": "is empty", "garbage": "is not a patch",
        "file": "is not a patch", "n" * 300: "File name too long", **dict.fromkeys(ESCAPES, "outside the tree"),
    }  # fmt: skip
    for path, says in wrong.items():
        told = refused([*words_of(command), "--patch", path], capsys)
        assert path in told
        assert says in told
    assert not (place / "out").exists()


@pytest.mark.parametrize("option", ["--targets", "--config", "--expect", "--semantics", "--workload-source"])
@pytest.mark.parametrize("path", ["garbage", "nowhere", "mutants", "pipe", "/dev/full", "n" * 300])
def test_files_that_are_none(option: str, path: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert path in refused([*words_of("run"), option, path], capsys)
    assert not (place / "out").exists()


NO_RUNS = (
    b"", b"{", b"[]", b"1", b'{"schema": "x"}', b'{"schema": 2}', b"[" * 100000, bytes(range(256)),
    b'{"schema": 1, "cells": [{"cell": "../x"}]}',
)  # fmt: skip


@pytest.mark.parametrize("command", ["judge", "report", "table", "expect"])
def test_runs_that_are_none(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "run").mkdir()
    for content in NO_RUNS:
        (place / "run" / "run.json").write_bytes(content)
        assert "run/run.json" in refused([command, "run"], capsys)
    for path in ("mutants", "nowhere", "pipe", "/dev/full", "n" * 300):
        assert "name the directory of a run" in refused([command, path], capsys)


def test_differences_that_are_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "garbage" in refused(["judge", "good", "--semantics", "garbage"], capsys)


def test_judge_believes_no_verdict_of_which_nothing_is_left(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "good"]) == ExitCode.CANNOT_JUDGE
    assert "good: " not in capsys.readouterr().out


@pytest.mark.parametrize("command", MORE)
def test_a_store_that_cannot_be(
    command: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSM_HARNESS_KEEP_FREE", "rubbish")
    assert "KSM_HARNESS_KEEP_FREE: 'rubbish' is not a size" in refused(words_of(command), capsys)
    monkeypatch.delenv("KSM_HARNESS_KEEP_FREE")
    for path in (place / "file", place / "file" / "store", Path("/proc/store")):
        monkeypatch.setenv("KSM_HARNESS_STORE", str(path))
        told = refused(words_of(command), capsys)
        assert str(path) in told
        assert "name another place for the store with KSM_HARNESS_STORE" in told
    assert not (place / "out").exists()


def test_no_place_to_stand(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "gone").mkdir()
    monkeypatch.chdir(place / "gone")
    (place / "gone").rmdir()
    assert "the current directory" in refused(["run", "--kernel", f"tree:{place}/linux"], capsys)


def test_no_home(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KSM_HARNESS_STORE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])  # nobody's uid, as containers have
    assert "KSM_HARNESS_STORE" in refused(["store", "list"], capsys)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Hard deaths: of the harness, of QEMU, of the disk.  Nothing collected is lost, nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import load_run

from .conftest import Ended, Harness, command

pytestmark = pytest.mark.system


def guests(out: Path) -> list[int]:
    """The QEMU processes whose working files are in this run's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"qemu-system" in line[0] and any(str(out).encode() in word for word in line):
            found.append(int(process.name))
    return found


def wait_for_guest(out: Path, seconds: float = 120) -> int:
    """The pid of QEMU when the guest has said hello."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        journal = out / "cells" / "x86_64" / "journal.jsonl"
        running = guests(out)
        if running and journal.exists() and b'"kind":"begin"' in journal.read_bytes():
            return running[0]
        time.sleep(0.02)
    raise AssertionError("no guest came up")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A long run under way, its guest at work."""
    out = tmp_path / "out"
    words = command("run", "--out", out, "--workload", "ref_leak,new_fork", "--arg", "cycles=300")
    with subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        yield process, out
        process.kill()


def test_kill_9_of_the_harness_takes_its_guests_along(good: Ended, running: tuple[subprocess.Popen[str], Path]) -> None:
    process, out = running
    wait_for_guest(out)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while guests(out) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not guests(out)
    assert b'"workload":"ref_leak"' in (out / "cells" / "x86_64" / "journal.jsonl").read_bytes()


def test_interrupt(good: Ended, running: tuple[subprocess.Popen[str], Path]) -> None:
    process, out = running
    wait_for_guest(out)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not guests(out)


def test_kill_9_of_qemu_is_the_hosts_fault(good: Ended, running: tuple[subprocess.Popen[str], Path]) -> None:
    process, out = running
    os.kill(wait_for_guest(out), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 125, stdout + stderr
    verdicts = {w.workload: str(w.verdict) for w in load_run(out).cells[0].workloads}
    assert verdicts["ref_leak"] == "INFRA", stdout


def test_finished_cells_stay_when_the_run_is_killed(good: Ended, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = command(
        "run", "--out", out, "--target", "aarch64,x86_64", "--jobs", "1", "--workload", "ref_leak", "--arg", "cycles=40"
    )
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not ((out / "run.json").exists() and load_run(out).cells):
            time.sleep(0.02)
        process.kill()
    run = load_run(out)
    assert run.cells
    assert run.cells[0].workloads[0].verdict == "PASS"
    assert run.finished == "" or len(run.cells) == 2


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare, so no disk of our own to fill")
def test_full_disk(good: Ended, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=400k none "$1" || exit 77; shift; exec "$@"'
    words = command("run", "--out", disk / "out", "--workload", "new_fork,fork_tree,owner_exit,many_items")
    ended = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(disk), *words],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip(f"no mount namespaces here: {ended.stderr}")
    assert ended.returncode == 125, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert "disk is full" in ended.stderr or "No space left" in ended.stdout + ended.stderr
    assert "INFRA" in ended.stdout


def test_two_runs_at_once(good: Ended, tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    runs = [subprocess.Popen(command("run", "--out", out, "--workload", "new_fork"), stdout=subprocess.DEVNULL) for out in outs]
    assert [run.wait(timeout=600) for run in runs] == [0, 0]


def test_an_output_directory_of_somebody_elses_is_left_alone(tmp_path: Path, harness: Harness) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("dear\n")
    ended = harness("--workload", "new_fork")
    assert ended.code == 129
    assert (tmp_path / "out" / "thesis.tex").read_text() == "dear\n"

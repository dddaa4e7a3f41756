# SPDX-License-Identifier: GPL-2.0-or-later
"""The product as its users run it: the command, in a process of its own, on real kernels and guests.

Kernels come from the store that the user has anyway (KSM_HARNESS_STORE or the cache directory), so that what has been built
once is not built again; on an empty machine the first test that needs a kernel builds it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.report import load_run
from harness.results import RunResult, WorkloadResult
from harness.source import parse_spec, resolve
from harness.store import Store

TARGETS = ("x86_64", "aarch64", "ppc64", "ppc64le")
MUTANTS = Path(__file__).parents[1] / "mutants"
FAULTS = Path(__file__).parents[1] / "faults"


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str
    out: Path

    @property
    def run(self) -> RunResult:
        """Its run.json."""
        return load_run(self.out)

    def workload(self, name: str, cell: str = "x86_64") -> WorkloadResult:
        """One workload's result."""
        cells = {c.cell: c for c in self.run.cells}
        return next(w for w in cells[cell].workloads if w.workload == name)

    def verdicts(self, cell: str = "x86_64") -> dict[str, str]:
        """Workload to verdict."""
        cells = {c.cell: c for c in self.run.cells}
        return {w.workload: str(w.verdict) for w in cells[cell].workloads}

    def properties(self) -> set[str]:
        """Those that findings name, in all cells."""
        return {f.prop for c in self.run.cells for w in c.workloads for f in w.findings}

    def facts(self, cell: str = "x86_64") -> dict[str, Any]:
        """What the report says of the cell."""
        return {c.cell: c for c in self.run.cells}[cell].facts

    def told(self) -> str:
        """All that helps when a test fails."""
        log = self.out / "run.log"
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:] if log.exists() else ""
        return f"exit {self.code}\n{self.stdout}\n{self.stderr}\n{tail}"


Harness = Callable[..., Ended]


os.environ.setdefault("KSM_HARNESS_KEEP_FREE", "12G")  # the tests copy whole trees, twice each


def leave_no_copies(*specs: str) -> None:
    """Remove what the store keeps of sources that the tests are done with: their private copies and objects."""
    kept = Store()
    for spec in specs:
        for copy in (kept.root / "work").glob(f"{resolve(parse_spec(spec), kept).family}-*"):
            shutil.rmtree(copy)


def command(*words: str | Path) -> list[str]:
    """The command line of ``ksm-harness`` with these words."""
    return [sys.executable, "-m", "harness", *map(str, words)]


def execute(out: Path, *words: str | Path, timeout: float = 3000, **env: str) -> Ended:
    """Run ``ksm-harness`` and wait."""
    ended = subprocess.run(
        command(*words), capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **env}, cwd=out.parent
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr, out)


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    """``harness("--workload", "new_fork", …)``: a run with its own directory, on x86_64 unless the words say otherwise."""

    def run(*words: str | Path, timeout: float = 3000) -> Ended:
        out = tmp_path / "out"
        return execute(out, "run", "--out", out, *words, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """All workloads on all targets with the unmodified kernel: run once, looked at by many tests."""
    out = tmp_path_factory.mktemp("good") / "out"
    return execute(out, "run", "--target", "all", "--out", out)


def load_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))

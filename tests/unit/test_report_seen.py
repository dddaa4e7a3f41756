# SPDX-License-Identifier: GPL-2.0-or-later
"""Several runs as one table: which counts, what is said of it, and where it is put."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode
from harness.report import write_run
from harness.report.markdown import replaced
from harness.report.seen import describe
from harness.results import CellResult, RunResult, Verdict, WorkloadResult

from .results_sample import still_mapped

OWN = {"x86_64": ("base", "x86_64"), "ppc64": ("base", "ppc64")}
GOOD = WorkloadResult("new_fork", ("P1",), Verdict.PASS)
BAD = WorkloadResult("fork_tree", ("P2",), Verdict.FAIL, "1 finding", (still_mapped("fork_tree", "P2", 7),))
SKIPPED = WorkloadResult("numa_nodes", ("P20",), Verdict.SKIP, "the guest has one NUMA node | <no more>")


def run(
    *workloads: WorkloadResult, kernel: str = "debian:6.1", target: str = "x86_64", day: int = 1, configuration: str = ""
) -> RunResult:
    facts = {
        "release": kernel.removeprefix("debian:") + ".9",
        "configuration": configuration or f"base {target}",
        "compiler": f"{target}-linux-gnu-gcc (Debian 12.2.0-1{day}) 12.2.0",
        "qemu": "QEMU emulator version 7.2.22",
    }
    cell = CellResult(target, target, workloads, facts)
    return RunResult((cell,), kernel, started=f"2026-11-0{day}T10:00:00+00:00", finished="x", version="1.2")


def test_kernels_by_targets_and_why_not_all_passed() -> None:
    text = describe(
        [
            run(GOOD, SKIPPED, kernel="debian:6.12", target="ppc64", day=2),
            run(GOOD, BAD, SKIPPED),
            run(GOOD, kernel="debian:6.12", target="board"),
        ],
        OWN,
    )
    assert text.splitlines() == [
        "| target | debian:6.1, 6.1.9 | debian:6.12, 6.12.9 |",
        "| --- | --- | --- |",
        "| x86_64 | 1 PASS, 1 FAIL [1], 1 SKIP [2] |  |",
        "| ppc64 |  | 1 PASS, 1 SKIP [2] |",
        "| board |  | 1 PASS |",
        "",
        "1. fork_tree, FAIL: P2:still-mapped:reclaim",
        "2. numa_nodes, SKIP: the guest has one NUMA node \\| &lt;no more>",
        "",
        "| kernel | seen | by | compiler | QEMU |",
        "| --- | --- | --- | --- | --- |",
        "| debian:6.1, 6.1.9 | 2026-11-01 | ksm-harness 1.2 | gcc 12.2.0 | 7.2.22 |",
        "| debian:6.12, 6.12.9 | 2026-11-01 to 2026-11-02 | ksm-harness 1.2 | gcc 12.2.0 | 7.2.22 |",
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_runs_the_newer_counts(order: int) -> None:
    runs = [run(GOOD, BAD, day=2), run(GOOD, GOOD, day=3)][::order]
    text = describe(runs, OWN)
    assert "| x86_64 | 2 PASS |" in text
    assert "FAIL" not in text
    assert "2026-11-02" not in text


def test_another_configuration_is_another_column() -> None:
    text = describe([run(GOOD), run(BAD, configuration="base x86_64 mglru zram")], OWN)
    assert "| target | debian:6.1, 6.1.9 | debian:6.1, 6.1.9, mglru, zram |" in text


def test_the_command_prints_it_or_puts_it_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, result in enumerate((run(GOOD), run(GOOD, target="ppc64"))):
        (tmp_path / str(number)).mkdir()
        write_run(tmp_path / str(number), result)
    words = ["table", str(tmp_path / "0"), str(tmp_path / "1" / "run.json")]
    assert main(words) == ExitCode.GOOD
    printed = capsys.readouterr().out
    assert "| ppc64 | 1 PASS |" in printed
    doc = tmp_path / "kernels.md"
    doc.write_text("# Kernels\n\n<!-- begin: what was seen -->\nold\n<!-- end: what was seen -->\n\nMore.\n")
    assert main([*words, "--write-doc", str(doc)]) == ExitCode.GOOD
    assert doc.read_text() == replaced("# Kernels\n\n", "what was seen", printed) + "\nMore.\n"
    assert main(["table", str(tmp_path)]) == ExitCode.USAGE

# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong has its own verdict, and takes nothing along that was fine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.results import Verdict, WorkloadResult

from .conftest import FAULTS, Ended, Harness, execute

pytestmark = pytest.mark.system

HALTED = r"""
/* A PVH kernel that does nothing: the guest hangs before there is a Linux. */
__asm__(".section .note, \"a\", @note\n"
	".long 4, 4, 18\n"		/* XEN_ELFNOTE_PHYS32_ENTRY */
	".asciz \"Xen\"\n"
	".long _start\n"
	".text\n.globl _start\n_start: cli\n1: hlt\njmp 1b\n");
"""


def fault(harness: Harness, *names: str, args: tuple[str, ...] = ()) -> Ended:
    """These fault workloads, then a sane one that must run all the same."""
    return harness("--workload", ",".join((*names, "new_fork")), "--workload-source", FAULTS, *args)


def crashed(harness: Harness, target: str, name: str) -> tuple[Ended, WorkloadResult]:
    """This fault workload alone, which the target's kernel complains of."""
    ended = harness("--target", target, "--workload", name, "--workload-source", FAULTS)
    assert ended.code == 1, ended.told()
    result = ended.workload(name, target)
    assert result.verdict is Verdict.CRASH
    return ended, result


def test_panic_in_a_workload(harness: Harness) -> None:
    ended = fault(harness, "fault_panic")
    assert ended.code == 1, ended.told()
    result = ended.workload("fault_panic")
    assert result.verdict is Verdict.CRASH
    assert result.prop == "P3"
    assert "sysrq" in " ".join(c.text for c in result.crashes).lower()
    after = ended.workload("new_fork")
    assert (after.verdict, after.boot) == (Verdict.PASS, 2), ended.told()


@pytest.mark.parametrize("target", ["aarch64", "ppc64", "ppc64le"])
def test_panic_is_recognised_on_every_target(harness: Harness, target: str) -> None:
    ended, result = crashed(harness, target, "fault_panic")
    assert any(c.kind in ("oops", "panic") for c in result.crashes), ended.told()


@pytest.mark.parametrize("target", ["x86_64", "aarch64", "ppc64"])
def test_a_report_that_the_kernel_survives_is_of_the_operation_of_its_time(harness: Harness, target: str) -> None:
    ended, result = crashed(harness, target, "fault_survived")
    assert result.operation.startswith("scan (seq ") and result.prop == "P14", ended.told()


def test_a_journal_that_is_not_whole_is_lost(harness: Harness) -> None:
    names = ("fault_cut", "fault_changed", "fault_missing", "fault_segv", "fault_error")
    ended = fault(harness, *names)
    assert ended.code == 125, ended.told()
    verdicts = ended.verdicts()
    assert {n: verdicts[n] for n in names} == dict.fromkeys(names, "LOST"), ended.told()
    assert verdicts["new_fork"] == "PASS"
    assert "checksum" in ended.workload("fault_changed").reason
    assert "ENOENT" in ended.workload("fault_error").reason


def test_what_the_kernel_refuses_is_held_against_it(harness: Harness) -> None:
    ended = fault(harness, "fault_refused", "fault_died")
    assert ended.code == 1, ended.told()
    assert ended.verdicts() == {"fault_refused": "FAIL", "fault_died": "FAIL", "new_fork": "PASS"}, ended.told()
    assert [f.signature for f in ended.workload("fault_refused").findings] == ["P11:refused:resize"], ended.told()
    assert [f.signature for f in ended.workload("fault_died").findings] == ["P16:killed:read"], ended.told()


def test_skip_has_its_reason(harness: Harness) -> None:
    ended = fault(harness, "fault_skip")
    assert ended.code == 0, ended.told()
    result = ended.workload("fault_skip")
    assert (result.verdict, result.reason) == (Verdict.SKIP, "this kernel has no such thing")


def test_a_run_of_skips_only_is_not_good(harness: Harness) -> None:
    ended = harness("--workload", "fault_skip", "--workload-source", FAULTS)
    assert ended.code == 125, ended.told()


def test_flooded_console(harness: Harness) -> None:
    ended = fault(harness, "fault_flood", args=("--arg", "mib=2"))
    assert ended.code == 0, ended.told()
    assert (ended.out / "cells" / "x86_64" / "console.log").stat().st_size > 1 << 20


def test_loop_in_the_workload_is_not_the_kernels_fault(harness: Harness) -> None:
    ended = fault(harness, "fault_loop", args=("--patience", "0.1"))
    assert ended.code == 125, ended.told()
    assert ended.verdicts() == {"fault_loop": "LOST", "new_fork": "PASS"}, ended.told()


def test_blocked_in_the_kernel_is_a_hang(harness: Harness) -> None:
    ended = fault(harness, "fault_blocked", args=("--patience", "0.1"))
    assert ended.code == 1, ended.told()
    assert ended.verdicts() == {"fault_blocked": "HANG", "new_fork": "PASS"}, ended.told()
    assert "fault_blocked" not in (ended.out / "cells" / "x86_64" / "qemu.cmd").read_text(encoding="utf-8")


def test_panic_at_boot(harness: Harness) -> None:
    ended = harness("--workload", "new_fork", "--boot-arg", "rdinit=/none", "--boot-arg", "init=/none")
    assert ended.code == 125, ended.told()
    result = ended.workload("new_fork")
    assert result.verdict is Verdict.BOOT
    assert "Kernel panic - not syncing" in result.reason, ended.told()


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_hang_before_init(harness: Harness, tmp_path: Path) -> None:
    source, image = tmp_path / "halted.c", tmp_path / "vmlinux"
    source.write_text(HALTED)
    subprocess.run(
        ["gcc", "-m32", "-nostdlib", "-static", "-fno-pic", "-Wl,-Ttext=0x100000,--build-id=none", "-o", str(image), str(source)],
        check=True,
    )
    ended = harness("--kernel", f"image:{image}", "--workload", "new_fork,fork_tree", "--patience", "0.1", timeout=300)
    assert ended.code == 125, ended.told()
    # No source tells how an image behaves, so that calibrate would have been the first.
    assert ended.verdicts() == {"calibrate": "BOOT", "new_fork": "BOOT", "fork_tree": "BOOT"}, ended.told()


def stored(good: Ended, tmp_path: Path) -> Path:
    """A copy of a good run, to be damaged and judged again."""
    copy = tmp_path / "stored"
    shutil.copytree(good.out, copy)
    return copy


def judged(copy: Path) -> Ended:
    """The copy, judged again."""
    return execute(copy, "judge", copy)


def test_stored_journal_cut_in_the_middle(good: Ended, tmp_path: Path) -> None:
    copy = stored(good, tmp_path)
    journal = copy / "cells" / "ppc64" / "journal.jsonl"
    data = journal.read_bytes()
    journal.write_bytes(data[: len(data) // 2])
    ended = judged(copy)
    assert ended.code == 125, ended.told()
    verdicts = list(ended.verdicts("ppc64").values())
    assert set(verdicts) == {"PASS", "LOST"}
    assert verdicts == sorted(verdicts, key=lambda v: v == "LOST"), "what came before the cut still counts"
    assert set(ended.verdicts("aarch64").values()) == {"PASS"}


def test_stored_journal_with_a_record_changed(good: Ended, tmp_path: Path) -> None:
    copy = stored(good, tmp_path)
    journal = copy / "cells" / "x86_64" / "journal.jsonl"
    data = journal.read_bytes()
    at = data.index(b'"pages_sharing":"', data.index(b'"workload":"fork_tree"')) + len(b'"pages_sharing":"')
    journal.write_bytes(data[:at] + (b"1" if data[at : at + 1] != b"1" else b"2") + data[at + 1 :])
    ended = judged(copy)
    assert ended.code == 125, ended.told()
    assert ended.workload("fork_tree").verdict is Verdict.LOST
    assert "checksum" in ended.workload("fork_tree").reason

# SPDX-License-Identifier: GPL-2.0-or-later
"""Golden texts: consoles of real kernels (6.1), each made to complain by a module, sysrq or its init."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from harness.guest import oops

OOPSES = Path(__file__).parent / "oopses"
ARCHES = ("x86_64", "aarch64", "ppc64", "ppc64le")


def console(name: str) -> str:
    return (OOPSES / f"{name}.txt").read_text(encoding="utf-8", errors="replace")


# What: kind, fatal, in the title, in the report's first line, in its last line (by architecture where it differs).
GOLDEN: dict[str, tuple[str, bool, str, str, str]] = {
    "sysrq-c": ("panic", True, "Kernel panic - not syncing: sysrq triggered crash", "Kernel panic", ""),
    "init-killed": ("panic", True, "Attempted to kill init! exitcode=0x00000100", "Kernel panic", ""),
    "null": ("oops", True, "NULL pointer dereference", "NULL pointer dereference", ""),
    "bug": ("bug", True, "kernel BUG at guilty.c:15!", "[ cut here ]", ""),
    "warn": ("warning", True, "WARNING: CPU: 0 PID: 1 at guilty.c:16", "[ cut here ]", "---[ end trace"),
    "list-corruption": ("bug", True, "list_del corruption. prev->next should be", "[ cut here ]", "---[ end trace"),
    "vm-bug-on-page": ("bug", True, "kernel BUG at guilty.c:19!", "page:(____ptrval____) refcount:1", ""),
    "bad-page": ("bug", True, "BUG: Bad page state in process init", "BUG: Bad page state", "Disabling lock debugging"),
    "slub-poison": (
        "slub",
        True,
        "BUG guilty (Tainted: G           O      ): Poison overwritten",
        "======",
        "FIX guilty: Marking all",
    ),
}
LAST = {"x86_64": "Kernel Offset: disabled", "aarch64": "Memory Limit: none"}
LAST_POWERPC = {"sysrq-c": "--- interrupt: 3000", "init-killed": "--- interrupt: 3000"}


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("what", GOLDEN)
def test_golden(arch: str, what: str) -> None:
    kind, fatal, title, first, last = GOLDEN[what]
    text = console(f"{arch}-{what}")
    reports = oops.extract(text)
    assert len(reports) == 1, [r.title for r in reports]
    report = reports[0]
    lines = report.text.splitlines()
    assert (report.kind, report.fatal) == (kind, fatal)
    assert title in report.title
    assert not report.title.startswith("[")
    assert first in lines[0]
    assert (last or LAST.get(arch) or LAST_POWERPC.get(what, "Kernel panic - not syncing: Fatal exception")) in lines[-1]
    assert text.replace("\r", "").splitlines()[report.line - 1 :][: len(lines)] == lines
    assert any(re.search(r"Call [Tt]race:", line) for line in lines)


@pytest.mark.parametrize(
    ("name", "kind", "title"),
    [
        ("aarch64-lockup", "soft-lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [init:1]"),
        ("ppc64-lockup", "soft-lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [init:1]"),
        ("x86_64-lockup", "rcu-stall", "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"),
        ("x86_64-oom", "oom", "init invoked oom-killer:"),
        ("doc-kcsan", "kcsan", "BUG: KCSAN: data-race in test_kernel_read / test_kernel_write"),
        *((f"{arch}-hung-task", "hung-task", "blocked for more than 2 seconds.") for arch in ARCHES),
    ],
)
def test_recorded_but_not_fatal(name: str, kind: str, title: str) -> None:
    text = console(name)
    reports = oops.extract(text)
    assert title in reports[0].title
    assert {(r.kind, r.fatal) for r in reports} == {(kind, False)}
    assert not oops.FATAL_STAMPED.search(text.encode())


def test_oom_report_is_whole() -> None:
    (report,) = oops.extract(console("x86_64-oom"))
    assert "Out of memory: Killed process" in report.text.splitlines()[-1]
    assert "Mem-Info:" in report.text


@pytest.mark.parametrize("name", ["x86_64-clean", "aarch64-clean", "ppc64-clean"])
def test_clean_boot(name: str) -> None:
    # powerpc says "WARNING: nvram corruption detected" at each boot in QEMU, which is no WARN.
    assert oops.extract(console(name)) == ()


def test_general_protection_fault() -> None:
    (report,) = oops.extract(console("x86_64-wild-pointer"))
    assert report.kind == "oops"
    assert report.title.startswith("general protection fault, probably for non-canonical address 0xdead000000000100")


def test_a_lock_that_nobody_holds_is_let_go_of() -> None:
    (report,) = oops.extract(console("x86_64-spinlock"))
    assert (report.kind, report.fatal) == ("bug", True)
    assert report.title == "BUG: spinlock already unlocked on CPU#0, init/28"
    assert report.text.splitlines()[-1].endswith("</TASK>")


@pytest.mark.parametrize(("name", "kind"), [("doc-kasan", "kasan"), ("doc-lockdep-rcu", "lockdep")])
def test_examples_from_the_kernels_documentation(name: str, kind: str) -> None:
    text = console(name)
    (report,) = oops.extract(text)
    assert (report.kind, report.fatal) == (kind, True)
    assert len(report.text.splitlines()) > 0.9 * len(text.splitlines())


def test_data_races_are_cut_out_one_by_one() -> None:
    text = console("doc-kcsan")
    two, one = oops.extract(text)
    assert one.title == "BUG: KCSAN: data-race in test_kernel_rmw_array+0x71/0xd0"
    assert (two.text + one.text).splitlines() == text.splitlines()


def test_live_pattern_agrees_with_extraction() -> None:
    for path in OOPSES.glob("*.txt"):
        raw = path.read_bytes()
        fatal = any(r.fatal for r in oops.extract(raw.decode("utf-8", "replace")))
        assert bool(oops.FATAL_STAMPED.search(raw)) == fatal, path.name


def test_cut_anywhere() -> None:
    for arch in ARCHES:
        for what in GOLDEN:
            text = console(f"{arch}-{what}")
            (whole,) = oops.extract(text)
            end = text.index(whole.title) + len(whole.title)
            for cut in range(0, len(text), 211):
                reports = oops.extract(text[:cut])
                assert len(reports) <= 2
                if cut > end:
                    assert reports[0].line == whole.line
                    assert any(r.fatal for r in reports)


def test_what_a_program_prints_is_not_the_kernels_word() -> None:
    text = console("x86_64-clean") + "init: odd\nBUG: unable to handle this\nKernel panic - not syncing: me\nOops: again\n"
    assert oops.extract(text) == ()
    assert not oops.FATAL_STAMPED.search(text.encode())


def test_program_output_in_between() -> None:
    text = console("x86_64-warn")
    lines = text.splitlines(keepends=True)
    middle = next(n for n, line in enumerate(lines) if "Call Trace" in line)
    mixed = "".join([*lines[:middle], "P1: working\r\n", "half a li", *lines[middle:]])
    (report,) = oops.extract(mixed)
    assert report.text.splitlines()[-1].endswith("---[ end trace 0000000000000000 ]---")
    assert "P1: working" in report.text


def test_begin_in_the_middle_of_a_programs_line() -> None:
    text = "[    1.000000] x\nworking...[    2.000000] kernel BUG at mm/ksm.c:1!\n"
    (report,) = oops.extract(text)
    assert report.title == "kernel BUG at mm/ksm.c:1!"
    assert oops.FATAL_STAMPED.search(text.encode())


def test_two_in_a_row_are_two() -> None:
    warn = console("aarch64-warn")
    assert [r.kind for r in oops.extract(warn + warn)] == ["warning", "warning"]
    bad = console("ppc64-bad-page")
    assert [r.kind for r in oops.extract(bad + console("ppc64-null"))] == ["bug", "oops"]


def test_without_time_stamps_and_with_callers_and_levels() -> None:
    text = console("x86_64-warn")
    plain = re.sub(r"(?m)^\[ *\d+\.\d+\] ", "", text)
    assert [r.title for r in oops.extract(plain)] == [oops.extract(text)[0].title]
    assert oops.FATAL_PLAIN.search(plain.encode())
    caller = re.sub(r"(?m)^(\[ *\d+\.\d+\]) ", r"<4>\1[    T1] ", text)
    assert [r.title for r in oops.extract(caller)] == [oops.extract(text)[0].title]
    assert oops.FATAL_STAMPED.search(caller.encode())


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("WARNING: mm/ksm.c:2776 at ksm_scan_thread+0x1/0x2, CPU#0: ksmd/23", "warning"),
        ("WARNING: at ../src/mm/ksm.c:715 remove_stable_node+0x71/0x80()", "warning"),
        ("WARNING: possible circular locking dependency detected", "lockdep"),
        ("INFO: possible recursive locking detected", "lockdep"),
        ("UBSAN: array-index-out-of-bounds in mm/ksm.c:1:2", "ubsan"),
        ("BUG: Bad rss-counter state mm:(____ptrval____) type:MM_ANONPAGES val:1", "bug"),
        ("BUG: Bad page map in process P1  pte:1 pmd:2", "bug"),
        ("BUG: sleeping function called from invalid context at mm/ksm.c:1", "bug"),
        ("BUG: scheduling while atomic: P1/31/0x00000002", "bug"),
        ("BUG anon_vma (Not tainted): Object already free", "slub"),
        ("Oops: Kernel access of bad area, sig: 11 [#1]", "oops"),
        ("Internal error: Oops - BUG: 00000000f2000800 [#1] SMP", "oops"),
        ("Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP", "oops"),
    ],
)
def test_first_lines(line: str, kind: str) -> None:
    text = f"[    1.000000] fine\n[    2.000000] {line}\n"
    (report,) = oops.extract(text)
    assert (report.kind, report.fatal, report.title) == (kind, True, line)
    assert oops.FATAL_STAMPED.search(text.encode())


def test_a_page_dump_alone_is_not_a_crash() -> None:
    # mm/memory_hotplug.c: dump_page(page, "migration failure")
    text = (
        "[    1.0] \n[    2.000000] page:ffff refcount:1 mapcount:0 mapping:0000 index:0x0 pfn:0x947\n"
        "[    2.000001] flags: 0x0(node=0|zone=0)\n[    2.000002] page dumped because: migration failure\n"
    )
    (report,) = oops.extract(text)
    assert (report.kind, report.fatal) == ("page-dump", False)


def test_garbage_never_raises() -> None:
    rng = random.Random(20)
    base = console("aarch64-vm-bug-on-page").encode()
    for _ in range(60):
        raw = bytearray(base)
        for _ in range(200):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        oops.extract(bytes(raw).decode("utf-8", "replace"))
    oops.extract(rng.randbytes(1 << 16).decode("utf-8", "replace"))
    assert oops.extract("") == ()


def test_a_flood_is_searched_quickly() -> None:
    block = b"".join(b"[ %4d.000000] flood BUG WARNING page: %d\r\n" % (n, n) for n in range(20000))
    assert not oops.FATAL_STAMPED.search(block)
    text = block.decode()
    assert oops.extract(text) == ()

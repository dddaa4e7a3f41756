# SPDX-License-Identifier: GPL-2.0-or-later
"""build() from end to end with real make, gcc and patch, on a tree of one file that answers to kbuild's commands."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import BuildError, HarnessError, UsageError
from harness.interruption import Interrupted, interrupt
from harness.kernel import Kernel, MakeError, build, toolchain
from harness.kernel import build as build_function
from harness.kernel.kernel import load
from harness.source import parse_spec, resolve
from harness.store import Store
from harness.targets import Target, table

MAKEFILE = """\
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 7
EXTRAVERSION =
src := $(CURDIR)
.DELETE_ON_ERROR:
allnoconfig:
\t@test ! -e $(src)/.config
\tcp $(KCONFIG_ALLCONFIG) $(KCONFIG_CONFIG)
\techo configured >> $(O)/history
vmlinux: $(O)/vmlinux $(O)/System.map
$(O)/ksm.o: $(src)/mm/ksm.c $(O)/.config
\t@echo "  CC      mm/ksm.o"
\techo compiled >> $(O)/history
\t$(shell cat $(src)/pause)
\t$(CC) -g -c -o $@ $<
$(O)/vmlinux: $(O)/ksm.o
\t@echo "  LD      vmlinux"
\t$(CROSS_COMPILE)ld -e ksm -o $@ $<
\tmkdir -p $(O)/include/config
\techo 6.1.7-test > $(O)/include/config/kernel.release
$(O)/System.map: $(O)/vmlinux
\tnm $< > $@
"""

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the row used here is x86_64's")


def a_patch(old: str, new: str) -> str:
    return f"--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -1 +1 @@\n-{old}\n+{new}\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def linux(tmp_path: Path) -> Path:
    tree = tmp_path / "linux"
    (tree / "mm").mkdir(parents=True)
    (tree / "arch").mkdir()
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / "mm/ksm.c").write_text("int ksm(void) { return 1; }\n")
    (tree / "mm/Kconfig").write_text("config KSM\n\tbool\nconfig SWAP\n\tbool\n")
    (tree / "pause").write_text("true")
    return tree


@pytest.fixture
def target() -> Target:
    return table()["x86_64"]


def make(tree: Path, target: Target, store: Store, *patches: Path, **more: object) -> Kernel:
    return build(resolve(parse_spec(f"tree:{tree}"), store), target, store, patches=patches, jobs=2, **more)  # type: ignore[arg-type]


def history(store: Store) -> list[str]:
    return [line for path in sorted(store.root.glob("work/*/o-*/history")) for line in path.read_text().split()]


def test_built_once_then_found(linux: Path, target: Target, store: Store) -> None:
    words: list[str] = []
    first = make(linux, target, store, progress=lambda text, part: words.append(text))
    assert not first.cached
    assert first.release == "6.1.7-test"
    assert (first.source, first.identity) == (f"tree:{linux}", resolve(parse_spec(f"tree:{linux}"), store).identity)
    assert first.directory.parent == store.root / "kernels"
    assert "gcc" in first.compiler.lower()
    assert any("building" in text for text in words)
    for path in (first.image, first.vmlinux, first.config, first.system_map, first.log):
        assert path is not None
        assert path.stat().st_size
    assert first.vmlinux is not None
    sections = subprocess.run(["readelf", "-SW", str(first.vmlinux)], capture_output=True, text=True, check=True).stdout
    assert ".debug_info" in sections
    second = make(linux, target, store)
    assert second == dataclasses.replace(first, cached=True)
    assert history(store) == ["configured", "compiled"]
    assert load(first.directory) == second
    assert not list((store.root / "tmp").iterdir())


def test_edit_patch_and_back(linux: Path, target: Target, store: Store, tmp_path: Path) -> None:
    a, b = tmp_path / "a.patch", tmp_path / "b.patch"
    a.write_text(a_patch("int ksm(void) { return 1; }", "int ksm(void) { return 2; }"))
    b.write_text(a_patch("int ksm(void) { return 1; }", "int ksm(void) { return 3; }"))
    plain = make(linux, target, store)
    with_a = make(linux, target, store, a)
    with_b = make(linux, target, store, b)
    assert len({plain.key, with_a.key, with_b.key}) == 3
    assert len({kernel.image.read_bytes() for kernel in (plain, with_a, with_b)}) == 3
    assert with_a.patches == (("a.patch", with_a.patches[0][1]),)
    assert history(store) == ["configured", "compiled", "compiled", "compiled"]
    for again, kernel in ((make(linux, target, store), plain), (make(linux, target, store, a), with_a)):
        assert again.cached
        assert again.key == kernel.key
    renamed = make(linux, target, store, a.rename(tmp_path / "c.patch"))
    assert renamed.cached
    assert renamed.patches == (("c.patch", with_a.patches[0][1]),)
    (linux / "mm/ksm.c").write_text("int ksm(void) { return 2; }\n")
    edited = make(linux, target, store)
    assert not edited.cached
    assert edited.image.read_bytes() == with_a.image.read_bytes()
    rebuilt = make(linux, target, store, force=True)
    assert not rebuilt.cached
    assert rebuilt.image.read_bytes() == edited.image.read_bytes()
    assert len(list((store.root / "work").iterdir())) == 1


def test_patches_and_their_order_are_the_kernel(linux: Path, target: Target, store: Store, tmp_path: Path) -> None:
    (linux / "mm/other.c").write_text("x\n")
    a, b, same = (tmp_path / name for name in ("a.patch", "b.patch", "copy.patch"))
    a.write_text(a_patch("int ksm(void) { return 1; }", "int ksm(void) { return 2; }"))
    b.write_text("--- a/mm/other.c\n+++ b/mm/other.c\n@@ -1 +1 @@\n-x\n+y\n")
    same.write_text(a.read_text())
    ab, ba, copied = make(linux, target, store, a, b), make(linux, target, store, b, a), make(linux, target, store, same, b)
    assert ab.key != ba.key
    assert copied.cached
    assert copied.key == ab.key


def test_targets_build_from_one_copy_at_once(linux: Path, target: Target, store: Store, tmp_path: Path) -> None:
    """The compiler of each is waited for by the other's."""
    here = tmp_path / "here"
    here.mkdir()
    arrive = f"touch {here}/$PPID; for i in $(seq 600); do [ $(ls {here} | wc -l) = 2 ] && exit; sleep 0.1; done; exit 1"
    (linux / "pause").write_text(arrive)
    source = resolve(parse_spec(f"tree:{linux}"), store)
    with ThreadPoolExecutor(2) as pool:
        rows = [target, dataclasses.replace(target, name="twin", kernel_arch="twin")]
        kernels = list(pool.map(lambda row: build(source, row, store, jobs=1), rows))
    assert len(list((store.root / "work").iterdir())) == 1
    assert [kernel.target for kernel in kernels] == ["x86_64", "twin"]


def test_the_tree_stays_as_it_is_even_when_built_in_place(linux: Path, target: Target, store: Store) -> None:
    (linux / ".gitignore").write_text(".*\n*.o\n!.gitignore\n")
    (linux / ".config").write_text("CONFIG_OTHER=y\n")
    (linux / "mm/ksm.o").write_text("stale")
    before = {p: (p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in [linux, *linux.rglob("*")]}
    make(linux, target, store)
    assert {p: (p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in [linux, *linux.rglob("*")]} == before


def test_compile_error_has_file_and_line_and_log(linux: Path, target: Target, store: Store) -> None:
    (linux / "mm/ksm.c").write_text("int ksm(void)\n{\n\treturn 1\n}\n")
    with pytest.raises(MakeError, match=r"x86_64: mm/ksm\.c:3:17: error: expected ';' before '}' token; whole log: /.*") as e:
        make(linux, target, store)
    assert "error: expected" in e.value.log.read_text()
    assert not list((store.root / "kernels").iterdir())
    (linux / "mm/ksm.c").write_text("int ksm(void) { return 1; }\n")
    assert not make(linux, target, store).cached


def test_options_that_did_not_stick(linux: Path, target: Target, store: Store, tmp_path: Path) -> None:
    (linux / "Makefile").write_text(MAKEFILE.replace("cp $(KCONFIG_ALLCONFIG)", "grep -v MINE $(KCONFIG_ALLCONFIG) >"))
    fragment = tmp_path / "mine.config"
    fragment.write_text("CONFIG_MINE=y\n")
    kernel = make(linux, target, store, fragments=[fragment])
    assert kernel.warnings == ("CONFIG_MINE=y (mine:1): this tree has no such option",)
    assert kernel.fragments == (*target.fragments, "mine")
    assert make(linux, target, store, fragments=[fragment]).warnings == kernel.warnings
    (linux / "mm/ksm.c").write_text("int ksm(void) { return 5; }\n")
    assert make(linux, target, store, fragments=[fragment]).warnings == kernel.warnings
    (linux / "mm/Kconfig").write_text("config MINE\n\tbool\n")
    with pytest.raises(BuildError, match=r"CONFIG_MINE=y \(mine:1\) did not stick: it became n"):
        make(linux, target, store, fragments=[fragment])
    fragment.write_text("CONFIG_MINE=n\nCONFIG_KSM=n\n")
    with pytest.raises(UsageError, match=r"CONFIG_KSM: base:\d+ wants y, but mine:2 wants n"):
        make(linux, target, store, fragments=[fragment])


def test_patch_that_does_not_apply_leaves_all_well(linux: Path, target: Target, store: Store, tmp_path: Path) -> None:
    bad = tmp_path / "bad.patch"
    bad.write_text(a_patch("int nothing;", "int x;"))
    with pytest.raises(BuildError, match=r"patch bad\.patch does not apply: mm/ksm\.c: Hunk #1 FAILED at 1"):
        make(linux, target, store, bad)
    assert history(store) == []


def _in_process(tree: Path, root: Path, results: multiprocessing.SimpleQueue[object]) -> None:
    store = Store(root)
    try:
        kernel = build_function(resolve(parse_spec(f"tree:{tree}"), store), table()["x86_64"], store, jobs=1)
        results.put((kernel.key, kernel.cached))
    except HarnessError as e:
        results.put(str(e))


def test_two_runs_at_once_build_once(linux: Path, store: Store) -> None:
    (linux / "pause").write_text("sleep 1")
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [context.Process(target=_in_process, args=(linux, store.root, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert sorted(cached for _, cached in found) == [False, True, True]
    assert len({key for key, _ in found}) == 1
    assert history(store) == ["configured", "compiled"]


RUN = """
import sys
from pathlib import Path
from harness.kernel import build
from harness.source import parse_spec, resolve
from harness.store import Store
from harness.targets import table
store = Store(Path(sys.argv[2]))
build(resolve(parse_spec("tree:" + sys.argv[1]), store), table()["x86_64"], store, jobs=1)
"""


def _wait_for(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def _processes_in(directory: Path) -> list[str]:
    """Command lines that name the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if os.fsencode(directory) in line and int(entry.name) != os.getpid():
            found.append(line.replace(b"\0", b" ").decode())
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_in_the_middle(linux: Path, target: Target, store: Store, number: signal.Signals) -> None:
    (linux / "pause").write_text("sleep 30")
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(linux), str(store.root)], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    _wait_for(lambda: "compiled" in history(store))
    run.send_signal(number)
    run.wait(10)
    _wait_for(lambda: not _processes_in(store.root / "work"))
    (linux / "pause").write_text("true")
    began = time.monotonic()
    assert not make(linux, target, store).cached
    assert time.monotonic() - began < 4, "the slot was still held"
    assert len(list((store.root / "work").iterdir())) == 1


def test_a_build_in_another_thread_is_interrupted(linux: Path, target: Target, store: Store) -> None:
    """Where SIGINT raises nothing; the make goes with it, and so does a build that waits for the same kernel."""
    (linux / "pause").write_text("sleep 30")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(make, linux, target, store)
        _wait_for(lambda: "compiled" in history(store))
        waiting: list[str] = []
        second = pool.submit(make, linux, target, store, progress=lambda text, part: waiting.append(text))
        _wait_for(lambda: any("waiting for it" in text for text in waiting))
        began = time.monotonic()
        interrupt()
        for interrupted in (first, second):
            with pytest.raises(Interrupted, match="interrupted"):
                interrupted.result(10)
    assert time.monotonic() - began < 4
    assert not _processes_in(store.root / "work")
    (linux / "pause").write_text("true")
    assert not make(linux, target, store).cached, "a later build is not concerned"


def test_make_that_was_terminated_tidied_up_itself(
    linux: Path, target: Target, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """kill -9 of the harness sends make SIGTERM: finished objects stay good."""
    (linux / "pause").write_text("sleep 30")
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(linux), str(store.root)], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    _wait_for(lambda: "compiled" in history(store))
    (objects,) = store.root.glob("work/*/o-*")
    (objects / "finished.o").write_bytes(b"x")
    run.kill()
    run.wait(10)
    _wait_for(lambda: not _processes_in(store.root / "work"))
    (linux / "pause").write_text("true")
    make(linux, target, store)
    assert (objects / "finished.o").exists()
    assert "was killed here" not in caplog.text


def test_an_object_that_was_cut_off_is_made_again(linux: Path, target: Target, store: Store) -> None:
    make(linux, target, store)
    (objects,) = store.root.glob("work/*/o-*")
    time.sleep(0.02)
    (objects / ".ksm-harness-building").touch()
    time.sleep(0.02)
    (objects / "ksm.o").write_bytes(b"\x7fELF cut off")
    (linux / "mm/other.c").write_text("another identity")
    assert not make(linux, target, store).cached
    assert history(store).count("compiled") == 2


def test_a_ready_image_is_as_a_configuration_wants_it_or_is_refused(target: Target, store: Store, tmp_path: Path) -> None:
    image, wants = tmp_path / "vmlinux", tmp_path / "x.config"
    image.touch()
    with pytest.raises(UsageError, match="is empty"):
        resolve(parse_spec(f"image:{image}"), store)
    image.write_bytes(b"\x7fELF Linux version 6.1.0 (x) (gcc) #1\n\0")
    source = resolve(parse_spec(f"image:{image}"), store)
    wants.write_text("CONFIG_ZRAM=y\nCONFIG_NEW=y  # if known\nguest: swap=zram\n")
    unknown = build(source, target, store, fragments=[wants])
    assert "no config lies beside the image" in unknown.warnings[-1]
    (tmp_path / "config").write_text("CONFIG_ZRAM=m\n")
    assert build(source, target, store, fragments=[wants]).warnings == ()
    (tmp_path / "config").write_text("CONFIG_KSM=y\n")
    with pytest.raises(UsageError, match=r"its config is not CONFIG_ZRAM=y \(x:1\); that needs a source"):
        build(source, target, store, fragments=[wants])
    wants.write_text("guest: thp=always\n")
    assert build(source, target, store, fragments=[wants]).warnings == ()


def test_ready_image(linux: Path, target: Target, store: Store, tmp_path: Path) -> None:
    built = make(linux, target, store)
    image = tmp_path / "ready/vmlinux"
    image.parent.mkdir()
    image.write_bytes(built.image.read_bytes())
    (image.parent / "config").write_text("CONFIG_KSM=y\n")
    source = resolve(parse_spec(f"image:{image}"), store)
    kernel = build(source, target, store)
    assert kernel.image.read_bytes() == image.read_bytes()
    assert kernel.config is not None
    assert kernel.config.read_text() == "CONFIG_KSM=y\n"
    assert kernel.vmlinux is not None
    assert (kernel.cached, build(source, target, store).cached) == (False, True)
    image.write_bytes(b"\x7fELF" + image.read_bytes()[4:] + b"changed")
    assert build(resolve(parse_spec(f"image:{image}"), store), target, store).key != kernel.key
    with pytest.raises(UsageError, match="changed while it was being copied"):
        image.write_bytes(b"\x7fELF other")
        build(dataclasses.replace(source, identity="0" * 64), target, store)
    patch = tmp_path / "x.patch"
    with pytest.raises(UsageError, match="ready image"):
        build(source, target, store, patches=[patch])


def test_a_compiler_and_variables_of_the_users(linux: Path, target: Target, store: Store, tmp_path: Path) -> None:
    plain = make(linux, target, store)
    own = tmp_path / "bin/own-gcc"
    own.parent.mkdir()
    own.symlink_to(str(shutil.which("gcc")))
    asked = toolchain.wanted(str(own), None, ["KCFLAGS=-O1 -g", "LLVM=0"])
    other = make(linux, target, store, tools=asked)
    assert other.key != plain.key, "although it is the same compiler"
    assert other.log is not None
    log = other.log.read_text()
    assert str(own) in log
    assert "'KCFLAGS=-O1 -g' LLVM=0" in log
    assert make(linux, target, store, tools=asked).cached
    assert make(linux, target, store).key == plain.key
    more = toolchain.wanted(str(own), None, ["KCFLAGS=-O2"])
    assert make(linux, target, store, tools=more).key not in (plain.key, other.key)
    assert len(list(store.root.glob("work/*/o-*"))) == 3

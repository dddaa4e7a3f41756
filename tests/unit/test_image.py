# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs: its bytes, its key, what it says when it does not compile."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import targets
from harness.errors import BuildError, HostError, UsageError
from harness.image import cpio, make_image, workload_table
from harness.oracle.calibration import WORKLOAD
from harness.store import Store

HOST = targets.table()["x86_64"]
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")


def test_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    data = cpio.archive([cpio.directory("dev"), cpio.character_device("dev/console", 5, 1), cpio.program("init", b"12345")])
    if not shutil.which("cpio"):
        pytest.skip("no cpio program to compare with")
    listing = subprocess.run(["cpio", "-itv", "--quiet"], input=data, capture_output=True, check=True).stdout.decode()
    lines = [line.split() for line in listing.splitlines()]
    assert [line[-1] for line in lines] == ["dev", "dev/console", "init"]
    assert lines[0][0] == "drwxr-xr-x"
    assert lines[1][0] == "crw-------"
    assert lines[1][4:6] == ["5,", "1"]
    assert lines[2][0] == "-rwxr-xr-x"
    assert lines[2][4] == "5"


@needs_gcc
def test_image_is_the_same_bytes_in_any_store(tmp_path: Path) -> None:
    one = make_image(HOST, Store(tmp_path / "a"))
    two = make_image(HOST, Store(tmp_path / "b"))
    assert one.key == two.key
    assert one.path.read_bytes() == two.path.read_bytes()


@needs_gcc
def test_another_c_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = targets.table()["x86_64-old"]
    if shutil.which("musl-gcc"):
        image = make_image(old, Store(tmp_path))
        assert image.key != make_image(HOST, Store(tmp_path)).key
        data = image.path.read_bytes()
        assert b"GLIBC" not in data
        assert b"kernel too old" not in data
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match=r"no musl-gcc for x86_64; .*apt-get install musl-tools$"):
        make_image(dataclasses.replace(old, cross="uncached-"), Store(tmp_path / "store"))


@needs_gcc
def test_second_image_is_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = make_image(HOST, store).path.stat()
    assert make_image(HOST, store).path.stat().st_ino == first.st_ino


@needs_gcc
def test_an_extra_workload_changes_the_key_and_its_error_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    extra = tmp_path / "mine.c"
    extra.write_text('#include "workload.h"\nWORKLOAD(mine, "P1", "mine")\n{\n}\n')
    assert make_image(HOST, store, [extra]).key != make_image(HOST, store).key
    assert workload_table([extra])["mine"].properties == ("P1",)
    extra.write_text("no C\n")
    with pytest.raises(BuildError, match=r"mine\.c:1:1: error"):
        make_image(HOST, store, [extra])
    assert not list((store.root / "tmp").iterdir())


@needs_gcc
@pytest.mark.parametrize("action", ["exec ld -static -nostdlib -o none -lc", 'exec gcc --sysroot=/nonexistent "$@"'])
@pytest.mark.parametrize(("target", "package"), [("x86_64", "libc6-dev"), ("ppc64le", "libc6-dev-ppc64el-cross")])
def test_missing_libc_is_the_hosts_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, target: str, package: str
) -> None:
    row = dataclasses.replace(targets.table()[target], cross=f"{tmp_path.name}-")
    compiler = tmp_path / f"{row.cross}gcc"
    compiler.write_text(f'#!/bin/sh\ntest "$1" = --version && exec gcc --version\n{action}\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(HostError, match=rf"no static C library for {target}; .*apt-get install {package}$"):
        make_image(row, Store(tmp_path / "store"))


def test_every_workload_has_a_property_and_two_of_a_name_are_refused(tmp_path: Path) -> None:
    table = workload_table()
    assert next(iter(table)) == "new_fork"
    assert all(info.properties or info.name == WORKLOAD for info in table.values()) and all(info.title for info in table.values())
    twin = tmp_path / "twin.c"
    twin.write_text('WORKLOAD(new_fork, "P1", "again")\n')
    with pytest.raises(UsageError, match="two workloads are named new_fork"):
        workload_table([twin])
    with pytest.raises(UsageError, match="no workload source"):
        workload_table([tmp_path / "nothing"])
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no C file in the workload source"):
        workload_table([tmp_path / "none"])
    (tmp_path / "none" / "x.c").mkdir()
    with pytest.raises(UsageError, match=r"cannot read the workload source .*/x\.c: Is a directory"):
        workload_table([tmp_path / "none"])


def test_what_is_run_on_request_says_so() -> None:
    asked = [name for name, workload in workload_table().items() if workload.on_request]
    assert asked == ["soak", "stale_head", "offlined", "chain_refused", "calibrate"]

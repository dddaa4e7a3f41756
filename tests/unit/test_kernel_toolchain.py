# SPDX-License-Identifier: GPL-2.0-or-later
"""Which compiler and linker build a kernel, and how they are named to make."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import pytest

from harness.errors import HostError, UsageError
from harness.kernel import toolchain
from harness.targets import Target, table

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the row used here is x86_64's")


@pytest.fixture
def target() -> Target:
    return table()["x86_64"]


def test_missing_compiler_names_the_package(target: Target) -> None:
    foreign = dataclasses.replace(target, name="m68k", machine_arch="m68k", cross="m68k-unknown-gnu-")
    with pytest.raises(HostError, match=r"m68k-unknown-gnu-gcc is missing.*apt-get install gcc-m68k-unknown-gnu"):
        toolchain.find(foreign)
    x86_elsewhere = dataclasses.replace(target, machine_arch="riscv64", cross="x86_64-linux-gnux99-")
    with pytest.raises(HostError, match="apt-get install gcc-x86-64-linux-gnux99"):
        toolchain.find(x86_elsewhere)


def test_the_usual_compiler_has_the_key_that_it_always_had(target: Target) -> None:
    usual = toolchain.find(target)
    assert usual.identity() == (usual.cross, usual.compiler, usual.linker)
    assert toolchain.find(target, toolchain.wanted(usual.cc, usual.cross, [])).identity() == usual.identity()


@pytest.mark.parametrize(
    ("value", "clang"), [("1", "clang"), ("-15", "clang-15"), ("/opt/llvm/bin/", "/opt/llvm/bin/clang"), ("0", ""), ("", "")]
)
def test_llvm_as_kbuild_has_it(value: str, clang: str, target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = toolchain.wanted("", None, [f"LLVM={value}"])
    assert (asked.program("clang") if asked.llvm else "") == clang
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=f"^{clang or 'x86_64-linux-gnu-gcc|gcc'} is missing"):
        toolchain.find(target, asked)


@pytest.mark.parametrize(
    ("cc", "cross", "args", "says"),
    [
        ("", None, ["LLVM"], "VARIABLE=VALUE"),
        ("", None, ["=1"], "VARIABLE=VALUE"),
        ("", None, ["-j4"], "VARIABLE=VALUE"),
        ("", None, ["ARCH=arm"], "the target says it"),
        ("", None, ["CC=gcc"], "it is --cc"),
        ("", None, ["O=/tmp"], "how this harness calls make"),
        ("-x", None, [], "--cc '-x'"),
        ("gcc -m32", None, [], "without options"),
        ("", "a b-", [], "--cross-compile"),
    ],
)
def test_what_cannot_be_asked_for(cc: str, cross: str | None, args: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        toolchain.wanted(cc, cross, args)


def test_the_hosts_own_compiler_serves_its_own_architecture(target: Target) -> None:
    assert toolchain.find(dataclasses.replace(target, cross="x86_64-nonexistent-")).cross == ""


def test_a_path_is_one_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """make runs in another directory."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "own-gcc").symlink_to("/usr/bin/gcc")
    monkeypatch.chdir(tmp_path)
    asked = toolchain.wanted("bin/own-gcc", "bin/own-", [])
    assert (asked.cc, asked.cross) == (str(tmp_path / "bin" / "own-gcc"), str(tmp_path / "bin" / "own-"))
    assert toolchain.wanted("gcc", "own-", []) == toolchain.Wanted("gcc", "own-")

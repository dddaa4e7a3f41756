# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from harness.guest.accel import Accel
from harness.guest.command import append_line, by_hand, command, handed_over
from harness.targets import table

TARGETS = table()
TCG = Accel("tcg", "max", "")
WIRES = handed_over(journal=5, console=6, qmp=7, swap=8, log=Path("/run/a,b/console.log"))


def build(name: str, **more: str) -> tuple[str, ...]:
    target = TARGETS[name]
    return command(target, TCG, Path("/k/vmlinux"), Path("/i/initramfs.cpio"), WIRES, memory=target.memory, **more)


def after(argv: tuple[str, ...], option: str) -> list[str]:
    return [argv[n + 1] for n, word in enumerate(argv) if word == option]


@pytest.mark.parametrize("name", TARGETS)
def test_row_is_in_the_command(name: str) -> None:
    target, argv = TARGETS[name], build(name)
    assert argv[0] == target.qemu
    assert after(argv, "-machine") == [target.machine]
    assert after(argv, "-m") == [str(target.memory)]
    assert after(argv, "-smp") == [str(target.smp)]
    assert after(argv, "-accel") == ["tcg"]
    assert after(argv, "-bios") == ([target.firmware] if target.firmware else [])
    assert f"console={target.console}" in after(argv, "-append")[0].split()
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(argv)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_on_the_file_system_and_no_ports(name: str) -> None:
    argv = build(name)
    chardevs = after(argv, "-chardev")
    assert sorted(c.split(",")[0:2] for c in chardevs) == [["socket", "fd=5"], ["socket", "fd=6"], ["socket", "fd=7"]]
    assert after(argv, "-add-fd") == ["fd=8,set=1"]
    assert "file.filename=/dev/fdset/1" in after(argv, "-blockdev")[0]
    assert "virtserialport,chardev=journal,name=ksm.journal" in argv


def test_commas_in_paths_are_doubled() -> None:
    assert "logfile=/run/a,,b/console.log,logappend=on" in " ".join(build("x86_64"))


def test_kernel_parameters() -> None:
    words = append_line(TARGETS["ppc64"], "slub_debug=- x=y").split()
    assert words[0] == "console=hvc0"
    assert {"oops=panic", "panic=-1", "loglevel=6"} <= set(words)
    assert words[-2:] == ["slub_debug=-", "x=y"]


def test_by_hand() -> None:
    argv = command(TARGETS["x86_64"], TCG, Path("/k"), Path("/i"), by_hand(), memory=512)
    assert not any("fd=" in word for word in argv)
    assert after(argv, "-mon") == ["chardev=con,mode=readline"]
    assert any(word.startswith("stdio,") for word in after(argv, "-chardev"))

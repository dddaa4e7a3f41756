# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from harness.guest.accel import Accel
from harness.guest.command import append_line, by_hand, command, handed_over
from harness.guest.ram import Range, node_sizes, ranges
from harness.targets import table

TARGETS = table()
TCG = Accel("tcg", "max", "")
WIRES = handed_over(journal=5, console=6, qmp=7, swap=8, log=Path("/run/a,b/console.log"))


def build(name: str, append: str = "", smp: int = 0) -> tuple[str, ...]:
    target, files = TARGETS[name], (Path("/k/vmlinux"), Path("/i/initramfs.cpio"))
    return command(target, TCG, *files, WIRES, memory=target.memory, append=append, smp=smp)


def after(argv: tuple[str, ...], option: str) -> list[str]:
    return [argv[n + 1] for n, word in enumerate(argv) if word == option]


@pytest.mark.parametrize("name", TARGETS)
def test_row_is_in_the_command(name: str) -> None:
    target, argv = TARGETS[name], build(name)
    assert argv[0] == target.qemu
    assert after(argv, "-machine") == [target.machine]
    assert after(argv, "-m") == [str(target.memory)]
    assert after(argv, "-smp") == [str(target.smp)]
    assert after(build(name, smp=4), "-smp") == ["4"]
    assert after(argv, "-accel") == ["tcg,thread=single" if target.kernel_arch == "powerpc" else "tcg"]
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
    plug = ["-device", "virtserialport,chardev=journal,name=ksm.journal"]
    plug = ["-serial", "chardev:journal"] if name == "x86_64-old" else plug
    assert any(list(argv[n : n + 2]) == plug for n in range(len(argv)))


def test_the_guest_is_told_of_a_second_serial_line() -> None:
    argv = build("x86_64-old")
    assert after(argv, "-serial") == ["chardev:con", "chardev:journal"]  # in the order of ttyS0, ttyS1
    assert not [word for word in argv if word.startswith("virtio-serial")]
    assert "harness.journal=ttyS1" in after(argv, "-append")[0].split()
    assert "harness.journal" not in after(build("x86_64"), "-append")[0]


def test_commas_in_paths_are_doubled() -> None:
    assert "logfile=/run/a,,b/console.log,logappend=on" in " ".join(build("x86_64"))


def test_kernel_parameters() -> None:
    words = append_line(TARGETS["ppc64"], "slub_debug=- x=y").split()
    assert words[0] == "console=hvc0"
    assert {"oops=panic", "panic=-1", "loglevel=6"} <= set(words)
    assert words[-2:] == ["slub_debug=-", "x=y"]


def test_by_hand() -> None:
    argv = command(TARGETS["x86_64"], TCG, Path("/k"), Path("/i"), by_hand(), memory=512)
    assert not any(re.search(r"\bfd=", word) for word in argv)
    assert after(argv, "-mon") == ["chardev=con,mode=readline"]
    assert any(word.startswith("stdio,") for word in after(argv, "-chardev"))


@pytest.mark.parametrize("name", TARGETS)
def test_two_nodes_of_which_one_has_the_cpus(name: str) -> None:
    target, argv = TARGETS[name], build(name)
    half = target.memory // 2
    assert after(argv, "-numa") == ["node,nodeid=0,cpus=0,memdev=ram0", "node,nodeid=1,memdev=ram1"]
    assert after(argv, "-object") == [f"memory-backend-ram,id=ram{node},size={half}M" for node in (0, 1)]


def test_every_cpu_is_in_node_0() -> None:
    target = dataclasses.replace(TARGETS["x86_64"], smp=4)
    for argv, last in (
        (command(target, TCG, Path("/k"), Path("/i"), WIRES, memory=512), 3),
        (command(target, TCG, Path("/k"), Path("/i"), WIRES, memory=512, smp=2), 1),
    ):
        assert after(argv, "-numa") == [f"node,nodeid=0,cpus=0-{last},memdev=ram0", "node,nodeid=1,memdev=ram1"]


def test_shared_ram_is_handed_over() -> None:
    wires = handed_over(journal=5, console=6, qmp=7, swap=8, log=Path("/run/console.log"), ram=(9, 10))
    argv = command(TARGETS["ppc64"], TCG, Path("/k"), Path("/i"), wires, memory=1024)
    assert after(argv, "-object") == [
        "memory-backend-file,share=on,mem-path=/proc/self/fd/9,id=ram0,size=512M",
        "memory-backend-file,share=on,mem-path=/proc/self/fd/10,id=ram1,size=512M",
    ]


@pytest.mark.parametrize(
    ("memory", "sizes"),
    [(512, (256, 256)), (1024, (512, 512)), (1000, (744, 256)), (768, (512, 256)), (511, (511,)), (64, (64,))],
)
def test_what_cannot_be_halved_in_blocks_goes_to_node_0(memory: int, sizes: tuple[int, ...]) -> None:
    assert node_sizes(memory) == sizes


MTREE = """FlatView #1
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000000c2fff (prio 0, ram): ram0
FlatView #3
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): ram0
  00000000000a0000-00000000000bffff (prio 1, i/o): vga
  00000000000c0000-000000000fffffff (prio 0, rom): ram0 @00000000000c0000
  0000000010000000-000000001fffffff (prio 0, ram): ram1
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
"""


def test_where_ram_is_as_qemu_tells_it() -> None:
    assert ranges(MTREE) == (
        Range(0, 0xA0000, 0, 0),
        Range(0xC0000, 0xFF40000, 0, 0xC0000),
        Range(0x10000000, 0x10000000, 1, 0),
    )
    assert ranges("Unknown command") == ()

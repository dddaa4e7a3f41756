# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways into a guest's memory: NUMA nodes' files, page tables, the kernel's image; and a layout's shapes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from harness.errors import CannotJudge
from harness.guest.ram import Range
from harness.witness import elf
from harness.witness.layout import Field, Shape
from harness.witness.memory import Memory, Ram, find_image
from harness.witness.paging import Format, format_for

MIB = 1 << 20


def files(*sizes: int) -> list[int]:
    fds = []
    for size in sizes:
        fds.append(os.memfd_create("ram", os.MFD_CLOEXEC))
        os.truncate(fds[-1], size)
    return fds


def test_two_nodes_and_a_hole() -> None:
    fds = files(2 * MIB, MIB)
    os.pwrite(fds[0], b"first", MIB)
    os.pwrite(fds[1], b"second", 0)
    ram = Ram(fds, [Range(0, MIB, 0, 0), Range(4 * MIB, MIB, 0, MIB), Range(8 * MIB, MIB, 1, 0)])
    assert ram.read(4 * MIB, 5) == b"first"
    assert ram.read(8 * MIB, 6) == b"second"
    assert ram.read(2 * MIB, 1) is None
    assert ram.read(MIB - 1, 2) is None
    ram.close()
    assert ram.read(0, 1) is None


def test_a_range_beyond_its_file_is_not_read() -> None:
    ram = Ram(files(MIB), [Range(0, 2 * MIB, 0, 0)])
    assert ram.read(MIB, 8) is None


def test_structures_across_pages() -> None:
    fds = files(MIB)
    os.pwrite(fds[0], struct.pack("<QQ", 5, 6), 0x1FF8)
    memory = Memory(Ram(fds, [Range(0, MIB, 0, 0)]), [(1 << 63, (1 << 63) + MIB, 0)])
    shape = Shape("<", [Field(8, 8), Field(0, 8), Field(8, 8)])
    assert memory.shape(shape, (1 << 63) + 0x1FF8) == (6, 5, 6)
    assert memory.shape(shape, (1 << 63) + MIB - 8) is None


def test_shapes() -> None:
    data = struct.pack(">Qi4xH", 7, -3, 9)
    assert Shape(">", [Field(16, 2), Field(0, 8), Field(8, 4, True)]).unpack(data, 0) == (9, 7, -3)
    assert Shape(">", [Field(8, 4, True)]).unpack(data[8:], 0) == (-3,)
    with pytest.raises(ValueError, match="overlap"):
        Shape("<", [Field(0, 8), Field(4, 4)])


class Tables:
    """Page tables in physical memory, made as the format says."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.fds = files(16 * MIB)
        self.ram = Ram(self.fds, [Range(0, 16 * MIB, 0, 0)])
        self.root = self._end = MIB

    def map(self, virtual: int, physical: int, levels: int, leaf: int) -> None:
        """A mapping whose entry is of the level ``levels``, with these bits in it."""
        form, table = self.form, self.root
        self._end = max(self._end, self.root + (8 << form.bits[0]))
        shift = form.shift + sum(form.bits)
        for level in range(levels):
            shift -= form.bits[level]
            at = table + 8 * (virtual >> shift & ((1 << form.bits[level]) - 1))
            if level == levels - 1:
                os.pwrite(self.fds[0], struct.pack(form.order, physical | leaf), at)
                return
            (entry,) = struct.unpack(form.order, os.pread(self.fds[0], 8, at))
            if not entry:
                align = 8 << form.bits[level + 1]
                self._end = -(-self._end // align) * align
                not_leaf = form.present | (3 if form.order == "<Q" and form.leaf == 1 else 0)
                entry = self._end | not_leaf
                os.pwrite(self.fds[0], struct.pack(form.order, entry), at)
                self._end += align
            table = entry & form.table

    def memory(self) -> Memory:
        return Memory(self.ram, [], self.form, self.root, 1 << self.form.shift)


@pytest.mark.parametrize(
    ("mmu", "image", "page_size", "virtual", "levels", "leaf"),
    [
        ("x86", 0xFFFF_FFFF_8100_0000, 4096, 0xFFFF_EA00_0000_0000, 3, 0x8000_0000_0000_01E3),  # a page of 2 MiB, NX
        ("x86", 0xFFFF_FFFF_8100_0000, 4096, 0xFFFF_8880_0012_3000, 4, 0x8000_0000_0000_0063),
        ("x86-5", 0xFFFF_FFFF_8100_0000, 4096, 0xFFD4_0000_0000_0000, 4, 0x8000_0000_0000_01E3),
        ("x86-5", 0xFFFF_FFFF_8100_0000, 4096, 0xFF11_0000_0012_3000, 5, 0x8000_0000_0000_0063),
        ("arm64", 0xFFFF_FFC0_0800_0000, 4096, 0xFFFF_FFFE_0000_0000, 2, 0x0068_0000_0000_0701),  # 39 bits: a block
        ("arm64", 0xFFFF_FFC0_0800_0000, 4096, 0xFFFF_FF80_0012_3000, 3, 0x0068_0000_0000_0703),
        ("arm64", 0xFFFF_8000_0800_0000, 4096, 0xFFFF_0000_0012_3000, 4, 0x0068_0000_0000_0703),  # 48 bits
        ("arm64", 0xFFFF_8000_0800_0000, 65536, 0xFFFF_0000_0012_0000, 3, 0x0068_0000_0000_0703),
        ("radix", 0xC000_0000_0000_0000, 65536, 0xC00C_0000_0000_0000, 3, 0xC000_0000_0000_018E),  # a page of 2 MiB
        ("radix", 0xC000_0000_0000_0000, 65536, 0xC008_0000_0012_0000, 4, 0xC000_0000_0000_018E),
    ],
)
def test_page_tables(mmu: str, image: int, page_size: int, virtual: int, levels: int, leaf: int) -> None:
    form = format_for(mmu.removesuffix("-5"), image, page_size, 5 if mmu.endswith("-5") else 4)
    assert form is not None
    tables = Tables(form)
    physical = 8 * MIB
    tables.map(virtual, physical, levels, leaf)
    os.pwrite(tables.fds[0], b"here", physical + 0x678)
    memory = tables.memory()
    assert memory.read(virtual + 0x678, 4) == b"here"
    assert memory.physical(virtual + 0x678) == physical + 0x678
    size = 1 << form.shift + sum(form.bits[levels:])
    assert memory.physical(virtual + size - 1) == physical + size - 1
    assert memory.read(virtual + size, 1) is None
    assert memory.read(virtual - 1, 1) is None
    assert memory.read(0x678, 1) is None, "no user's address"


def test_no_page_tables() -> None:
    assert format_for("", 0xC000_0000_0000_0000, 65536) is None


def test_the_image_is_found_where_it_is() -> None:
    start, fds = 0xFFFF_FFC0_0800_0000, files(64 * MIB)
    ram = Ram(fds, [Range(0x4000_0000, 64 * MIB, 0, 0)])
    os.pwrite(fds[0], b"Linux version 6.1\n", 2 * MIB + 0x1234)
    assert find_image(ram, start + 0x1234, start, b"Linux version 6.1\n") == 0x4000_0000 + 2 * MIB
    with pytest.raises(CannotJudge, match="nowhere in the guest's memory"):
        find_image(ram, start + 0x1234, start, b"Linux version 6.2\n")


def test_an_image_that_begins_off_the_step() -> None:
    start, fds = 0xFFFF_FFC0_0801_0000, files(64 * MIB)
    os.pwrite(fds[0], b"Linux version 6.1\n", 4 * MIB + 0x1_0000 + 0x40)
    ram = Ram(fds, [Range(0, 64 * MIB, 0, 0)])
    assert find_image(ram, start + 0x40, start, b"Linux version 6.1\n") == 4 * MIB + 0x1_0000


def vmlinux(order: str = "<", machine: int = 62, banner: bytes = b"Linux version 6.1.0 (a@b) #1\n\0") -> bytes:
    loads = [
        (1, 0x1000, 0xFFFF_FFFF_8100_0000, 0x2000),
        (1, 0x3000, 0, 0x100),
        (1, 0x4000, 0xFFFF_FFFF_8200_0000, 0x800),
        (4, 0, 1 << 63, 9),
    ]
    head = b"\x7fELF\x02" + (b"\1" if order == "<" else b"\2") + b"\1" + bytes(9)
    head += struct.pack(order + "HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, len(loads), 0, 0, 0)
    for kind, offset, address, size in loads:
        head += struct.pack(order + "IIQQQQQQ", kind, 5, offset, address, address, size, size, 4096)
    return head + banner


@pytest.mark.parametrize("order", ["<", ">"])
def test_vmlinux(order: str, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(vmlinux(order, 21))
    found = elf.examine(path)
    assert (found.machine, found.byteorder) == ("PPC64", "little" if order == "<" else "big")
    assert (found.start, found.end) == (0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8200_0800), "not x86's per-CPU segment"
    assert found.banner == b"Linux version 6.1.0 (a@b) #1\n"


@pytest.mark.parametrize("data", [b"", b"MZ" * 100, vmlinux()[:80], vmlinux(machine=3), vmlinux(banner=b"")])
def test_no_vmlinux(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(data)
    with pytest.raises(CannotJudge, match=r"cannot read .*vmlinux as a vmlinux"):
        elf.examine(path)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The way in: from a guest's RAM to memory as its kernel addresses it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.targets import Target
from harness.witness.elf import Vmlinux
from harness.witness.layout import Layout
from harness.witness.memory import Memory, Ram, find_image
from harness.witness.paging import format_for


@dataclass(frozen=True)
class Way:
    """What a target's row says of it."""

    mmu: str
    direct_map: int
    page_size: int


def way_of(target: Target) -> Way:
    """That of a target."""
    return Way(target.mmu, target.direct_map, target.page_size)


def kernel_memory(ram: Ram, vmlinux: Vmlinux, layout: Layout, way: Way) -> Memory:
    """The memory of the kernel that runs there.  CannotJudge if it is not this vmlinux's."""
    base = find_image(ram, layout.symbols.get("linux_banner", 0), vmlinux.start, vmlinux.banner)
    direct = [(vmlinux.start, vmlinux.end, base)]
    if way.direct_map:
        direct.append((way.direct_map, way.direct_map + max(end for _, end in ram.ranges), 0))
    tables = format_for(way.mmu, vmlinux.start, way.page_size, _levels(Memory(ram, direct), layout))
    # The kernel's own page tables, as x86 and as all others call them.
    root = layout.symbols.get("init_top_pgt") or layout.symbols.get("swapper_pg_dir", 0)
    return Memory(ram, direct, tables, root - vmlinux.start + base, way.page_size)


def _levels(image: Memory, layout: Layout) -> int:
    """Of x86's page tables: pgdir_shift is 39 with four and 48 with five of them (arch/x86/kernel/head64.c)."""
    if (place := layout.variables.get("pgdir_shift")) is None:
        return 4
    address, field = place
    raw = image.read(address + field.offset, field.size)
    return 5 if raw is not None and int.from_bytes(raw, "little") == 48 else 4

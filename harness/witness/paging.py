# SPDX-License-Identifier: GPL-2.0-or-later
"""How the kernel's own page tables are read, as data."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

Word = Callable[[int], bytes | None]  # the eight bytes at a physical address

_VALID = 1 << 63


@dataclass(frozen=True)
class Format:
    """One architecture's.  ``bits`` are those of an address that each level takes, from the root down; above them all
    are alike.  ``order`` is that of an entry's bytes.  An entry is there if it has ``present`` set; it maps memory
    if it is of the last level, or if its bits ``leaf_mask`` equal ``leaf``.
    """

    bits: tuple[int, ...]
    shift: int  # of the page size
    order: str
    present: int
    leaf_mask: int
    leaf: int
    page: int  # mask of the physical address in an entry that maps memory
    table: int  # and in one that leads to the next level's table

    def translate(self, word: Word, root: int, virtual: int) -> int | None:
        """The physical address; None if the tables have none.  ``root`` is the first table's physical address."""
        shift = self.shift + sum(self.bits)
        table = root
        for level, bits in enumerate(self.bits):
            shift -= bits
            raw = word(table + 8 * (virtual >> shift & ((1 << bits) - 1)))
            if raw is None:
                return None
            (entry,) = struct.unpack(self.order, raw)
            if not entry & self.present:
                return None
            inside = (1 << shift) - 1
            if level == len(self.bits) - 1 or entry & self.leaf_mask == self.leaf:
                return int((entry & self.page & ~inside) | (virtual & inside))
            table = entry & self.table
        return None


# x86_64 (arch/x86/include/asm/pgtable_types.h: _PAGE_PRESENT, _PAGE_PSE).
_X86 = {
    levels: Format((9,) * levels, 12, "<Q", 1, 1 << 7, 1 << 7, 0x000F_FFFF_FFFF_F000, 0x000F_FFFF_FFFF_F000) for levels in (4, 5)
}

# Radix tables are big endian whatever the kernel is (arch/powerpc/include/asm/book3s/64/radix.h; RADIX_*_INDEX_SIZE of
# radix-64k.h and radix-4k.h; _PAGE_VALID 1 << 63, _PAGE_PTE 1 << 62).
_RADIX = {
    shift: Format((13, 9, 9, last), shift, ">Q", _VALID, 1 << 62, 1 << 62, 0x01FF_FFFF_FFFF_F000, 0x0FFF_FFFF_FFFF_FF00)
    for shift, last in ((16, 5), (12, 9))
}


def _arm64(image: int, shift: int) -> Format:
    """arch/arm64/include/asm/pgtable-hwdef.h.  The kernel's image lies at the middle of its half of the address space
    (asm/memory.h: KIMAGE_VADDR, _PAGE_END(VA_BITS_MIN)), which tells how wide addresses are.
    """
    width = ((1 << 64) - image).bit_length() + 1
    each, left = shift - 3, width - shift
    bits: list[int] = []
    while left > 0:
        bits.insert(0, min(each, left))
        left -= each
    mask = 0x0000_FFFF_FFFF_FFFF & ~((1 << shift) - 1)
    return Format(tuple(bits), shift, "<Q", 1, 3, 1, mask, mask)


def format_for(mmu: str, image: int, page_size: int, levels: int = 4) -> Format | None:
    """The format that a target's row names, for a kernel linked to ``image``; None if it names none.

    ``levels`` are those of x86, which has one more where both the kernel and the CPU want it.
    """
    shift = page_size.bit_length() - 1
    if mmu == "x86":
        return _X86.get(levels)
    if mmu == "arm64":
        return _arm64(image, shift)
    if mmu == "radix":
        return _RADIX.get(shift)
    return None

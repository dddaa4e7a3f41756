# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's RAM: how it is divided among NUMA nodes, and QEMU's words for that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

NODES = 2
# A node's memory must be whole blocks of this on pseries (include/hw/ppc/spapr.h: SPAPR_MEMORY_BLOCK_SIZE), in MiB.
BLOCK = 256


def node_sizes(memory: int) -> tuple[int, ...]:
    """MiB of each node: an even share in whole blocks, what is left over in node 0; too little for two makes one node."""
    share = memory // NODES // BLOCK * BLOCK
    return (memory - share * (NODES - 1),) + (share,) * (NODES - 1) if share else (memory,)


def ram_words(memory: int, smp: int, files: Sequence[str] = ()) -> tuple[str, ...]:
    """QEMU's words for ``memory`` MiB on its nodes, of which only node 0 has CPUs.

    ``files`` (already quoted for QEMU) hold each node's memory, mapped shared, so that others can look at it; without
    any it is QEMU's own.
    """
    words: list[str] = []
    for node, size in enumerate(node_sizes(memory)):
        cpus = "" if node else f",cpus=0-{smp - 1}" if smp > 1 else ",cpus=0"
        backend = f"memory-backend-file,share=on,mem-path={files[node]}" if files else "memory-backend-ram"
        words += ["-object", f"{backend},id=ram{node},size={size}M", "-numa", f"node,nodeid={node}{cpus},memdev=ram{node}"]
    return tuple(words)


@dataclass(frozen=True)
class Range:
    """Physical memory ``start`` to ``start + size`` - 1, and where it lies: in which node's file, from which offset on."""

    start: int
    size: int
    node: int
    offset: int


_RENDERED = re.compile(r"^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:ram|rom)\): (?:/objects/)?ram(\d+)(?: @([0-9a-f]+))?$")


def ranges(mtree: str) -> tuple[Range, ...]:
    """Where the nodes' memory is, from what the monitor says to ``info mtree -f``; empty if that cannot be told."""
    found = []
    for view in mtree.split("FlatView #"):
        if '\n AS "memory"' not in view:
            continue
        for line in view.splitlines():
            if m := _RENDERED.match(line):
                first, last = int(m[1], 16), int(m[2], 16)
                found.append(Range(first, last + 1 - first, int(m[3]), int(m[4] or "0", 16)))
    return tuple(found)

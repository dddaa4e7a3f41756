# SPDX-License-Identifier: GPL-2.0-or-later
"""The door: what the guest room calls while the guest is paused."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from harness import looks
from harness.errors import CannotJudge
from harness.guest.ram import ranges
from harness.targets import Target
from harness.witness import debuginfo, elf
from harness.witness.kernel_memory import kernel_memory, way_of
from harness.witness.look import Looker
from harness.witness.memory import Ram

log = logging.getLogger("harness.witness")


def check() -> None:
    """HostError if drgn is missing: before anything is built."""
    debuginfo.need_drgn()


class KernelWitness:
    """Looks at one cell's kernel, boot after boot, and writes down what it saw.

    ``vmlinux`` is the kernel's own, with debug information (None: there is none).  CannotJudge if it is of no use.
    """

    def __init__(self, vmlinux: Path | None, target: Target, directory: Path) -> None:
        if vmlinux is None:
            raise CannotJudge(
                "--witness needs a vmlinux with debug information, and this kernel came without; take a SPEC that is built here"
            )
        self._elf = elf.examine(vmlinux)
        self._layout = debuginfo.load(self._elf)
        self._target = target
        self._directory = directory
        self._ram: Ram | None = None
        self._looker: Looker | None = None
        self._writer: looks.Writer | None = None
        self.looks = 0
        self.seconds = 0.0

    def attach(self, boot: int, ram: Sequence[int], mtree: str) -> None:
        """A guest has booted: ``ram`` are its NUMA nodes' files, ``mtree`` the monitor's answer to ``info mtree -f``.

        CannotJudge if the kernel is not found in it.
        """
        self.detach()
        pieces = ranges(mtree)
        if not pieces:
            raise CannotJudge("--witness: QEMU does not tell where the guest's memory is (info mtree -f)")
        self._ram = Ram(ram, pieces)
        memory = kernel_memory(self._ram, self._elf, self._layout, way_of(self._target))
        self._looker = Looker(memory, self._layout)
        self._writer = looks.Writer(self._directory / looks.name(boot))
        log.info("%s: the kernel's image is at physical address %#x", self._target.name, memory.physical(self._elf.start))

    def look(self, segment: int, seq: int) -> None:
        """The guest is paused after this record of the boot's workload number ``segment``.  OSError if the disk is full."""
        if self._looker is None or self._writer is None:
            return
        started = time.monotonic()
        graph = self._looker.look()
        self._writer.write(segment, seq, graph)
        self.looks += 1
        self.seconds += time.monotonic() - started

    def detach(self) -> None:
        """The guest is gone."""
        if self._writer is not None:
            self._writer.close()
            each = self.seconds / max(1, self.looks)
            log.info("%s: %d looks so far, %.1f ms each", self._target.name, self.looks, 1000 * each)
        if self._ram is not None:
            self._ram.close()
        self._ram = self._looker = self._writer = None

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cell is to do: plain data, the input of :func:`harness.guest.run_cell`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.guest.monitor import Monitor
from harness.journal.reader import Record
from harness.store import Store
from harness.targets import Target


class Witness(Protocol):
    """Who looks at the kernel's memory while the guest is paused: harness.witness.KernelWitness."""

    seconds: float  # spent looking, so far

    def attach(self, boot: int, ram: Sequence[int], mtree: str, /) -> None:
        """A guest has said hello.  ``ram``: its NUMA nodes' memory, files; ``mtree``: what ``info mtree -f`` says.

        CannotJudge if its kernel cannot be looked at.
        """

    def look(self, segment: int, seq: int, /) -> None:
        """It is paused after this record of the boot's workload number ``segment``.

        Called in a thread.  OSError if the disk is full.
        """

    def detach(self) -> None:
        """It is gone."""


@dataclass(frozen=True)
class Waiting:
    """A guest that waits for the host after a record."""

    boot: int
    record: Record
    qemu: int  # its process
    ram: tuple[int, ...]  # QEMU's file descriptors of each NUMA node's memory
    monitor: Monitor


# By the argument sync, as workloads/lib/tell.c has it.
_WAITS = {"1": frozenset({"obs"}), "2": frozenset({"obs", "ret"})}


@dataclass(frozen=True)
class Load:
    """One workload to run: its name in the image and its arguments (``KEY=VALUE`` on the journal's way back)."""

    name: str
    args: Mapping[str, str] = field(default_factory=dict)

    def command(self, patience: float = 1.0) -> str:
        """The line for the guest, docs/journal.md "The way back".

        ``patience`` is the factor on the guest's own deadlines, unless the user gives one.  They are never shortened:
        some of them wait for what the kernel does every few seconds, however fast the guest is.
        """
        percent = max(100, round(100 * patience))
        stretched = {"patience": str(percent)} if percent != 100 else {}
        return " ".join(["run", self.name, *(f"{k}={v}" for k, v in {**stretched, **self.args}.items())]) + "\n"

    @property
    def waits_after(self) -> frozenset[str]:
        """The kinds of records after each of which the guest waits for ``ack SEQ``."""
        return _WAITS.get(self.args.get("sync", ""), frozenset())


@dataclass(frozen=True)
class Limits:
    """Deadlines in seconds of wall time, on an idle machine under TCG; each is multiplied by the guest's slowness.

    The defaults leave room for kernels with lockdep and KASAN, which boot in a minute.
    """

    token: float = 180.0  # start of QEMU to hello
    silence: float = 60.0  # no byte on the console and none in the journal, before hello
    progress: float = 60.0  # no record in the journal while a workload runs
    workload: float = 900.0  # one workload, from its command to its end
    boot: float = 3600.0  # one boot, all its workloads
    poweroff: float = 10.0  # the poweroff command to QEMU's end
    grace: float = 2.0  # what a kernel that has complained may still do until it is stopped
    probe: float = 10.0  # hello under KVM

    @property
    def factor(self) -> float:
        """How much more patient than the defaults these are, for the deadlines that the guest keeps itself."""
        return self.progress / Limits().progress


@dataclass(frozen=True)
class CellPlan:
    """One target's kernel and image, the workloads to run on it, and where the evidence goes.

    ``directory`` must exist.  ``accel`` is ``auto``, ``kvm`` or ``tcg``.  ``append`` are more kernel parameters.
    ``memory`` is in MiB, ``smp`` a number of CPUs (0: the target's own).
    """

    target: Target
    kernel: Path
    initramfs: Path
    directory: Path
    workloads: tuple[Load, ...]
    store: Store
    accel: str = "auto"
    require_kvm: bool = False
    append: str = ""
    memory: int = 0
    smp: int = 0
    swap_mib: int = 128
    limits: Limits = Limits()
    fail_fast: bool = False  # no further boot after a crash or a hang
    witness: Witness | None = None  # looks each time that a workload waits
    # Awaited each time that a workload waits, after the witness, and the guest is still paused if there is one.
    on_wait: Callable[[Waiting], Awaitable[None]] | None = None

    @property
    def shared(self) -> bool:
        """The guest's memory is to be looked at from outside."""
        return self.witness is not None or self.on_wait is not None

    @property
    def memory_mib(self) -> int:
        """Guest memory in MiB."""
        return self.memory or self.target.memory

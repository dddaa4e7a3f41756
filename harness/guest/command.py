# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU command: a pure function of the target's row and the wires handed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.guest.accel import Accel
from harness.guest.ram import ram_words
from harness.targets import VIRTIO_SERIAL, Target

JOURNAL_PORT = "ksm.journal"


def quoted(path: Path | str) -> str:
    """A value inside one of QEMU's comma-separated options: a comma is doubled there (qemu-options.hx)."""
    return str(path).replace(",", ",,")


@dataclass(frozen=True)
class Wires:
    """What QEMU's three character devices, its disk and its RAM are connected to, in QEMU's words."""

    journal: str  # chardev backend and options
    console: str
    qmp: str  # "" for none
    swap: str  # file name of the swap disk's image
    ram: tuple[str, ...] = ()  # a file name for each NUMA node's memory, to be shared; () for memory of QEMU's own
    extra: tuple[str, ...] = ()


def handed_over(*, journal: int, console: int, qmp: int, swap: int, log: Path, ram: Sequence[int] = ()) -> Wires:
    """File descriptors of one end of a socketpair each, of the swap disk and, if it is shared, of the RAM of each node.

    Nothing has a name, nothing is left behind.  QEMU itself writes the console to ``log``, so that it survives the
    harness; it appends, so that the harness can shorten the file under it.
    """
    return Wires(
        journal=f"socket,fd={journal}",
        console=f"socket,fd={console},logfile={quoted(log)},logappend=on",
        qmp=f"socket,fd={qmp}",
        swap="/dev/fdset/1",
        # A memory backend opens its file without asking for fd sets (softmmu/physmem.c: file_ram_open).
        ram=tuple(f"/proc/self/fd/{fd}" for fd in ram),
        extra=("-add-fd", f"fd={swap},set=1"),
    )


def by_hand(swap: str = "swap.img", journal: str = "journal.sock") -> Wires:
    """Console and monitor on the terminal, the journal on a socket that socat can talk to."""
    return Wires(journal=f"socket,path={journal},server=on,wait=off", console="stdio,mux=on,signal=off", qmp="", swap=swap)


def append_line(target: Target, more: str = "") -> str:
    """The kernel's parameters."""
    words = [
        f"console={target.console}",
        # Printed is what is more urgent than this: with 6 notices ("Linux version") and warnings (WARN, page dumps),
        # not infos.  "quiet" means 4, which hides WARNs.
        "loglevel=6",
        # An oops is final at once: the whole report is on the console, and nothing after it is worth believing.
        "oops=panic",
        # Restart on panic without delay; -no-reboot makes QEMU end there.
        "panic=-1",
        # Freed anon_vmas are checked: KASAN leaves their cache out, as it is SLAB_TYPESAFE_BY_RCU (mm/rmap.c,
        # anon_vma_init).  So are KSM's own objects (mm/ksm.c, ksm_slab_init), and as caches with checks are not merged
        # with others their objects can be counted.  "A" marks them for failslab, so that they alone can be made to fail.
        # Costs nothing that can be measured.
        # An mm that is freed and used all the same, as after a reference too few, shows as well.  Before 5.8 only the first
        # flags and all names but the first count (mm/slub.c, parse_slub_debug_flags).
        "slub_debug=FZPU,mm_struct;FZPUA,anon_vma,ksm_*",
        # guest-images/devices.c: where init speaks to us.
        "" if target.journal == VIRTIO_SERIAL else f"harness.journal={target.journal}",
        # A guest that is thrown away has nothing to hide.  Without this Power flushes its L1 cache by hand each time that the
        # kernel is entered or left, or touches user memory (arch/powerpc/kernel/security.c).
        "mitigations=off",
        target.append,
        more,
    ]
    return " ".join(w for w in words if w)


def _journal_words(target: Target) -> tuple[str, ...]:
    """What the chardev "journal" is plugged into: a virtio-serial port found by its name, or the machine's second serial line."""
    if target.journal != VIRTIO_SERIAL:
        return ("-serial", "chardev:journal")
    return (
        "-device",
        # Without an I/O thread's eventfd a kick is handled at once, on the CPU's own thread: the guest spins until the host
        # has taken a record (drivers/char/virtio_console.c, __send_to_port), for a wake-up of QEMU's main loop otherwise.
        "virtio-serial-pci,ioeventfd=off",
        "-device",
        f"virtserialport,chardev=journal,name={JOURNAL_PORT}",
    )


def command(
    target: Target, accel: Accel, kernel: Path, initramfs: Path, wires: Wires, *, memory: int, append: str = "", smp: int = 0
) -> tuple[str, ...]:
    """The whole argument vector.  ``memory`` is in MiB; ``smp`` is a number of CPUs, 0 for the target's own."""
    monitor = ("-mon", "chardev=qmp,mode=control") if wires.qmp else ("-mon", "chardev=con,mode=readline")
    qmp = ("-chardev", f"{wires.qmp},id=qmp") if wires.qmp else ()
    firmware = ("-bios", target.firmware) if target.firmware else ()
    return (
        target.qemu,
        "-nodefaults",  # no NIC, VGA, floppy, CD-ROM: each costs time at boot
        "-no-user-config",  # the same on every host
        "-display",
        "none",
        "-no-reboot",  # a reset (panic=-1) ends QEMU
        "-machine",
        target.machine,
        "-accel",
        f"tcg,thread={target.tcg_thread}" if accel.name == "tcg" and target.tcg_thread else accel.name,
        "-cpu",
        accel.cpu,
        "-smp",
        str(smp or target.smp),
        "-m",
        str(memory),
        *ram_words(memory, smp or target.smp, wires.ram),
        *firmware,
        "-kernel",
        str(kernel),
        "-initrd",
        str(initramfs),
        "-append",
        append_line(target, append),
        *wires.extra,
        "-chardev",
        f"{wires.console},id=con",
        "-serial",
        "chardev:con",  # 16550, PL011 or spapr-vty, as the machine has it
        *qmp,
        *monitor,
        "-chardev",
        f"{wires.journal},id=journal",
        *_journal_words(target),
        "-blockdev",
        # The disk lives as long as QEMU: no flush ever has to reach the host's disk.  Discarded blocks become holes.
        "driver=raw,node-name=swap,discard=unmap,cache.no-flush=on,cache.direct=off,"
        f"file.driver=file,file.discard=unmap,file.filename={quoted(wires.swap)}",
        "-device",
        "virtio-blk-pci,drive=swap,serial=swap,ioeventfd=off",
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""drgn on a guest that is held: a program that reads the memory of its kernel, whatever the architecture."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.guest.ram import Range
from harness.targets import Target
from harness.witness import debuginfo, elf
from harness.witness.kernel_memory import Way, kernel_memory, way_of
from harness.witness.memory import KERNEL, Ram

if TYPE_CHECKING:
    import drgn


def attach_script(python: str, vmlinux: Path, target: Target, pid: int, fds: Sequence[int], ranges: Sequence[Range]) -> str:
    """A program in Python that opens the guest of the QEMU ``pid``, whose RAM are its file descriptors ``fds``."""
    way = way_of(target)
    pieces = "".join(f"        {(r.start, r.size, r.node, r.offset)!r},\n" for r in ranges)
    return f"""#!{python}
# drgn on a guest that is held.  Without arguments a prompt; with one the script to be run, whose prog is the guest.
from harness.witness.attach import main

main(
    vmlinux={str(vmlinux)!r},
    files=[f"/proc/{pid}/fd/{{fd}}" for fd in {list(fds)!r}],
    ranges=[
{pieces}    ],
    mmu={way.mmu!r},
    direct_map={way.direct_map:#x},
    page_size={way.page_size},
)
"""


def open_guest(vmlinux: Path, files: Sequence[str], ranges: Sequence[Range], way: Way) -> drgn.Program:
    """The program.  CannotJudge if the guest is gone or is another one."""
    fds = [os.open(file, os.O_RDONLY | os.O_CLOEXEC) for file in files]
    found = elf.examine(vmlinux)
    layout = debuginfo.load(found)
    memory = kernel_memory(Ram(fds, ranges), found, layout, way)
    program = debuginfo.open_program(found)[0]
    fault = debuginfo.need_drgn().FaultError

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        memory.forget()
        data = memory.read(address, count)
        if data is None:
            raise fault("no memory of the guest's kernel", address)
        return data

    program.add_memory_segment(KERNEL, KERNEL, read)
    return program


def main(
    vmlinux: str, files: Sequence[str], ranges: Sequence[tuple[int, int, int, int]], mmu: str, direct_map: int, page_size: int
) -> None:
    """What a script does: a prompt, or the script that is its first argument."""
    try:
        program = open_guest(Path(vmlinux), files, [Range(*r) for r in ranges], Way(mmu, direct_map, page_size))
    except FileNotFoundError as e:
        sys.exit(f"{e.filename}: the guest is gone")
    except HarnessError as e:
        sys.exit(str(e))
    if sys.argv[1:]:
        del sys.argv[0]
        runpy.run_path(sys.argv[0], {"prog": program}, "__main__")
        return
    import drgn.helpers.linux
    from drgn.cli import run_interactive

    helpers = {name: getattr(drgn.helpers.linux, name) for name in drgn.helpers.linux.__all__}
    run_interactive(program, globals_func=lambda names: names | helpers)

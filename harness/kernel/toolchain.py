# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiler for a target, on this host."""

from __future__ import annotations

import logging
import platform
import shutil
from dataclasses import dataclass

from harness.errors import HostError
from harness.source.command import require, run
from harness.targets import Target

log = logging.getLogger("harness.kernel")

# What every kernel build starts besides the compiler, and the package that has it.
_PROGRAMS = ("make", "flex", "bison", "bc", "gcc", "ld", "perl")


@dataclass(frozen=True)
class Toolchain:
    """``cross`` is kbuild's CROSS_COMPILE; ``compiler`` and ``linker`` are the programs' own version lines."""

    cross: str
    compiler: str
    linker: str


def package_for(target: Target) -> str:
    """The Debian package of the target's cross compiler."""
    return "gcc-" + target.cross.rstrip("-").replace("_", "-")


def _first_line(program: str) -> str:
    done = run([program, "--version"], log=log, level=logging.DEBUG)
    if done.status or not done.text:
        raise HostError(f"{program} --version failed: {done.last_error}")
    return done.text.splitlines()[0].strip()


def find(target: Target) -> Toolchain:
    """The target's cross compiler, or the host's own where that serves.

    HostError names what is missing and the command that installs it.
    """
    if target.cross and shutil.which(target.cross + "gcc"):
        cross = target.cross
    elif platform.machine() == target.machine_arch:
        require("gcc", f"a kernel for {target.name}")
        cross = ""
    else:
        require(target.cross + "gcc", f"a kernel for {target.name}", package_for(target))
        cross = target.cross
    for program in _PROGRAMS:
        require(program, "a kernel build")
    return Toolchain(cross, _first_line(cross + "gcc"), _first_line(cross + "ld"))

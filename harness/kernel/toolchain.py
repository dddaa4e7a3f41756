# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiler for a target, on this host: the target's own, or what the user asks for."""

from __future__ import annotations

import logging
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HostError, UsageError
from harness.packages import package_of
from harness.source.command import require, run
from harness.targets import Target

log = logging.getLogger("harness.kernel")

# What every kernel build starts besides the compiler, and the package that has it.
_PROGRAMS = ("make", "flex", "bison", "bc", "gcc", "ld", "perl")

_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_OURS = {
    "ARCH": "the target says it",
    "CC": "it is --cc",
    "CROSS_COMPILE": "it is --cross-compile",
    **dict.fromkeys(("O", "KBUILD_OUTPUT", "M", "V"), "it is how this harness calls make"),
    **dict.fromkeys(("KCONFIG_CONFIG", "KCONFIG_ALLCONFIG"), "it is --config"),
}


@dataclass(frozen=True)
class Wanted:
    """What the user asks for: a compiler, kbuild's CROSS_COMPILE (None: the target's), more of make's variables (``X=y``)."""

    cc: str = ""
    cross: str | None = None
    make_args: tuple[str, ...] = ()

    @property
    def llvm(self) -> str | None:
        """The value of LLVM, None without it or with LLVM=0: ``1``, ``-15`` or a directory, as kbuild's doc/llvm.rst has it."""
        values = [arg.partition("=")[2] for arg in self.make_args if arg.startswith("LLVM=")]
        return values[-1] if values and values[-1] not in ("", "0") else None

    def program(self, name: str) -> str:
        """A program of LLVM's under the name that kbuild would take."""
        value = self.llvm or "1"
        return f"{value}{name}" if value.endswith("/") else f"{name}{value}" if value.startswith("-") else name


USUAL = Wanted()
"""The target's own compiler."""


def wanted(cc: str, cross: str | None, make_args: Sequence[str]) -> Wanted:
    """Check what the user asks for.  UsageError names what cannot be."""
    for arg in make_args:
        found = _ARGUMENT.fullmatch(arg)
        if not found:
            raise UsageError(f"--make-arg {arg}: write it as VARIABLE=VALUE, for example LLVM=1")
        if found[1] in _OURS:
            raise UsageError(f"--make-arg {arg}: {found[1]} cannot be given so: {_OURS[found[1]]}")
        if not arg.isprintable():
            raise UsageError(f"--make-arg {arg!r}: a variable of make's has printable characters only")
    for option, value in (("--cc", cc), ("--cross-compile", cross or "")):
        if value.startswith("-") or any(c.isspace() for c in value):
            raise UsageError(f"{option} {value!r}: name a program or its prefix, without options")
    if cc and shutil.which(cc) is None:
        mend = "" if "/" in cc else f"; if it is Debian's: sudo apt-get install {package_of(cc)}"
        raise UsageError(f"--cc {cc}: there is no such program{mend}")
    return Wanted(_whole(cc), _whole(cross) if cross is not None else None, tuple(make_args))


def _whole(program: str) -> str:
    """A path as it is from here: make runs elsewhere."""
    return str(Path(program).absolute()) if "/" in program else program


@dataclass(frozen=True)
class Toolchain:
    """``cross`` is kbuild's CROSS_COMPILE, ``cc`` its CC, ``make_args`` more of make's variables.

    ``compiler`` and ``linker`` are the programs' own version lines.
    """

    cross: str
    cc: str
    compiler: str
    linker: str
    make_args: tuple[str, ...] = ()

    def identity(self) -> tuple[str, ...]:
        """What decides which kernel comes out."""
        usual = (self.cross, self.compiler, self.linker)
        return usual if self.cc == f"{self.cross}gcc" and not self.make_args else (*usual, self.cc, *self.make_args)


def package_for(target: Target) -> str:
    """The Debian package of the target's cross compiler."""
    return "gcc-" + target.cross.rstrip("-").replace("_", "-")


def _first_line(program: str) -> str:
    done = run([program, "--version"], log=log, level=logging.DEBUG)
    if done.status or not done.text:
        raise HostError(f"{program} --version failed: {done.last_error}")
    return done.text.splitlines()[0].strip()


def find(target: Target, asked: Wanted = USUAL) -> Toolchain:
    """The target's cross compiler, or the host's own where that serves, or what is asked for.

    HostError names what is missing and the command that installs it.
    """
    cc = asked.cc or (asked.program("clang") if asked.llvm else "")
    if cc:
        require(cc, f"a kernel for {target.name}")
    cross = _cross(target, asked, cc)
    linker = asked.program("ld.lld") if asked.llvm else f"{cross}ld"
    cc = cc or f"{cross}gcc"
    for program in (*_PROGRAMS, *((linker, asked.program("llvm-nm")) if asked.llvm else (linker,))):
        require(program, "a kernel build", asked.program("lld") if program.startswith("ld.lld") else "")
    return Toolchain(cross, cc, _first_line(cc), _first_line(linker), asked.make_args)


def _cross(target: Target, asked: Wanted, cc: str) -> str:
    if asked.cross is not None:
        if not cc:
            require(f"{asked.cross}gcc", f"a kernel for {target.name}")
        return asked.cross
    if target.cross and shutil.which(target.cross + "gcc"):
        return target.cross
    if asked.llvm:
        return target.cross  # clang takes its --target from it; none of its programs is run
    if platform.machine() == target.machine_arch:
        require("gcc", f"a kernel for {target.name}")
        return ""
    require(target.cross + "gcc", f"a kernel for {target.name}", package_for(target))
    return target.cross

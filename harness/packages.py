# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's packages that the harness needs (packages.txt), and which one brings a program."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("packages.txt")

# Programs of packages that are listed by another sign, that come with one listed, or that every Debian has.
_ALSO = {"prlimit": "util-linux", "ld": "binutils", "objcopy": "binutils",
         "apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"}  # fmt: skip


@dataclass(frozen=True)
class Package:
    """A line of packages.txt."""

    target: str  # a target's machine_arch, its libc, or "all"
    name: str
    sign: str  # a program on PATH, a file, or PROGRAM:MODULE

    @property
    def present(self) -> bool:
        """What it brings is there, whoever brought it."""
        if self.sign.startswith("/"):
            return Path(self.sign).exists()
        program, _, module = self.sign.partition(":")
        if program == "python3" and module:  # the one that runs this, for its virtual environment is made of the same
            return importlib.util.find_spec(module) is not None
        return shutil.which(program) is not None


def _lines() -> Iterator[Package]:
    for line in LIST.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) == 3 and not line.startswith("#"):
            yield Package(*words)


def packages(traits: Iterable[str]) -> list[Package]:
    """The packages that targets with one of these ``machine_arch`` or ``libc`` need, each once."""
    wanted = {"all", *traits}
    return list({package.name: package for package in _lines() if package.target in wanted}.values())


def package_of(program: str) -> str:
    """The package that brings ``program``; where none is known, one of the same name."""
    for package in _lines():
        if package.sign == program:
            return package.name
    if program.endswith("-gcc"):  # a cross compiler of a user's own target: Debian knows no '_' in names
        return "gcc-" + program.removesuffix("-gcc").replace("_", "-")
    return _ALSO.get(program, program)


def install_command(missing: Sequence[str]) -> str:
    """The command that installs them, for the user who would type it."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install {' '.join(missing)}"

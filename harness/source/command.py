# SPDX-License-Identifier: GPL-2.0-or-later
"""Running short programs: the command is logged ready to paste, its output comes back, no shell is involved."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness import interruption
from harness.errors import HostError
from harness.packages import package_of


@dataclass(frozen=True)
class Result:
    """How a program ended; ``output`` is its stdout, ``errors`` its stderr."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        """Stdout as text."""
        return self.output.decode(errors="replace")

    @property
    def last_error(self) -> str:
        """The line of stderr that most likely says why, or the status."""
        lines = [line.strip() for line in self.errors.splitlines() if line.strip()]
        chosen = [line for line in lines if line.startswith(("E:", "fatal:", "error:"))] or lines[-1:]
        return chosen[0] if chosen else f"exit status {self.status}"


def neutral_environment(**more: str) -> dict[str, str]:
    """The environment in the C locale, without what would steer git, make or kbuild from outside."""
    steering = {
        "MAKEFLAGS",
        "MFLAGS",
        "GNUMAKEFLAGS",
        "MAKELEVEL",
        "MAKEFILES",
        "ARCH",
        "SUBARCH",
        "CROSS_COMPILE",
        "LLVM",
        "LLVM_IAS",
        "CC",
        "LD",
        "HOSTCC",
        "CFLAGS",
        "LDFLAGS",
        "KCFLAGS",
        "KAFLAGS",
        "KCPPFLAGS",
        "LOCALVERSION",
        "INSTALL_PATH",
        "INSTALL_MOD_PATH",
        "V",
        "C",
        "W",
        "M",
        "O",
        "CDPATH",
        "TAR_OPTIONS",
        "LANGUAGE",
        "CPATH",
        "C_INCLUDE_PATH",
        "LIBRARY_PATH",
        "GREP_OPTIONS",
        "POSIXLY_CORRECT",
    }
    kept = {k: v for k, v in os.environ.items() if k not in steering and not k.startswith(("GIT_", "KBUILD_", "KCONFIG_", "LC_"))}
    return kept | {"LC_ALL": "C", "LANG": "C"} | more


def require(program: str, why: str, package: str = "") -> str:
    """The path of ``program``.  HostError names what is missing and the command that installs it."""
    if found := shutil.which(program):
        return found
    package = package or package_of(program)
    raise HostError(f"{program} is missing, which {why} needs; install it: sudo apt-get install {package}")


def run(
    argv: Sequence[str],
    *,
    log: logging.Logger,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    level: int = logging.INFO,
    stdin: IO[bytes] | None = None,
) -> Result:
    """Run ``argv`` to its end and give its outcome, whatever it is.

    HostError when the program is not there; Interrupted, with the program and all that it started ended, after interrupt().
    """
    log.log(level, "%s%s", f"cd {shlex.quote(str(cwd))} && " if cwd else "", shlex.join(argv))
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env) if env is not None else neutral_environment(),
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as e:
        raise HostError(f"{argv[0]} is missing; install it: sudo apt-get install {package_of(argv[0])}") from e
    except OSError as e:
        raise HostError(f"cannot run {argv[0]}: {e.strerror}") from e
    output, errors = _finish(process)
    return Result(process.returncode, output, errors.decode(errors="replace"))


def _finish(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What the process writes until it ends.  Whatever else ends the waiting ends the process too."""
    with process:
        try:
            while True:
                interruption.check()
                try:
                    return process.communicate(timeout=interruption.POLL)
                except subprocess.TimeoutExpired:  # communicate() has kept what came so far
                    pass
        except BaseException:
            interruption.end(process)
            raise

# SPDX-License-Identifier: GPL-2.0-or-later
"""Running kbuild: out of tree, reproducible, through ccache, with its output in a file, and never left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import interruption
from harness.errors import BuildError, HostError
from harness.kernel import buildlog
from harness.kernel.slots import Slot
from harness.kernel.toolchain import Toolchain
from harness.source.command import neutral_environment
from harness.store import Store
from harness.targets import Target

log = logging.getLogger("harness.kernel")

Progress = Callable[[str, float | None], None]
"""Called with words and with the part that is done (0-1), or None when that is not known."""

_MARKER = ".ksm-harness-building"


class MakeError(BuildError):
    """kbuild failed; ``log`` is the file with its whole output."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Kbuild:
    """What every make command of one build has in common."""

    slot: Slot
    objects: Path
    target: Target
    toolchain: Toolchain
    store: Store
    jobs: int
    log: Path

    def variables(self) -> list[str]:
        """make's command line variables."""
        ccache = "ccache " if shutil.which("ccache") else ""
        return [
            f"ARCH={self.target.kernel_arch}",
            f"CROSS_COMPILE={self.toolchain.cross}",
            f"CC={ccache}{self.toolchain.cc}",
            f"O={self.objects}",
            *self.toolchain.make_args,
        ]

    def environment(self) -> dict[str, str]:
        """Fixed build facts, so that the same source gives the same kernel; a ccache that all slots share."""
        env = neutral_environment(
            KBUILD_BUILD_TIMESTAMP="1970-01-01",
            KBUILD_BUILD_USER="ksm",
            KBUILD_BUILD_HOST="ksm",
            KBUILD_BUILD_VERSION="1",
            SOURCE_DATE_EPOCH="0",
        )
        if not any(os.environ.get(name) for name in ("CCACHE_DIR", "CCACHE_CONFIGPATH")):
            env |= {"CCACHE_DIR": str(self.store.root / "ccache"), "CCACHE_MAXSIZE": os.environ.get("CCACHE_MAXSIZE", "3G")}
        # Slots differ in their path only; below the base directory ccache takes paths as relative to the object directory.
        return env | {"CCACHE_NOHASHDIR": "1", "CCACHE_BASEDIR": str(self.slot.directory)}


def _argv(kbuild: Kbuild, goals: Sequence[str], more: Sequence[str]) -> list[str]:
    argv = ["make", f"-j{kbuild.jobs}", "-C", str(kbuild.slot.src), *kbuild.variables(), *more, *goals]
    if shutil.which("nice"):
        argv = ["nice", "-n", "5", *argv]
    if shutil.which("setpriv"):
        # kill -9 of the harness ends make; what make started holds the slot's lock until it ends, too.
        argv = ["setpriv", "--pdeathsig", "TERM", *argv]
    return argv


def _watch(process: subprocess.Popen[bytes], output: Path, start: int, expected: int, progress: Progress | None) -> int:
    """Wait for make; its exit status.  Tells progress from the lines that appear in ``output`` after ``start`` bytes."""
    done, last = 0, ""
    with output.open("rb") as f:
        f.seek(start)
        rest = b""
        while True:
            try:
                status: int | None = process.wait(interruption.POLL)
            except subprocess.TimeoutExpired:
                status = None
                interruption.check()
            if progress:
                *lines, rest = (rest + f.read()).split(b"\n")
                done += buildlog.steps(b"\n".join(lines))
                words = lines[-1].decode(errors="replace").strip() if lines else last
                if words != last:
                    last = words
                    progress(" ".join(words.split())[:120], min(done / expected, 0.99) if expected > 100 else None)
            if status is not None:
                return status


def recover(objects: Path, build_log: Path) -> None:
    """Make an object directory good after a build that was killed in it; call it before the log is written anew.

    An object that was cut off would pass for a finished one.  A make that got SIGTERM has removed what it had half made, and
    its log says so; one that got SIGKILL has not, so all that it wrote is made again (which ccache makes cheap).
    """
    marker = objects / _MARKER
    if not marker.exists():
        return
    with contextlib.suppress(FileNotFoundError), build_log.open("rb") as f:
        f.seek(max(0, build_log.stat().st_size - 4096))
        if re.search(rb"^make: \*\*\* \[.*\] (?:Terminated|Interrupt)$", f.read(), re.MULTILINE):
            marker.unlink()
            return
    _discard_newer(objects, marker.stat().st_mtime_ns)
    marker.unlink()


def _discard_newer(objects: Path, since: int) -> None:
    """Remove the files that a build wrote since a time (ns)."""
    count = 0
    for directory, _, names in os.walk(objects):
        for name in names:
            path = Path(directory, name)
            with contextlib.suppress(FileNotFoundError):
                if (
                    path.lstat().st_mtime_ns >= since
                    and name not in (".config", "build.log")
                    and not name.startswith(".ksm-harness")
                ):
                    path.unlink()
                    count += 1
    log.warning("%s: a build was killed here; %d files that it had written are made again", objects, count)


def _run(kbuild: Kbuild, argv: Sequence[str], output: typing.BinaryIO, expected: int, progress: Progress | None) -> int:
    """Start make and wait for it; its exit status.  A marker stays in the object directory when make could not tidy up."""
    marker = kbuild.objects / _MARKER
    marker.touch()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=kbuild.environment(),
            start_new_session=True,
            pass_fds=kbuild.slot.locks,
        )
    except OSError as e:
        raise HostError(f"cannot run {argv[0]}: {e.strerror}") from e
    tidy = False
    try:
        status = _watch(process, kbuild.log, output.tell(), expected, progress)
        tidy = status >= 0
        return status
    finally:
        if process.poll() is None:
            tidy = interruption.end(process)  # on SIGTERM make removes its half-made targets
        if tidy:
            marker.unlink(missing_ok=True)


def make(
    kbuild: Kbuild, goals: Sequence[str], *, more: Sequence[str] = (), expected: int = 0, progress: Progress | None = None
) -> None:
    """Run make for ``goals``, its output appended to the log.

    ``expected`` is the number of steps (buildlog.steps) for the progress.  MakeError has the first error; HostError when
    make itself was killed; Interrupted, with make ended, after interrupt().
    """
    interruption.check()
    argv = _argv(kbuild, goals, more)
    log.info("%s", shlex.join(argv))
    began = time.monotonic()
    with kbuild.log.open("ab") as output:
        output.write(f"$ {shlex.join(argv)}\n".encode(errors="surrogateescape"))
        output.flush()
        start = output.tell()
        status = _run(kbuild, argv, output, expected, progress)
    log.debug("make %s: status %d after %.1f s", " ".join(goals), status, time.monotonic() - began)
    if status < 0:
        raise HostError(f"make was ended by {signal.Signals(-status).name}; was the host out of memory? log: {kbuild.log}")
    if status:
        with kbuild.log.open("rb") as f:
            f.seek(start)
            text = f.read().decode(errors="replace")
        where = kbuild.target.name
        raise MakeError(f"{where}: {buildlog.first_error(text, str(kbuild.slot.src))}; whole log: {kbuild.log}", kbuild.log)

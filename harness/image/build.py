# SPDX-License-Identifier: GPL-2.0-or-later
"""Compile init and the workloads for a target, statically, and pack them; finished images stay in the store."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import interruption, paths
from harness.errors import BuildError, HostError, UsageError
from harness.image import cpio
from harness.packages import install_command, packages
from harness.resources import directory
from harness.store import Store
from harness.targets import Target

log = logging.getLogger("harness.image")

CFLAGS = ("-O2", "-g0", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-static")

# WORKLOAD(name, "P1 P2", "title"), or WORKLOAD_ON_REQUEST
_WORKLOAD = re.compile(r'^WORKLOAD(_ON_REQUEST)?\(\s*(\w+)\s*,\s*"([^"]*)"\s*,\s*"([^"]*)"\s*\)', re.MULTILINE)


@dataclass(frozen=True)
class Image:
    """An initramfs in the store."""

    key: str
    path: Path
    compiler: str  # first line of its --version


@dataclass(frozen=True)
class WorkloadInfo:
    """What a workload's source says of itself."""

    name: str
    properties: tuple[str, ...]
    title: str
    path: Path
    on_request: bool = False  # takes long: is not among "all"


def sources(extra: Sequence[Path] = ()) -> list[Path]:
    """The workloads' C files: ours and those of the user's ``extra`` files and directories."""
    found = sorted(directory("workloads").glob("*.c"))
    for path in extra:
        if paths.is_directory(path):
            inside = sorted(path.glob("*.c"))
            if not inside:
                raise UsageError(f"no C file in the workload source {path}")
            found += inside
        elif paths.is_file(path) and path.suffix == ".c":
            found.append(path)
        else:
            raise UsageError(f"no workload source at {path}; give a C file or a directory of them")
    return found


def workload_table(extra: Sequence[Path] = ()) -> dict[str, WorkloadInfo]:
    """The workloads by name, sorted by their first property's number."""
    table: dict[str, WorkloadInfo] = {}
    for path in sources(extra):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as e:
            raise UsageError(f"cannot read the workload source {path}: {e.strerror}") from e
        for asked, name, properties, title in _WORKLOAD.findall(text):
            if name in table:
                raise UsageError(f"two workloads are named {name}: {table[name].path} and {path}; rename one")
            table[name] = WorkloadInfo(name, tuple(properties.split()), title, path, bool(asked))
    return dict(sorted(table.items(), key=lambda item: _order(item[1])))


def _order(info: WorkloadInfo) -> tuple[int, str]:
    number = re.search(r"\d+", info.properties[0] if info.properties else "")
    return (int(number[0]) if number else 1 << 30, info.name)


@functools.cache
def _compiler(cross: str, machine_arch: str, libc: str) -> tuple[str, str]:
    """The compiler's program and version line.  HostError if there is none."""
    if libc:  # the host's compiler with another C library
        gcc = shutil.which(f"{libc}-gcc") if platform.machine() == machine_arch else None
        if gcc is None:
            mend = install_command([f"{libc}-tools"])
            raise HostError(f"no {libc}-gcc for {machine_arch}; mend it on such a host with: {mend}")
    else:
        gcc = shutil.which(f"{cross}gcc")
        if gcc is None and platform.machine() == machine_arch:
            gcc = shutil.which("gcc")
    if gcc is None:
        raise HostError(f"no compiler {cross}gcc; mend it with: apt-get install gcc-{cross.rstrip('-')}")
    version = subprocess.run([gcc, "--version"], capture_output=True, text=True, check=False, env=_environment()).stdout
    return gcc, version.partition("\n")[0]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def _key(target: Target, files: Sequence[Path], compiler: str) -> str:
    digest = hashlib.sha256()
    for part in (target.machine_arch, target.libc, compiler, *CFLAGS):
        digest.update(part.encode() + b"\0")
    for path in files:
        data = path.read_bytes()
        digest.update(f"{path.name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:24]


def make_image(target: Target, store: Store, extra: Sequence[Path] = (), modules: Sequence[Path] = ()) -> Image:
    """The image for a target, from the store if these very sources were built before; init loads ``modules`` in their order.

    Raises BuildError with the compiler's first error, HostError if the compiler or its static libc is missing.
    """
    gcc, version = _compiler(target.cross, target.machine_arch, target.libc)
    headers = [*sorted(directory("workloads").joinpath("lib").glob("*.h")), *sorted(directory("guest-images").glob("*.h"))]
    library = sorted(directory("workloads").joinpath("lib").glob("*.c"))
    programs = [*sorted(directory("guest-images").glob("*.c")), *library, *sources(extra)]
    key = _key(target, [*programs, *headers, *modules], version)
    place = store.root / "images" / key
    store.pin(place)
    with interruption.lock(store, f"image-{key}"):
        if not place.exists():
            with store.making(place) as fresh:
                _compile(target, gcc, programs, fresh / "init")
                entries = (
                    cpio.directory("dev"),
                    cpio.character_device("dev/console", 5, 1),
                    cpio.directory("proc"),
                    cpio.directory("sys"),
                    cpio.program("init", (fresh / "init").read_bytes()),
                    *_packed(modules),
                )
                (fresh / "initramfs.cpio").write_bytes(cpio.archive(entries))
                (fresh / "image.json").write_text(json.dumps({"label": f"{target.machine_arch} {version}"}), encoding="utf-8")
        store.touch(place)
    return Image(key, place / "initramfs.cpio", version)


def _packed(modules: Sequence[Path]) -> list[cpio.Entry]:
    """Under names that tell the order (guest-images/setup.c: load_modules)."""
    files = [cpio.program(f"modules/{i:02d}-{path.name}", path.read_bytes()) for i, path in enumerate(modules)]
    return [cpio.directory("modules"), *files] if files else []


def _compile(target: Target, gcc: str, programs: Sequence[Path], output: Path) -> None:
    include = directory("workloads") / "lib"
    with tempfile.TemporaryDirectory(dir=output.parent) as objects:
        # A fixed relative output and no paths in the binary (-g0, -s): the same bytes wherever the checkout is.
        command = [gcc, *CFLAGS, *_kernel_headers(target), "-s", "-Wl,--build-id=none", f"-I{include}"]
        command += ["-o", str(output), *map(str, programs)]
        log.info("%s", shlex.join(command))
        result = subprocess.run(command, cwd=objects, capture_output=True, text=True, check=False, env=_environment())
    if result.returncode:
        if _NO_LIBC.search(result.stderr):
            raise HostError(f"no static C library for {target.name}; mend it with: {install_command([_libc(target)])}")
        raise BuildError(f"the guest image for {target.name} does not compile: {_first_error(result.stderr)}")


def _kernel_headers(target: Target) -> tuple[str, ...]:
    """Where linux/futex.h and asm/ are, for a C library that does not come with them: after all of its own."""
    if not target.libc:
        return ()
    return ("-idirafter", "/usr/include", "-idirafter", f"/usr/include/{target.machine_arch}-linux-gnu")


# What gcc and ld say when the package of the C library is missing, whole or in part.
_NO_LIBC = re.compile(r"cannot find (?:-lc\b|crt[1in]\.o)|fatal error: (?:errno|stdio|stdlib|string|unistd)\.h: No such file")


def _libc(target: Target) -> str:
    """The package with the C library that the target's compiler links."""
    if target.libc:
        return f"{target.libc}-tools"
    if platform.machine() == target.machine_arch:
        return "libc6-dev"
    named = [
        p.name for p in packages([target.machine_arch]) if p.target == target.machine_arch and p.name.startswith("libc6-dev")
    ]
    return named[0] if named else f"libc6-dev for {target.machine_arch}"


def _first_error(stderr: str) -> str:
    lines = stderr.splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "the compiler said nothing")

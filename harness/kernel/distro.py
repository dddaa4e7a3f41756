# SPDX-License-Identifier: GPL-2.0-or-later
"""A distribution's binary kernel in the store: the image out of its package, and the few modules without which no guest starts.

What its config has built in needs no module; what a module depends on is told by the module itself (.modinfo: depends).
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import lzma
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness import interruption
from harness.errors import HostError, UsageError
from harness.kernel import kernel
from harness.kernel.kernel import Kernel
from harness.kernel.make import Progress
from harness.source import Source, distro
from harness.source.apt import DownloadError
from harness.source.banner import read_banner
from harness.source.command import require, run
from harness.source.distro import Flavour, Package
from harness.store import Store
from harness.targets import Target

log = logging.getLogger("harness.kernel")

FORMAT = 1
"""Counts up whenever another kernel is made of the same package."""

MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "zram")
"""The journal's way, the swap disk, and swap for those who ask for it."""

ROOT = "root"
"""Where packages are unpacked; no package is called that."""

_DEPENDS = re.compile(rb"(?:^|\0)depends=([\w,-]*)\0")


def wrap(source: Source, target: Target, store: Store, progress: Progress | None = None, etc: Path = Path("/etc/apt")) -> Kernel:
    """The kernel that the package has, from the store if it was unpacked before.

    A package that is in the lists and not on the mirror gives way to the next one, unless its version is asked for.
    UsageError and HostError as of harness.source.distro, HostError too for a package that is not as expected.
    """
    flavour = distro.flavour_of(source.spec, target.machine_arch)
    gone: dict[Package, HostError] = {}
    while True:
        try:
            package = distro.find(source.spec, flavour, store, etc, gone)
        except UsageError:
            if gone:
                raise next(iter(gone.values())) from None
            raise
        try:
            return _wrapped(source, target, package, flavour, store, progress, etc)
        except DownloadError as e:
            log.warning("%s", e)
            gone[package] = e


def _wrapped(
    source: Source, target: Target, package: Package, flavour: Flavour, store: Store, progress: Progress | None, etc: Path
) -> Kernel:
    key = hashlib.sha256(repr((FORMAT, package, flavour, target.kernel_arch, MODULES)).encode()).hexdigest()[:32]
    place = kernel.directory_of(store, key)
    store.pin(place)
    with interruption.lock(store, f"kernel-{key}"):
        found = kernel.load(place)
        if not found:
            if progress:
                progress(f"{target.name}: downloading {package.name}", None)
            with store.scratch() as scratch:
                _unpack_all(package, flavour, store, scratch, etc)
                found = _keep(source, target, package, scratch / ROOT, store, place)
        store.touch(place)
    return found


def _unpack_all(package: Package, flavour: Flavour, store: Store, scratch: Path, etc: Path) -> None:
    """The package, and the ones that the kernel in it is spread over, all into one directory."""
    waiting, known = [package], {package}
    while waiting:
        one = waiting.pop()
        into = scratch / one.name
        into.mkdir()
        file = distro.download(one, flavour, store, into, etc)
        _dpkg(["dpkg-deb", "--extract", str(file), str(scratch / ROOT)], file)
        more = distro.parts(package.release, _dpkg(["dpkg-deb", "--field", str(file), "Depends"], file))
        waiting += [part for part in more if part not in known]
        known |= set(more)
        file.unlink()


def _dpkg(argv: list[str], file: Path) -> str:
    done = run(argv, log=log)
    if done.status:
        raise HostError(f"{file.name}: dpkg-deb failed: {done.last_error}; is the disk full?")
    return done.text


def _one(root: Path, *patterns: str) -> Path:
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    if not found:
        raise HostError(f"the package has no {patterns[0]}")
    return found[0]


def _file(root: Path, release: str, *names: str) -> Path:
    """By one of its names: in /boot, or since 7.x beside the modules."""
    return _one(root, *(f"boot/{name}-{release}" for name in names), *(f"usr/lib/modules/{release}/{name}" for name in names))


def _keep(source: Source, target: Target, package: Package, root: Path, store: Store, place: Path) -> Kernel:
    shutil.rmtree(place, ignore_errors=True)
    with store.making(place) as fresh:
        image = _file(root, package.release, "vmlinuz", "vmlinux")
        (fresh / "image").write_bytes(_bare(image.read_bytes()))
        for name in ("config", "System.map"):
            shutil.copyfile(_file(root, package.release, name), fresh / name)
        (fresh / "modules").mkdir()
        names = []
        for name, data in _modules(_one(root, "lib/modules/*", "usr/lib/modules/*")):
            names.append(f"{name}.ko")
            (fresh / "modules" / names[-1]).write_bytes(data)
        banner = read_banner(fresh / "image")
        made = kernel.ready(
            place,
            ["config", "System.map"],
            target=target.name,
            release=banner.release or package.release,
            compiler=banner.compiler,
            source=str(source.spec),
            identity=f"{package.name}={package.version}",
            modules=tuple(names),
        )
        made.save(fresh)
    return made


def _bare(image: bytes) -> bytes:
    """What QEMU can start: arm64's comes gzipped, or inside an EFI program (drivers/firmware/efi/libstub/zboot-header.S)."""
    if image[:2] == b"MZ" and image[4:8] == b"zimg":
        start, size = (int.from_bytes(image[at : at + 4], "little") for at in (8, 12))
        return _decompressed(image[start : start + size])
    return _decompressed(image) if image[:2] == b"\x1f\x8b" else image


def _decompressed(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        require("zstd", "a kernel that is packed by zstd")
        return subprocess.run(["zstd", "--decompress", "--stdout"], input=data, capture_output=True, check=True).stdout
    return data


def _modules(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Each module that is wanted, or needed by one, after those it depends on.  What there is none of is built in."""
    files = {_name(path): path for path in directory.rglob("*.ko*")}
    done: set[str] = set()

    def follow(name: str) -> Iterator[tuple[str, bytes]]:
        if name in done or name not in files:
            return
        done.add(name)
        data = _decompressed(files[name].read_bytes())
        for needed in depends(data):
            yield from follow(needed)
        yield name, data

    for wanted in MODULES:
        yield from follow(wanted)


def _name(path: Path) -> str:
    """As the kernel calls it: virtio-rng.ko.xz is virtio_rng."""
    return path.name.partition(".ko")[0].replace("-", "_")


def depends(module: bytes) -> list[str]:
    """The modules that a module says it needs."""
    found = _DEPENDS.search(module)
    return [word.replace("-", "_") for word in found[1].decode().split(",") if word] if found else []

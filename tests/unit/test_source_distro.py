# SPDX-License-Identifier: GPL-2.0-or-later
"""distro: with the real apt and dpkg, from an archive of image packages made here: no network."""

from __future__ import annotations

import functools
import gzip
import lzma
import shutil
import signal
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode, HostError, UsageError
from harness.interruption import Interrupted, interrupt
from harness.kernel import build
from harness.kernel import distro as unpacked
from harness.source import distro, parse_spec, resolve
from harness.source.distro import FLAVOURS, Package
from harness.store import Store
from harness.targets import table

from .debian_archive import Archive, interrupting, needs_apt, nothing_is_left, stalling

pytestmark = needs_apt

X86, ARM = table()["x86_64"], table()["aarch64"]
BANNER = b"\x7fELF" + bytes(0x220) + b"Linux version 6.1.0-9-amd64 (x@y) (gcc-12 (Debian) 12.2.0) #1 SMP\n\0"


def module(*needs: str) -> bytes:
    return b"\x7fELF code \0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


class Images(Archive):
    """An archive of linux-image packages."""

    def add(self, name: str, version: str, architecture: str = "amd64", image: bytes = BANNER) -> Path:
        """One package with all that a kernel has."""
        build = self.root.parent / f"build-{name}-{version}"
        self._fill(build, name.removeprefix("linux-image-"), image)
        return self.pack(build, name, version, architecture)

    def _fill(self, build: Path, release: str, image: bytes) -> None:
        (build / "boot").mkdir(parents=True)
        (build / f"boot/vmlinuz-{release}").write_bytes(image)
        (build / f"boot/config-{release}").write_text("CONFIG_VIRTIO_BLK=m\n")
        (build / f"boot/System.map-{release}").write_text("0 T x\n")
        drivers = build / f"lib/modules/{release}/kernel/drivers"
        drivers.mkdir(parents=True)
        (drivers / "virtio-ring.ko").write_bytes(module())
        (drivers / "virtio.ko.xz").write_bytes(lzma.compress(module("virtio_ring")))
        (drivers / "virtio_blk.ko.xz").write_bytes(lzma.compress(module("virtio", "virtio_ring")))
        (drivers / "virtio_net.ko").write_bytes(module("virtio"))

    def split(self, release: str, version: str) -> None:
        """The same in several packages, as they are since 7.x."""
        build = self.root.parent / f"build-{release}-{version}"
        self._fill(build, release, BANNER)
        for kind, files in (("binary", ["vmlinuz"]), ("base", ["config", "System.map"]), ("modules", [])):
            directory = self.root.parent / f"part-{kind}/usr/lib/modules/{release}"
            directory.mkdir(parents=True)
            for file in files:
                (build / f"boot/{file}-{release}").rename(directory / file)
            if kind == "modules":
                (build / f"lib/modules/{release}/kernel").rename(directory / "kernel")
            self.pack(self.root.parent / f"part-{kind}", f"linux-{kind}-{release}", version, "amd64")
        needs = [f"linux-{kind}-{release} (= {version})" for kind in ("base", "binary", "modules")]
        image = self.root.parent / "part-image"
        image.mkdir()
        needs.insert(0, "dracut | initramfs-tools (>= 0.120)")
        self.pack(image, f"linux-image-{release}", version, "amd64", depends=", ".join(needs))


@pytest.fixture
def archive(tmp_path: Path) -> Images:
    archive = Images(tmp_path)
    archive.add("linux-image-6.1.0-9-amd64", "6.1.27-1")
    return archive


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_usual_kernels_of_a_series_the_newest_first() -> None:
    releases = (
        "6.1.0-9-amd64 6.1.0-10-amd64 6.1.0-10-rt-amd64 6.1.0-11-cloud-amd64 6.1.0-0.deb11.7-amd64 6.1.0-12-amd64-unsigned "
        "6.12.43+deb12-amd64 6.12.107+deb13-amd64 6.12.107+deb13-arm64 6.10.1-amd64 amd64"
    )
    names = [f"linux-image-{release}" for release in releases.split()]
    assert distro.newest(names, "6.1", "amd64") == [
        "linux-image-6.1.0-10-amd64", "linux-image-6.1.0-9-amd64", "linux-image-6.1.0-0.deb11.7-amd64",
    ]  # fmt: skip
    assert distro.newest(names, "6.12", "amd64") == ["linux-image-6.12.107+deb13-amd64", "linux-image-6.12.43+deb12-amd64"]


def test_the_kernel_and_its_modules_in_the_order_of_their_needs(archive: Images, store: Store) -> None:
    source = resolve(parse_spec("distro:6.1"), store)
    kernel = unpacked.wrap(source, X86, store, etc=archive.etc)
    assert kernel.image.read_bytes() == BANNER
    assert kernel.release == "6.1.0-9-amd64"
    assert kernel.identity == "linux-image-6.1.0-9-amd64=6.1.27-1"
    assert kernel.vmlinux is None
    assert kernel.config is not None
    assert kernel.modules == ("virtio_ring.ko", "virtio.ko", "virtio_blk.ko")
    assert [unpacked.depends((kernel.directory / "modules" / name).read_bytes()) for name in kernel.modules] == [
        [],
        ["virtio_ring"],
        ["virtio", "virtio_ring"],
    ]
    shutil.rmtree(archive.root)
    again = unpacked.wrap(source, X86, store, etc=archive.etc)
    assert again.cached
    assert again.modules == kernel.modules
    assert not list((store.root / "tmp").iterdir())


def test_a_kernel_that_is_in_several_packages(archive: Images, store: Store) -> None:
    archive.split("7.2.13+deb14-amd64", "7.2.13-1")
    kernel = unpacked.wrap(resolve(parse_spec("distro:7.2"), store), X86, store, etc=archive.etc)
    assert kernel.image.read_bytes() == BANNER
    assert kernel.identity == "linux-image-7.2.13+deb14-amd64=7.2.13-1"
    assert kernel.config is not None
    assert kernel.config.read_text() == "CONFIG_VIRTIO_BLK=m\n"
    assert kernel.modules == ("virtio_ring.ko", "virtio.ko", "virtio_blk.ko")


def test_only_parts_of_the_same_kernel_are_fetched() -> None:
    others = "linux-base (>= 4.3~), linux-modules-6.1.0-9-amd64 (= 6.1.27-1), linux-binary-7.2-amd64 (>= 7), kmod"
    assert distro.parts("7.2-amd64", others) == []
    assert distro.parts("7.2-amd64", f"{others}, linux-binary-7.2-amd64 (= 7.2-1)") == [
        Package("linux-binary-7.2-amd64", "7.2-1")
    ]


def test_the_newest_or_the_one_that_is_named(archive: Images, store: Store) -> None:
    archive.add("linux-image-6.1.0-10-amd64", "6.1.38-1")
    amd64 = FLAVOURS["x86_64"]
    assert distro.find(parse_spec("distro:6.1"), amd64, store, archive.etc) == Package("linux-image-6.1.0-10-amd64", "6.1.38-1")
    pinned = distro.find(parse_spec("distro:6.1=6.1.27-1"), amd64, store, archive.etc)
    assert pinned.name == "linux-image-6.1.0-9-amd64"
    with pytest.raises(UsageError, match=r"no version 6\.1\.1-1 of .*it knows .*6\.1\.38-1"):
        distro.find(parse_spec("distro:6.1=6.1.1-1"), amd64, store, archive.etc)
    with pytest.raises(UsageError, match=r"no package linux-image-6\.3\.\*-amd64"):
        distro.find(parse_spec("distro:6.3"), amd64, store, archive.etc)


def test_a_package_that_is_listed_and_gone_gives_way_to_the_next(archive: Images, store: Store) -> None:
    archive.add("linux-image-6.1.0-10-amd64", "6.1.38-1").unlink()
    source = resolve(parse_spec("distro:6.1"), store)
    assert unpacked.wrap(source, X86, store, etc=archive.etc).identity == "linux-image-6.1.0-9-amd64=6.1.27-1"
    with pytest.raises(HostError, match=r"cannot download linux-image-6\.1\.0-10-amd64"):
        unpacked.wrap(resolve(parse_spec("distro:6.1=6.1.38-1"), store), X86, store, etc=archive.etc)


def test_another_architecture_has_lists_of_its_own(archive: Images, store: Store) -> None:
    archive.add("linux-image-6.1.0-9-arm64", "6.1.27-1", "arm64", gzip.compress(BANNER))
    source = resolve(parse_spec("distro:6.1"), store)
    kernel = unpacked.wrap(source, ARM, store, etc=archive.etc)
    assert kernel.image.read_bytes() == BANNER
    assert kernel.identity == "linux-image-6.1.0-9-arm64=6.1.27-1"
    assert (store.root / "facts/apt-arm64/apt.conf").exists()


def test_an_image_inside_an_efi_program() -> None:
    payload = gzip.compress(BANNER)
    zboot = b"MZ\0\0zimg" + struct.pack("<II", 64, len(payload)) + bytes(48) + payload
    assert unpacked._bare(zboot) == BANNER
    assert unpacked._bare(BANNER) == BANNER


def test_what_cannot_be_done_with_it_is_129(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    patch = tmp_path / "x.patch"
    patch.write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
    for words, says in (
        (["run", "--kernel", "distro:6.1", "--target", "ppc64"], "Debian has no kernel for ppc64"),
        (["run", "--kernel", "distro:six"], "write distro:6.1 or distro:6.1=VERSION"),
        (["run", "--kernel", "distro:6.1", "--patch", str(patch)], "is a ready image"),
        (["contains", "distro:6.1"], "is a ready image"),
        (["mutants", "--kernel", "distro:6.1", "--out", "m"], "is a ready image"),
    ):
        assert main(words) == ExitCode.USAGE, words
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("words", ["run", "build"])
def test_an_interrupt_during_a_download(
    words: str, archive: Images, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(store.root))
    monkeypatch.setattr(unpacked, "wrap", functools.partial(unpacked.wrap, etc=archive.etc))
    with stalling(archive, monkeypatch) as mirror, interrupting(mirror, signal.SIGINT):
        code = main([words, "--kernel", "distro:6.1", *(["--out", str(tmp_path / "out")] if words == "run" else [])])
    assert code == ExitCode.INTERRUPTED
    nothing_is_left(store)


def test_two_runs_that_want_one_package_are_interrupted(archive: Images, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "wrap", functools.partial(unpacked.wrap, etc=archive.etc))
    source = resolve(parse_spec("distro:6.1"), store)
    with stalling(archive, monkeypatch) as mirror, ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(build, source, X86, store) for _ in range(2)]
        assert mirror.stalled.wait(30)
        start = time.monotonic()
        interrupt()
        for ended in runs:  # one waits for the mirror, the other for its lock
            with pytest.raises(Interrupted):
                ended.result(10)
    assert time.monotonic() - start < 3
    nothing_is_left(store)

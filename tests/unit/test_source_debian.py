# SPDX-License-Identifier: GPL-2.0-or-later
"""debian: with the real apt and dpkg, from an archive made here: no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import ExitCode, HostError, UsageError
from harness.interruption import Interrupted, interrupt
from harness.source import debian, parse_spec, resolve, suites
from harness.source.apt import LISTS_MAX_AGE
from harness.source.resolve import release_of
from harness.store import Store

from .debian_archive import Archive, Mirror, control, interrupting, needs_apt, nothing_is_left, stalling, stanza

pytestmark = needs_apt


class Sources(Archive):
    """An archive of linux-source packages."""

    def add(self, version: str, kind: str = "xz") -> None:
        build = self.root.parent / f"build-{version}"
        tree = build / "linux-source-6.1"
        (tree / "arch").mkdir(parents=True)
        (tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 1\nEXTRAVERSION =\n")
        (tree / "version").write_text(version)
        (build / "deb/usr/src").mkdir(parents=True)
        (build / "deb/usr/share/doc").mkdir(parents=True)
        with tarfile.open(build / f"deb/usr/src/linux-source-6.1.tar.{kind}", f"w:{kind}") as tar:  # type: ignore[call-overload]
            tar.add(tree, "linux-source-6.1")
        self.pack(build / "deb", "linux-source-6.1", version)


@pytest.fixture
def archive(tmp_path: Path) -> Sources:
    archive = Sources(tmp_path)
    archive.add("6.1.9-1")
    return archive


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def outdate(store: Store) -> None:
    long_ago = time.time() - 2 * LISTS_MAX_AGE
    for path in [*store.root.glob("facts/apt*/updated"), *store.root.glob("facts/apt/candidate-*")]:
        os.utime(path, (long_ago, long_ago))


def get(text: str, store: Store, archive: Sources) -> str:
    tree, version = debian.locate(parse_spec(text), store, archive.etc)
    assert (tree / "version").read_text() == version
    assert release_of(tree) == "6.1.1"
    return version


def test_download_unpack_and_again_without_archive(archive: Sources, store: Store) -> None:
    assert get("debian:6.1", store, archive) == "6.1.9-1"
    assert list((store.root / "facts/apt/state/lists").glob("*Packages*")), "apt's lists are in the store"
    archive.vanish()
    assert get("debian:6.1", store, archive) == "6.1.9-1"
    assert get("debian:6.1=6.1.9-1", store, archive) == "6.1.9-1"
    assert not list((store.root / "tmp").iterdir())


def test_newest_is_the_default_and_pins_work(archive: Sources, store: Store) -> None:
    archive.add("6.1.10-1", "gz")
    assert get("debian:6.1", store, archive) == "6.1.10-1"
    assert get("debian:6.1=6.1.9-1", store, archive) == "6.1.9-1"


def test_lists_of_today_are_not_fetched_again_but_old_ones_are(archive: Sources, store: Store) -> None:
    assert get("debian:6.1", store, archive) == "6.1.9-1"
    archive.add("6.1.10-1")
    assert get("debian:6.1", store, archive) == "6.1.9-1"
    outdate(store)
    assert get("debian:6.1", store, archive) == "6.1.10-1"


def test_a_pin_that_the_lists_lack_fetches_them(archive: Sources, store: Store) -> None:
    get("debian:6.1", store, archive)
    archive.add("6.1.8-1")
    assert get("debian:6.1=6.1.8-1", store, archive) == "6.1.8-1"


def test_without_archive_the_newest_in_the_store_serves(archive: Sources, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    archive.add("6.1.10-1")
    get("debian:6.1=6.1.9-1", store, archive)
    get("debian:6.1=6.1.10-1", store, archive)
    archive.vanish()
    outdate(store)
    assert get("debian:6.1", store, archive) == "6.1.10-1"
    outdate(store)
    shutil.rmtree(store.root / "facts/apt/state/lists")
    assert get("debian:6.1", store, archive) == "6.1.10-1"
    assert "which is in the store" in caplog.text


def test_without_archive_and_empty_store(archive: Sources, store: Store) -> None:
    archive.vanish()
    with pytest.raises(HostError, match=r"debian:6\.1: the package lists could not be fetched"):
        get("debian:6.1", store, archive)


def test_what_apt_does_not_know(archive: Sources, store: Store) -> None:
    with pytest.raises(UsageError, match=r"no package linux-source-6\.99, but 6\.1; add a suite .* /etc/apt/sources\.list\.d"):
        get("debian:6.99", store, archive)
    with pytest.raises(UsageError, match=r"no such version .* it knows 6\.1\.9-1"):
        get("debian:6.1=6.1.7-1", store, archive)


def test_no_apt_is_named(archive: Sources, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="apt-get is missing"):
        get("debian:6.1", store, archive)


def test_a_package_without_source_is_refused(archive: Sources, store: Store, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "empty").mkdir()
    package = archive.pack(tmp_path / "empty", "x", "1")
    with pytest.raises(HostError, match="no source tarball"):
        debian.unpack(package, scratch, tmp_path / "tree")


class Suites:
    """A mirror of Debian in which each suite has one kernel; the host knows the first suite only."""

    def __init__(self, archive: Sources, **kernels: str) -> None:
        self.etc, self.archive = archive.etc, archive
        architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
        (package,) = archive.root.glob("*.deb")
        for name, series in kernels.items():
            suite = name.replace("_", "-")
            listed = f"main/binary-{architecture}/Packages"
            offered = stanza(control(f"linux-source-{series}", "6.1.9-1", "all"), package).encode()
            place = archive.root / "dists" / suite
            (place / listed).parent.mkdir(parents=True)
            (place / listed).write_bytes(offered)
            (place / "Release").write_text(
                f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: {architecture}\nComponents: main\n"
                f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {hashlib.sha256(offered).hexdigest()} {len(offered)} {listed}\n"
            )
        first = next(iter(kernels))
        (self.etc / "sources.list").write_text(f"# of the host\ndeb [trusted=yes] file:{archive.root} {first} main\n")


def test_debians_other_suites_on_the_same_mirror(archive: Sources, store: Store) -> None:
    Suites(archive, bookworm="6.1", trixie="6.12", bullseye="5.10", experimental="9.9")
    before = {path: path.read_bytes() for path in archive.etc.rglob("*") if path.is_file()}
    for series in ("6.1", "6.12", "5.10"):
        assert get(f"debian:{series}", store, archive) == "6.1.9-1"
    assert get("debian:6.12=6.1.9-1", store, archive) == "6.1.9-1"
    assert debian.offered(store, archive.etc) == ["5.10", "6.1", "6.12"]
    with pytest.raises(UsageError, match=r"no package linux-source-9\.9, but 5\.10, 6\.1, 6\.12"):
        get("debian:9.9", store, archive)
    assert {path: path.read_bytes() for path in archive.etc.rglob("*") if path.is_file()} == before, "the host's sources"


def test_a_suite_that_the_mirror_lacks_does_not_matter(archive: Sources, store: Store) -> None:
    Suites(archive, bookworm="6.1", trixie="6.12")
    assert get("debian:6.12", store, archive) == "6.1.9-1", "although there is no bullseye"


def test_another_distribution_has_no_such_suites(archive: Sources, store: Store) -> None:
    Suites(archive, bookworm="6.1", trixie="6.12")
    release = archive.root / "dists/bookworm/Release"
    release.write_text(release.read_text().replace("Origin: Debian", "Origin: Other"))
    assert get("debian:6.1", store, archive) == "6.1.9-1"
    with pytest.raises(UsageError, match=r"no package linux-source-6\.12, but 6\.1;"):
        get("debian:6.12", store, archive)


@pytest.mark.parametrize(
    ("name", "entry", "wanted"),
    [
        ("x.sources", "Types: deb\nURIs: http://m/other\nSuites: x\nSigned-By: /no\n\n# a word\nTypes: deb\nURIs: http://m/debian\n"
         "Suites: bookworm trixie\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg\n",
         "Signed-By: /usr/share/keyrings/k.gpg"),
        ("x.list", "#deb [signed-by=/no] http://m/debian sid main\ndeb [arch=x signed-by=/k.gpg] http://m/debian bookworm main\n",
         "Signed-By: /k.gpg"),
        ("x.list", "deb http://m/debian bookworm main\n", ""),
    ],
)  # fmt: skip
def test_keys_are_those_of_the_host(name: str, entry: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(entry)
    told = f"Debian|bookworm|http://m/debian/|{tmp_path / name}:1|main\nDebian|trixie|http://m/debian/|{tmp_path / name}:1|main\n"
    made = suites.sources(suites.repositories(told)).splitlines()
    assert made[:3] == ["Types: deb", "URIs: http://m/debian", "Suites: bullseye bookworm-backports trixie-backports sid"]
    assert [line for line in made if line.startswith(("Signed-By", "Trusted"))] == ([wanted] if wanted else [])


@pytest.fixture
def mirror(archive: Sources, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    locate = debian.locate
    monkeypatch.setattr(debian, "locate", lambda spec, store: locate(spec, store, archive.etc))
    with stalling(archive, monkeypatch) as server:
        yield server


def test_a_download_in_another_thread_is_interrupted(mirror: Mirror, store: Store) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(resolve, parse_spec("debian:6.1"), store) for _ in range(2))
        assert mirror.stalled.wait(30)
        start = time.monotonic()
        interrupt()
        for ended in (first, second):  # one waits for the mirror, the other for its lock
            with pytest.raises(Interrupted):
                ended.result(10)
    assert time.monotonic() - start < 3
    nothing_is_left(store)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", ["run", "build"])
def test_an_interrupt_during_a_download(
    words: str, number: signal.Signals, mirror: Mirror, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(store.root))
    with interrupting(mirror, number):
        code = main([words, "--kernel", "debian:6.1", *(["--out", str(tmp_path / "out")] if words == "run" else [])])
    assert code == ExitCode.INTERRUPTED
    nothing_is_left(store)

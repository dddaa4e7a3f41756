# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel source from Debian's ``linux-source-X.Y`` packages.

apt works in a state of its own inside the store: the mirrors and keys are those the host's apt is configured with, while the
host's package lists, cache and dpkg status are neither needed nor touched, so no root is needed.  What the host's suites do not
have is looked for in Debian's other suites on the same mirrors (harness.source.suites), in a second such state.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from harness import interruption
from harness.errors import HostError, UsageError
from harness.source import suites
from harness.source.command import require, run
from harness.source.spec import Spec
from harness.store import Store, write_atomically

log = logging.getLogger("harness.source")

LISTS_MAX_AGE = 24 * 3600.0
"""Seconds after which the package lists are asked for again."""

# #clear forgets the host's hooks, which act on the host (and may want root); the settings are explained in apt.conf(5).
_CONFIGURATION = """\
Dir::State "{apt}/state";
Dir::State::lists "lists/";
Dir::State::status "{apt}/state/status";
Dir::State::extended_states "extended_states";
Dir::Cache "{apt}/cache";
Dir::Cache::archives "archives/";
Dir::Log "{apt}/log";
Dir::Etc "{etc}";
Dir::Etc::trusted "{host}/trusted.gpg";
Dir::Etc::trustedparts "{host}/trusted.gpg.d";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Post-Invoke-Stats;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Invoke;
"""


class DownloadError(HostError):
    """A package is in the lists, and cannot be had."""


class Apt:
    """apt with a state of its own under ``store``.  Hold the lock "apt" around its methods.

    ``etc`` is the host's configuration; ``further``: Debian's other suites on the host's mirrors, instead of what it has;
    ``architecture``: Debian's name of one, "" for the host's.
    """

    def __init__(self, store: Store, etc: Path = Path("/etc/apt"), further: str = "", architecture: str = "") -> None:
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            require(program, "debian:… (a Debian package)")
        words = ["apt", *(["suites"] if further else []), *([architecture] if architecture else [])]
        self.root = store.root / "facts" / "-".join(words)
        for name in ("state/lists/partial", "cache/archives/partial", "log"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "state" / "status").touch()
        self._configuration = self.root / "apt.conf"
        own = etc
        if further:
            own = self.root / "etc"
            (own / "sources.list.d").mkdir(parents=True, exist_ok=True)
            write_atomically(own / "sources.list.d" / "suites.sources", further)
        text = _CONFIGURATION.format(apt=self.root, etc=own, host=etc)
        if architecture:
            text += (
                f'APT::Architecture "{architecture}";\n#clear APT::Architectures;\nAPT::Architectures {{ "{architecture}"; }};\n'
            )
        write_atomically(self._configuration, text)
        self._updated = self.root / "updated"

    def _argv(self, program: str, *arguments: str) -> list[str]:
        return [program, "-c", str(self._configuration), "-q", *arguments]

    def lists_age(self) -> float:
        """Seconds since the lists were last fetched; infinite when they never were."""
        try:
            return max(0.0, time.time() - self._updated.stat().st_mtime)
        except FileNotFoundError:
            return float("inf")

    def update(self) -> str:
        """Fetch the package lists.  Gives why it failed, or "".  What fetched well is used even so."""
        done = run(self._argv("apt-get", "update", "--error-on=any"), log=log)
        return done.last_error if done.status else ""

    def mark_updated(self) -> None:
        """The lists are as good as they get today."""
        self._updated.touch()

    def repositories(self) -> list[suites.Repository]:
        """Where the lists come from, as far as they were fetched."""
        return suites.repositories(run(self._argv("apt-get", "indextargets", "--format", suites.FORMAT), log=log).text)

    def series(self) -> list[str]:
        """The X.Y of all packages linux-source-X.Y that the lists know, the oldest first."""
        found = {name.removeprefix("linux-source-") for name in self.names("linux-source-")}
        return sorted((name for name in found if re.fullmatch(r"[0-9]+\.[0-9]+", name)), key=natural)

    def names(self, prefix: str) -> list[str]:
        """All packages that the lists know whose names begin so."""
        return run(self._argv("apt-cache", "pkgnames", "--", prefix), log=log).text.split()

    def candidate(self, package: str) -> str:
        """The version that apt would install, or "" when it knows none."""
        for line in run(self._argv("apt-cache", "policy", "--", package), log=log).text.splitlines():
            label, _, value = line.strip().partition(": ")
            if label == "Candidate" and value != "(none)":
                return value
        return ""

    def versions(self, package: str) -> list[str]:
        """All versions that the lists know, newest first."""
        rows = run(self._argv("apt-cache", "madison", "--", package), log=log).text.splitlines()
        return list(dict.fromkeys(row.split("|")[1].strip() for row in rows if row.count("|") >= 2))

    def download(self, package: str, version: str, into: Path) -> Path:
        """Fetch one package file into the directory ``into``.  apt checks its hash and the archive's signature."""
        done = run(self._argv("apt-get", "download", "--", f"{package}={version}"), log=log, cwd=into)
        found = sorted(into.glob("*.deb"))
        if done.status or not found:
            raise DownloadError(f"cannot download {package}={version}: {done.last_error}")
        return found[0]


def unpack(package: Path, scratch: Path, tree: Path) -> None:
    """Put the source tarball that is the package's one large member (.tar.xz or .tar.gz) unpacked at ``tree``."""
    listing = ["dpkg-deb", "--fsys-tarfile", str(package)]
    take = [
        "tar",
        "--extract",
        f"--directory={scratch}",
        "--wildcards",
        "--no-same-owner",
        "--strip-components=3",
        "./usr/src/linux-source-*.tar.*",
    ]
    log.info("%s |", shlex.join(listing))
    with subprocess.Popen(listing, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as producer:
        taken = run(take, log=log, stdin=producer.stdout)
    tarballs = sorted(scratch.glob("linux-source-*.tar.*"))
    if producer.returncode or taken.status or not tarballs:
        why = taken.errors.strip().splitlines()
        raise HostError(f"{package.name}: no source tarball came out of it ({why[0] if why else 'dpkg-deb failed'})")
    if tarballs[0].suffix == ".xz":
        require("xz", f"unpacking {tarballs[0].name}")
    tree.mkdir()
    done = run(
        ["tar", "--extract", f"--file={tarballs[0]}", f"--directory={tree}", "--strip-components=1", "--no-same-owner"], log=log
    )
    tarballs[0].unlink()
    if done.status:
        raise HostError(f"{tarballs[0].name}: tar failed: {done.last_error}; is the disk full?")


def place_of(store: Store, series: str, version: str) -> Path:
    """Where a package version is unpacked; the tree is ``linux`` in it."""
    return store.root / "src" / f"debian-{series}-{version}"


def natural(version: str) -> list[tuple[int, str]]:
    """A key that orders a package's versions as people read them, close enough to deb-version(7) for one series."""
    return [(int(number or -1), word) for word, number in re.findall(r"([^0-9]*)([0-9]*)", version)]


def _unpacked(store: Store, series: str) -> list[str]:
    """Versions of the series that are in the store, the newest first."""
    prefix = f"debian-{series}-"
    names = [p.name.removeprefix(prefix) for p in (store.root / "src").glob(f"{prefix}*") if (p / "linux").is_dir()]
    return sorted(names, key=natural, reverse=True)


def apts(store: Store, etc: Path, architecture: str = "") -> Iterator[Apt]:
    """The host's apt, and after it, if the host is a Debian, one for the suites that the host does not have.

    For an architecture that is not the host's they have states of their own.
    """
    if architecture and architecture == _host_architecture():
        architecture = ""
    host = Apt(store, etc, architecture=architecture)
    yield host
    if further := suites.sources(host.repositories()):
        yield Apt(store, etc, further, architecture)


def _host_architecture() -> str:
    return run(["dpkg", "--print-architecture"], log=log).text.strip()


def _known(apt: Apt, spec: Spec) -> str:
    """The version that an apt would take, as far as its lists are here; "" for none."""
    package = f"linux-source-{spec.value}"
    if spec.version:
        return spec.version if spec.version in apt.versions(package) else ""
    return apt.candidate(package)


def _choose(apt: Apt, spec: Spec) -> tuple[str, str]:
    """The version to use, or "", and why the lists could not be fetched.

    They are fetched when they are old, or do not have what is asked for, unless they were fetched just now.
    """
    if apt.lists_age() < LISTS_MAX_AGE and (version := _known(apt, spec)):
        return version, ""
    why = apt.update()
    if version := _known(apt, spec):
        apt.mark_updated()
    return version, why


def _find(spec: Spec, store: Store, available: list[str], etc: Path) -> str:
    """The version to use, wherever Debian has it.  HostError when the lists cannot be had, UsageError when it has none."""
    whys, others, series = [], [], []
    for apt in apts(store, etc):
        version, why = _choose(apt, spec)
        if version:
            return version
        whys += [why] if why else []
        others += apt.versions(f"linux-source-{spec.value}")
        series += apt.series()
    if whys and available and not spec.version:
        log.warning(
            "%s: the package lists could not be fetched (%s); taking %s, which is in the store", spec, whys[0], available[0]
        )
        return available[0]
    if whys and not series:
        raise HostError(f"{spec}: the package lists could not be fetched: {whys[0]}")
    if others:
        known = ", ".join(dict.fromkeys(others))
        raise UsageError(f"{spec}: apt knows no such version of linux-source-{spec.value}; it knows {known}")
    known = ", ".join(sorted(set(series), key=natural)) or "none at all"
    hint = f" (not all lists could be fetched: {whys[0]})" if whys else ""
    raise UsageError(
        f"{spec}: apt knows no package linux-source-{spec.value}, but {known}{hint}; "
        "add a suite that has it to /etc/apt/sources.list.d, or name a tree with tree:PATH"
    )


def _wanted(spec: Spec, store: Store, available: list[str], etc: Path) -> str:
    """The version that ``spec`` means today."""
    if spec.version in available:
        return spec.version
    with interruption.lock(store, "apt"):
        remembered = store.root / "facts" / "apt" / f"candidate-{spec.value}"
        if not spec.version and (version := _remembered(remembered)) in available:
            return version
        version = _find(spec, store, available, etc)
        if not spec.version:
            write_atomically(remembered, version)
        return version


def _remembered(file: Path) -> str:
    """What was found today, or "": newer versions come."""
    try:
        fresh = time.time() - file.stat().st_mtime < LISTS_MAX_AGE
        return file.read_text(encoding="utf-8").strip() if fresh else ""
    except OSError:
        return ""


def download(spec: Spec, version: str, store: Store, into: Path, etc: Path = Path("/etc/apt")) -> Path:
    """The package file, fetched by the apt that knows it into a directory; "" for the version that it would take."""
    package = f"linux-source-{spec.value}"
    all_apts = list(apts(store, etc))
    knowing = next((apt for apt in all_apts if (version or apt.candidate(package)) in apt.versions(package)), all_apts[0])
    return knowing.download(package, version or knowing.candidate(package), into)


def _ensure(spec: Spec, version: str, store: Store, etc: Path) -> Path:
    """The place of an unpacked version, which is downloaded if need be."""
    place = place_of(store, spec.value, version)
    store.pin(place)
    with interruption.lock(store, f"src-{place.name}"):
        if not place.is_dir():
            with interruption.lock(store, "apt"), store.scratch() as scratch, store.making(place) as fresh:
                unpack(download(spec, version, store, scratch, etc), scratch, fresh / "linux")
    store.touch(place)
    return place


def offered(store: Store, etc: Path = Path("/etc/apt")) -> list[str]:
    """The series that Debian is known to have, from lists that were fetched before; nothing is fetched."""
    if not (store.root / "facts" / "apt" / "apt.conf").exists():
        return []
    with interruption.lock(store, "apt"):
        return sorted({series for apt in apts(store, etc) for series in apt.series()}, key=natural)


def locate(spec: Spec, store: Store, etc: Path = Path("/etc/apt")) -> tuple[Path, str]:
    """The unpacked tree and its package version, downloaded when it is not in the store yet.

    Without network the newest version that is in the store serves an unpinned ``spec``.  HostError when it cannot be had
    from here, UsageError when apt has no such package.
    """
    available = _unpacked(store, spec.value)
    version = _wanted(spec, store, available, etc)
    try:
        place = _ensure(spec, version, store, etc)
    except HostError as e:
        if spec.version or not available:
            raise
        log.warning("%s: %s; taking %s, which is in the store", spec, e, available[0])
        version = available[0]
        place = _ensure(spec, version, store, etc)
    return place / "linux", version

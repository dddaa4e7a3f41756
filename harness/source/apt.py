# SPDX-License-Identifier: GPL-2.0-or-later
"""apt, with a state of its own inside the store.

The mirrors and keys are those the host's apt is configured with, while the host's package lists, cache and dpkg status are
neither needed nor touched, so no root is needed.  What the host's suites do not have is looked for in Debian's other suites on
the same mirrors (harness.source.suites), in a second such state.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from harness import interruption
from harness.errors import HostError
from harness.source import suites
from harness.source.command import require, run
from harness.store import Store, write_atomically

log = logging.getLogger("harness.source")

Found = TypeVar("Found")

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
            require(program, "debian:… or distro:… (a Debian package)")
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

    def ask(self, find: Callable[[Apt], Found | None]) -> tuple[Found | None, str]:
        """What ``find`` finds in the lists, and why these could not be fetched, or "".

        They are fetched when they are old, or when it finds nothing in them.
        """
        if self.lists_age() < LISTS_MAX_AGE and (found := find(self)):
            return found, ""
        why = self.update()
        if found := find(self):
            self._updated.touch()  # the lists are as good as they get today
        return found, why

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


def natural(version: str) -> list[tuple[int, str]]:
    """A key that orders a package's versions as people read them, close enough to deb-version(7) for one series."""
    return [(int(number or -1), word) for word, number in re.findall(r"([^0-9]*)([0-9]*)", version)]


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


def fetch(package: str, version: str, store: Store, into: Path, etc: Path = Path("/etc/apt"), architecture: str = "") -> Path:
    """A package's file, in the directory ``into``, by the first apt whose lists know the version.  DownloadError without it."""
    with interruption.lock(store, "apt"):
        known = list(apts(store, etc, architecture))
        return next((apt for apt in known if version in apt.versions(package)), known[0]).download(package, version, into)

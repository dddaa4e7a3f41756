# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own binary kernels (``distro:X.Y``): a series' image package, found and fetched by the apt that ``debian:`` uses.

A package is for one architecture, so that which one is wanted is known only when a target is.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from harness import interruption
from harness.errors import HostError, UsageError
from harness.source.apt import LISTS_MAX_AGE, Apt, apts, fetch, natural
from harness.source.spec import Spec
from harness.store import Store, write_atomically

log = logging.getLogger("harness.source")


@dataclass(frozen=True)
class Flavour:
    """Debian's name of an architecture, and that of the kernel that is meant for its machines in general."""

    architecture: str
    name: str


FLAVOURS = {  # by the target's machine_arch
    "x86_64": Flavour("amd64", "amd64"),
    "aarch64": Flavour("arm64", "arm64"),
    "ppc64le": Flavour("ppc64el", "powerpc64le"),
}


@dataclass(frozen=True)
class Package:
    """A package linux-image-…, and its version."""

    name: str
    version: str

    @property
    def release(self) -> str:
        """What the kernel in it calls itself."""
        return self.name.removeprefix("linux-image-")


def flavour_of(spec: Spec, machine_arch: str) -> Flavour:
    """UsageError for a machine that Debian has no kernel for."""
    if machine_arch not in FLAVOURS:
        raise UsageError(f"{spec}: Debian has no kernel for {machine_arch}, but for {', '.join(FLAVOURS)}")
    return FLAVOURS[machine_arch]


def newest(names: list[str], series: str, flavour: str) -> list[str]:
    """Of packages' names those of a series' usual kernels, the newest first: no rt, no cloud, nothing unsigned."""
    form = re.compile(rf"linux-image-{re.escape(series)}\.[0-9][0-9a-z.+~]*(?:-[0-9][0-9a-z.]*)?-{re.escape(flavour)}")
    return sorted((name for name in names if form.fullmatch(name)), key=natural, reverse=True)


def find(spec: Spec, flavour: Flavour, store: Store, etc: Path = Path("/etc/apt"), without: Collection[Package] = ()) -> Package:
    """The package that ``spec`` means today; ``without`` those that are in the lists and cannot be had.

    HostError when the lists cannot be had and none is remembered, UsageError when apt has no such package.
    """
    with interruption.lock(store, "apt"):
        remembered = store.root / "facts" / f"image-{spec.value}-{flavour.architecture}"
        known = _remembered(remembered)
        if known and known not in without and not spec.version and time.time() - remembered.stat().st_mtime < LISTS_MAX_AGE:
            return known
        try:
            found = _search(spec, flavour, store, etc, without)
        except HostError as e:
            if known is None or known in without or spec.version:
                raise
            log.warning("%s: %s; taking %s=%s, which was the newest", spec, e, known.name, known.version)
            return known
        if not spec.version:
            write_atomically(remembered, f"{found.name} {found.version}\n")
        return found


def _remembered(file: Path) -> Package | None:
    try:
        words = file.read_text(encoding="utf-8").split()
    except OSError:
        return None
    return Package(*words) if len(words) == 2 else None


def _search(spec: Spec, flavour: Flavour, store: Store, etc: Path, without: Collection[Package]) -> Package:
    whys: list[str] = []
    seen: set[str] = set()
    for apt in apts(store, etc, flavour.architecture):
        found, why = apt.ask(lambda apt: _in(apt, spec, flavour, seen, without))
        if found:
            return found
        whys += [why] if why else []
    if whys and not seen:
        raise HostError(f"{spec}: the package lists could not be fetched: {whys[0]}")
    what = f"no version {spec.version} of a package" if spec.version else "no package"
    known = f"; it knows {', '.join(sorted(seen, key=natural)[-6:])}" if seen else ""
    raise UsageError(f"{spec}: apt knows {what} linux-image-{spec.value}.*-{flavour.name}{known}")


def _in(apt: Apt, spec: Spec, flavour: Flavour, seen: set[str], without: Collection[Package]) -> Package | None:
    for name in newest(apt.names(f"linux-image-{spec.value}."), spec.value, flavour.name):
        versions = apt.versions(name)
        seen |= {f"{name}={version}" for version in versions}
        version = spec.version if spec.version in versions else "" if spec.version else apt.candidate(name)
        if version and Package(name, version) not in without:
            return Package(name, version)
    return None


def parts(release: str, depends: str) -> list[Package]:
    """Of what a package depends on (the field's text) the packages that are made for the kernel ``release`` alone.

    Since 7.x linux-image-RELEASE is empty, and linux-binary-, linux-modules- and linux-base-RELEASE have what was in it.
    """
    form = re.compile(rf"(linux-[a-z]+-{re.escape(release)}) \(= ([0-9A-Za-z.+~:-]+)\)")
    clauses = (form.fullmatch(clause.strip()) for clause in depends.split(","))
    return [Package(found[1], found[2]) for found in clauses if found]


def download(package: Package, flavour: Flavour, store: Store, into: Path, etc: Path = Path("/etc/apt")) -> Path:
    """The package's file, in the directory ``into``.  HostError when it cannot be had."""
    return fetch(package.name, package.version, store, into, etc, flavour.architecture)

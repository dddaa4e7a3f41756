# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel source from Debian's ``linux-source-X.Y`` packages, as harness.source.apt has them."""

from __future__ import annotations

import logging
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from harness import interruption
from harness.errors import HostError, UsageError
from harness.source.apt import LISTS_MAX_AGE, Apt, apts, fetch, natural
from harness.source.command import require, run
from harness.source.spec import Spec
from harness.store import Store, write_atomically

log = logging.getLogger("harness.source")


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


def _unpacked(store: Store, series: str) -> list[str]:
    """Versions of the series that are in the store, the newest first."""
    prefix = f"debian-{series}-"
    names = [p.name.removeprefix(prefix) for p in (store.root / "src").glob(f"{prefix}*") if (p / "linux").is_dir()]
    return sorted(names, key=natural, reverse=True)


def _known(apt: Apt, spec: Spec) -> str:
    """The version that an apt would take, by the lists that it has; "" for none."""
    package = f"linux-source-{spec.value}"
    if spec.version:
        return spec.version if spec.version in apt.versions(package) else ""
    return apt.candidate(package)


def _find(spec: Spec, store: Store, available: Sequence[str], etc: Path) -> str:
    """The version to use, wherever Debian has it.  HostError when the lists cannot be had, UsageError when it has none."""
    whys, others, series = [], [], []
    for apt in apts(store, etc):
        version, why = apt.ask(lambda apt: _known(apt, spec))
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


def version_of(spec: Spec, store: Store, available: Sequence[str] = (), etc: Path = Path("/etc/apt")) -> str:
    """The version that ``spec`` means today; those that are ``available`` can be had without asking for lists."""
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


def _ensure(spec: Spec, version: str, store: Store, etc: Path) -> Path:
    """The place of an unpacked version, which is downloaded if need be."""
    place = place_of(store, spec.value, version)
    store.pin(place)
    with interruption.lock(store, f"src-{place.name}"):
        if not place.is_dir():
            with store.scratch() as scratch, store.making(place) as fresh:
                unpack(fetch(f"linux-source-{spec.value}", version, store, scratch, etc), scratch, fresh / "linux")
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
    version = version_of(spec, store, available, etc)
    try:
        place = _ensure(spec, version, store, etc)
    except HostError as e:
        if spec.version or not available:
            raise
        log.warning("%s: %s; taking %s, which is in the store", spec, e, available[0])
        version = available[0]
        place = _ensure(spec, version, store, etc)
    return place / "linux", version

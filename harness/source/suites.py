# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's other suites, on the mirrors and with the keys that the host's apt is configured with.

A Debian 12 has linux-source-6.1; the kernels of other releases are on the same mirror.  They are looked for in an apt state of
our own (harness.source.apt), so that the host's sources stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUITES = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid")
SECURITY_SUITES = ("bullseye-security", "bookworm-security", "trixie-security")
"""Releases whose kernels are looked for, and where those get their security updates (bullseye's 5.10: only there)."""

FORMAT = "$(ORIGIN)|$(RELEASE)|$(REPO_URI)|$(SOURCESENTRY)|$(COMPONENT)"
"""What is asked of ``apt-get indextargets`` (apt's doc/acquire-additional-files.md)."""


@dataclass(frozen=True)
class Repository:
    """One that the host's apt fetches lists from: ``release`` is the suite as the host names it, in the file ``entry``."""

    origin: str
    release: str
    uri: str
    entry: Path
    component: str


def repositories(targets: str) -> list[Repository]:
    """From what ``apt-get indextargets --format FORMAT`` printed."""
    found = []
    for line in targets.splitlines():
        fields = line.split("|")
        if len(fields) == 5:
            origin, release, uri, entry, component = fields
            found.append(Repository(origin, release, uri.rstrip("/"), Path(entry.rpartition(":")[0]), component))
    return list(dict.fromkeys(found))


def _option(text: str, uri: str, name: str) -> str:
    """An option of the entry that names a URI, in a file of either of apt's formats (sources.list(5)); "" if it has none."""
    if re.search(r"^Types:", text, re.MULTILINE):
        for stanza in re.split(r"\n\s*\n", text):
            if uri in stanza and (found := re.search(rf"^{name}:[ \t]*(\S+)[ \t]*$", stanza, re.MULTILINE | re.IGNORECASE)):
                return found[1]
        return ""
    for line in text.splitlines():
        if uri in line and not line.lstrip().startswith("#") and (found := re.search(rf"{name}=([^\s\]]+)", line, re.IGNORECASE)):
            return found[1]
    return ""


def sources(known: Iterable[Repository]) -> str:
    """Further sources in apt's deb822 format: the suites that the host does not have, where its Debian ones are; "" for none."""
    ours = [r for r in known if r.origin == "Debian" and r.component == "main"]
    stanzas = []
    for names, here in (
        (SUITES, [r for r in ours if not r.release.endswith("-security")]),
        (SECURITY_SUITES, [r for r in ours if r.release.endswith("-security")]),
    ):
        if not here:
            continue
        first = here[0]
        wanted = [name for name in names if name not in {r.release for r in here}]
        lines = ["Types: deb", f"URIs: {first.uri}", f"Suites: {' '.join(wanted)}", "Components: main"]
        try:
            text = first.entry.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        lines += [f"{name}: {value}" for name in ("Signed-By", "Trusted") if (value := _option(text, first.uri, name))]
        if wanted:
            stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)

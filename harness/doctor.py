# SPDX-License-Identifier: GPL-2.0-or-later
"""What this host can do, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.packages import install_command, package_of, packages
from harness.store import Store
from harness.targets import Target

# From nothing: source (1.5 GB), objects and a kernel for each target (about 1.5 GB), ccache.
DISK_GB_BASE, DISK_GB_TARGET = 3, 3


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    what: str
    ok: bool
    detail: str
    mend: str = ""


def _package_checks(targets: Sequence[Target]) -> list[Check]:
    checks = []
    native = platform.machine()
    traits = (trait for t in targets for trait in (t.machine_arch, t.libc) if trait)
    for trait in dict.fromkeys(("all", *traits)):
        own = [p for p in packages([trait]) if p.target == trait]
        missing = [p.name for p in own if not p.present]
        detail = "missing: " + ", ".join(missing) if missing else f"{len(own)} package{'s' * (len(own) != 1)}"
        mend = install_command(missing) if missing else ""
        checks.append(Check("build tools" if trait == "all" else trait, not missing, detail, mend))
    foreign = [t for t in targets if t.machine_arch == "x86_64" and native != "x86_64" and not shutil.which(f"{t.cross}gcc")]
    checks += [Check(t.name, False, f"no {t.cross}gcc", install_command([package_of(f"{t.cross}gcc")])) for t in foreign]
    return checks


def _kvm() -> Check:
    if not Path("/dev/kvm").exists():
        return Check("KVM", True, "no /dev/kvm: all guests run under TCG")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Check("KVM", True, "/dev/kvm is not yours to open: TCG", "sudo adduser $USER kvm")
    return Check("KVM", True, f"/dev/kvm opens; a probe boot decides, for guests of {platform.machine()} only")


def _witness() -> Check:
    if importlib.util.find_spec("drgn") is None:
        return Check("witness", True, "no drgn: run --witness cannot look", "pip install 'ksm-harness[witness]'")
    return Check("witness", True, "drgn is there, for run --witness and --hold")


def _disk(store: Store, targets: Sequence[Target]) -> Check:
    free = shutil.disk_usage(store.root).free / 1e9
    need = DISK_GB_BASE + DISK_GB_TARGET * len(targets)
    mend = "" if free >= need else "ksm-harness store gc --max-size 5G, or set KSM_HARNESS_STORE to a larger disk"
    return Check("disk", free >= need, f"{free:.0f} GB free at {store.root}, a build from nothing wants {need}", mend)


def examine(targets: Sequence[Target], store: Store) -> list[Check]:
    """All checks, the most needed first."""
    cpus = os.cpu_count() or 1
    debian = shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None
    return [
        *_package_checks(targets),
        Check("kernel sources", debian, "debian:X.Y by apt" if debian else "no apt-get: use tree:PATH or image:PATH"),
        Check("cpus", True, f"{cpus}"),
        _disk(store, targets),
        _kvm(),
        _witness(),
    ]

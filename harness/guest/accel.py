# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM or TCG.  KVM is believed only after a guest under it has said hello.

A /dev/kvm that opens, makes VMs and then hangs Linux is common in nested clouds; ``-accel kvm -accel tcg`` does not
fall back there, since KVM did initialise.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import platform
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import CannotJudge, UsageError
from harness.store import Store, write_atomically
from harness.targets import Target

log = logging.getLogger("harness.guest")

KVM = Path("/dev/kvm")

Probe = Callable[["Accel"], Awaitable[str]]
"""Boots the real kernel under this accelerator: "" if hello came in time, else why not."""


@dataclass(frozen=True)
class Accel:
    """An accelerator in QEMU's words, and why this one."""

    name: str  # "kvm" or "tcg"
    cpu: str
    reason: str
    # Where to note that KVM is unusable, once this very kernel has said hello under TCG: until then the kernel may be
    # at fault.
    note: Path | None = None


@dataclass(frozen=True)
class Host:
    """What a verdict about KVM holds for."""

    machine_id: str
    cpu: str
    kernel: str
    qemu: str

    def fact(self, store: Store, target: Target) -> Path:
        """Where the verdict for this target's CPU model is kept."""
        text = "\n".join((self.machine_id, self.cpu, self.kernel, self.qemu, target.qemu, target.machine, target.cpu_kvm))
        return store.root / "facts" / f"kvm-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def host(qemu: str) -> Host:
    """This host, with ``qemu`` the first line of ``--version``."""
    return Host(_line("/etc/machine-id"), _cpu_model(), platform.release(), qemu)


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _line("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "cpu", "cpu part"):
            return value.strip()
    return ""


def same_machine(target: Target, machine: str) -> bool:
    """Whether a host whose ``uname -m`` is ``machine`` can run the target with KVM (a ppc64 host runs both endians)."""
    return machine == target.machine_arch or {machine, target.machine_arch} <= {"ppc64", "ppc64le"}


def impossible(target: Target, machine: str, device: Path = KVM) -> str:
    """Why KVM is out of the question without any probe; "" if it is not."""
    if not same_machine(target, machine):
        return f"a {machine} host has no KVM for {target.machine_arch}"
    if not device.exists():
        return f"there is no {device}"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return f"{device} cannot be opened: {e.strerror}"
    return ""


def _known(path: Path) -> tuple[bool, str] | None:
    """A cached verdict: usable or not, and how that was found."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return bool(data["usable"]), str(data["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, usable: bool, reason: str) -> None:
    try:
        write_atomically(path, json.dumps({"usable": usable, "reason": reason}) + "\n")
    except OSError as e:
        log.warning("cannot keep what was found out about KVM in %s: %s", path, e)


def confirm(accel: Accel) -> None:
    """The kernel that did not come up under KVM did under TCG: so it is KVM that does not work here."""
    if accel.note is not None:
        _write(accel.note, False, accel.reason)


async def choose(target: Target, requested: str, require_kvm: bool, probe: Probe, store: Store, qemu: str) -> Accel:
    """Decide.  ``requested`` is ``auto``, ``kvm`` or ``tcg``; ``qemu`` is the first line of --version.

    CannotJudge if KVM is required or asked for, and unusable.
    """
    if requested not in ("auto", "kvm", "tcg"):
        raise UsageError(f'the accelerator is "auto", "kvm" or "tcg", not "{requested}"')
    if requested == "tcg":
        if require_kvm:
            raise UsageError("KVM cannot be required and TCG asked for at the same time")
        return Accel("tcg", target.cpu_tcg, "asked for")
    accel = await _decide(target, probe, store, qemu)
    if accel.name == "tcg" and (require_kvm or requested == "kvm"):
        confirmed = "" if accel.note is None else " (or this kernel does not boot at all: try --accel tcg)"
        raise CannotJudge(f"{target.name}: KVM is required, but {accel.reason}{confirmed}")
    log.info("%s: %s, %s", target.name, accel.name, accel.reason)
    return accel


async def _decide(target: Target, probe: Probe, store: Store, qemu: str) -> Accel:
    kvm = Accel("kvm", target.cpu_kvm, "")
    tcg = Accel("tcg", target.cpu_tcg, "")
    if why := impossible(target, platform.machine()):
        return replace(tcg, reason=why)
    fact = host(qemu).fact(store, target)
    while True:  # several cells at once: one probes, the others wait for what it finds
        if (known := _known(fact)) is not None:
            usable, reason = known
            return replace(kvm if usable else tcg, reason=f"{reason} (known from an earlier run, {fact})")
        with store.try_lock(f"{fact.stem}.lock") as mine:
            if mine:
                return await _probe(kvm, tcg, probe, fact)
        await asyncio.sleep(0.1)


async def _probe(kvm: Accel, tcg: Accel, probe: Probe, fact: Path) -> Accel:
    why = await probe(kvm)
    if why:
        return replace(tcg, reason=f"/dev/kvm opens, but {why}", note=fact)
    reason = "a probe boot said hello"
    _write(fact, True, reason)
    return replace(kvm, reason=reason)

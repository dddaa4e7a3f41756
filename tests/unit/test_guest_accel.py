# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import asyncio
import json
import platform
from pathlib import Path

import pytest

from harness.errors import CannotJudge, UsageError
from harness.guest import accel
from harness.guest.accel import Accel, choose, confirm, host, impossible, same_machine
from harness.store import Store
from harness.targets import Target, table

TARGETS = table()
QEMU = "QEMU emulator version 7.2.22"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Target:
    """A target of this host's architecture, on a host whose /dev/kvm opens."""
    monkeypatch.setattr(accel, "KVM", tmp_path / "kvm")
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accel, "impossible", lambda target, machine: impossible(target, machine, tmp_path / "kvm"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return TARGETS["x86_64"]


class Probe:
    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.calls = 0

    async def __call__(self, tried: Accel) -> str:
        assert tried.name == "kvm"
        self.calls += 1
        await asyncio.sleep(0.01)
        return self.answer


def decide(target: Target, store: Store, probe: Probe, requested: str = "auto", require: bool = False, qemu: str = QEMU) -> Accel:
    return asyncio.run(choose(target, requested, require, probe, store, qemu))


def test_impossible(tmp_path: Path) -> None:
    assert "has no KVM for aarch64" in impossible(TARGETS["aarch64"], "x86_64")
    assert "there is no" in impossible(TARGETS["x86_64"], "x86_64", tmp_path / "none")
    assert "cannot be opened" in impossible(TARGETS["x86_64"], "x86_64", tmp_path)
    assert same_machine(TARGETS["ppc64"], "ppc64le")
    assert not same_machine(TARGETS["ppc64"], "x86_64")


def test_works_once_probed(native: Target, store: Store) -> None:
    probe = Probe("")
    assert decide(native, store, probe).name == "kvm"
    again = decide(native, store, probe)
    assert (again.name, again.cpu, probe.calls) == ("kvm", native.cpu_kvm, 1)
    assert "earlier run" in again.reason
    assert decide(native, store, probe, qemu="QEMU emulator version 9").name == "kvm"
    assert probe.calls == 2


def test_unusable_is_believed_only_when_the_kernel_boots_otherwise(native: Target, store: Store) -> None:
    probe = Probe("no hello within 10 s")
    found = decide(native, store, probe)
    assert (found.name, found.cpu) == ("tcg", native.cpu_tcg)
    assert "no hello within 10 s" in found.reason
    decide(native, store, probe)
    assert probe.calls == 2  # the kernel may be at fault
    confirm(found)
    assert "no hello within 10 s" in decide(native, store, probe).reason
    assert probe.calls == 2


def test_required(native: Target, store: Store) -> None:
    for requested, require in (("auto", True), ("kvm", False)):
        with pytest.raises(CannotJudge, match="KVM is required, but /dev/kvm opens, but it hangs"):
            decide(native, store, Probe("it hangs"), requested, require)
    with pytest.raises(CannotJudge, match="no KVM for aarch64"):
        decide(TARGETS["aarch64"], store, Probe(""), require=True)


def test_asked_for(native: Target, store: Store) -> None:
    probe = Probe("")
    assert decide(native, store, probe, "tcg").reason == "asked for"
    assert probe.calls == 0
    with pytest.raises(UsageError):
        decide(native, store, probe, "hvf")
    with pytest.raises(UsageError):
        decide(native, store, probe, "tcg", require=True)


def test_one_probe_for_many_cells(native: Target, store: Store) -> None:
    probe = Probe("")

    async def many() -> list[Accel]:
        return await asyncio.gather(*(choose(native, "auto", False, probe, store, QEMU) for _ in range(5)))

    assert {a.name for a in asyncio.run(many())} == {"kvm"}
    assert probe.calls == 1


def test_a_broken_fact_is_no_fact(native: Target, store: Store) -> None:
    path = host(QEMU).fact(store, native)
    path.write_text("{", encoding="utf-8")
    probe = Probe("")
    decide(native, store, probe)
    assert probe.calls == 1
    assert json.loads(path.read_text(encoding="utf-8"))["usable"] is True

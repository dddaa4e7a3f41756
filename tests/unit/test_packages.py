# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of packages: how each is recognised, and which brings a program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness import doctor, packages, targets
from harness.packages import Package, package_of
from harness.source import contains
from harness.store import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("sign", "present"),
    [
        ("python3:json", True),
        ("python3:no_such_module", False),
        ("sh", True),
        ("no-such-program", False),
        ("/etc/passwd", True),
        ("/etc/no-such-file", False),
    ],
)
def test_what_is_present(sign: str, present: bool) -> None:
    assert Package("all", "x", sign).present is present


def test_the_doctor_tells_of_a_missing_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = packages.LIST.read_text(encoding="utf-8")
    assert "python3:ensurepip" in listed
    monkeypatch.setattr(packages, "LIST", tmp_path / "packages.txt")
    packages.LIST.write_text(listed.replace("python3:ensurepip", "python3:no_such_module"))
    check = doctor.examine((), Store(tmp_path / "store"))[0]
    assert not check.ok
    assert "python3-venv" in check.detail
    assert check.mend.split("apt-get install ")[1].split().count("python3-venv") == 1


def test_no_sign_is_out_of_a_users_sight() -> None:
    rows = packages.packages(targets.table())
    programs = [p.sign.partition(":")[0] for p in rows if not p.sign.startswith("/")]
    assert programs
    users = "/usr/local/bin:/usr/bin:/bin"
    assert [p for p in programs if shutil.which(p, path="/usr/sbin:/sbin") and not shutil.which(p, path=users)] == []


@pytest.mark.parametrize(
    ("program", "package"),
    [
        ("xz", "xz-utils"),
        ("setpriv", "util-linux"),
        ("prlimit", "util-linux"),
        ("qemu-system-aarch64", "qemu-system-arm"),
        ("qemu-system-ppc64", "qemu-system-ppc"),
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
        ("objcopy", "binutils"),
        ("apt-get", "apt"),
        ("flex", "flex"),
        ("perl", "perl"),
    ],
)
def test_package_of(program: str, package: str) -> None:
    assert package_of(program) == package


@pytest.mark.parametrize(
    "where", ["harness", "kconfigs", "workloads", "guest-images", "Makefile", "pyproject.toml", ".gitignore"]
)
def test_every_file_names_its_licence(where: str) -> None:
    path = ROOT / where
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert files
    # The kernel's own text has the kernel's licence.
    licence = {path: "GPL-2.0-only" if path == contains.PATCH else "GPL-2.0-or-later" for path in files}
    assert [str(p) for p in files if f"SPDX-License-Identifier: {licence[p]}".encode() not in p.read_bytes()[:200]] == []


def test_make_matrix_has_two_runs_with_directories_of_their_own(tmp_path: Path) -> None:
    fake = tmp_path / "run"
    fake.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/told\nexit $(wc -l <{tmp_path}/told)\n')
    fake.chmod(0o755)
    made = subprocess.run(
        ["make", "-n", "-s", "-C", str(ROOT), "matrix", f"OUT={tmp_path}/out"], capture_output=True, text=True, check=True
    )
    recipe = "status=0;" + made.stdout.split("status=0;")[1]
    ended = subprocess.run(["sh", "-c", recipe.replace(".venv/bin/ksm-harness", str(fake))], check=False)
    told = (tmp_path / "told").read_text().splitlines()
    assert [line.split("--workload")[0].strip() for line in told] == [
        f"run --kernel debian:{s} --target all" for s in ("6.1", "6.12")
    ]
    assert [line.split("--out ")[1].strip() for line in told] == [f"{tmp_path}/out/6.1", f"{tmp_path}/out/6.12"]
    assert ended.returncode == 1  # the fake ends with 1, then 2

# SPDX-License-Identifier: GPL-2.0-or-later
"""The script that opens a held guest in drgn: what it says is what the guest room told it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from harness.guest.ram import Range
from harness.targets import table
from harness.witness import attach_script
from harness.witness.attach import main


@pytest.mark.parametrize("name", table())
def test_script(name: str) -> None:
    target = table()[name]
    pieces = [Range(0, 1 << 28, 0, 0), Range(1 << 28, 1 << 28, 1, 4096)]
    text = attach_script("/venv/bin/python", Path("/k's/vmlinux"), target, 1234, (18, 19), pieces)
    assert text.startswith("#!/venv/bin/python\n")
    call = ast.parse(text).body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    said = {word.arg: word.value for word in call.value.keywords}
    assert ast.literal_eval(said["vmlinux"]) == "/k's/vmlinux"
    assert [Range(*r) for r in ast.literal_eval(said["ranges"])] == pieces
    assert (ast.literal_eval(said["mmu"]), ast.literal_eval(said["page_size"])) == (target.mmu, target.page_size)
    assert ast.literal_eval(said["direct_map"]) == target.direct_map
    files = eval(compile(ast.Expression(said["files"]), "script", "eval"))
    assert files == ["/proc/1234/fd/18", "/proc/1234/fd/19"]


def test_a_guest_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="/fd/7: the guest is gone"):
        main(str(tmp_path / "vmlinux"), [str(tmp_path / "fd" / "7")], [(0, 4096, 0, 0)], "x86", 0, 4096)


def test_another_vmlinux(tmp_path: Path) -> None:
    (tmp_path / "7").write_bytes(bytes(4096))
    (tmp_path / "vmlinux").write_bytes(b"no kernel")
    with pytest.raises(SystemExit, match="cannot read"):
        main(str(tmp_path / "vmlinux"), [str(tmp_path / "7")], [(0, 4096, 0, 0)], "x86", 0, 4096)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The target table: names become directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import targets
from harness.errors import UsageError


def table_with(name: str, path: Path) -> Path:
    """A table of one row, the built-in aarch64 under another name."""
    ours = targets.BUILTIN.read_text(encoding="utf-8")
    begin = ours.index("[aarch64]")
    row = ours[begin : ours.index("[ppc64]")].removeprefix("[aarch64]")
    path.write_text(f"[{json.dumps(name)}]{row}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/etc", "-rf", ".hidden", "a,b", "a b", "ä", "a\nb", "a\n", "all", "n" * 65]
)
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a target's name"):
        targets.load(table_with(name, tmp_path / "mine.toml"))


@pytest.mark.parametrize("name", ["board", "ppc64.64k", "x86_64-old", "8bit", "n" * 64])
def test_names(name: str, tmp_path: Path) -> None:
    assert list(targets.load(table_with(name, tmp_path / "mine.toml"))) == [name]

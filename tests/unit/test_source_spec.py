# SPDX-License-Identifier: GPL-2.0-or-later
"""SPEC as users write it, and as they get it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.source import Spec, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("debian:6.1", Spec("debian", "6.1")),
        ("debian:6.12", Spec("debian", "6.12")),
        ("debian:6.1=6.1.140-1", Spec("debian", "6.1", "6.1.140-1")),
        ("debian:6.12=6.12.12-1~bpo12+1", Spec("debian", "6.12", "6.12.12-1~bpo12+1")),
    ],
)
def test_debian(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec
    assert str(spec) == text


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "linux").mkdir()
    (tmp_path / "bzImage").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert parse_spec("tree:linux") == Spec("tree", str(tmp_path / "linux"))
    assert parse_spec("image:bzImage") == Spec("image", str(tmp_path / "bzImage"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6.1",
        "debian",
        "debian:",
        "debian:bookworm",
        "debian:6",
        "debian:6.1=",
        "debian:6.1=-o",
        "debian:6.1=../x",
        "debian:--help",
        "debian:6.1=6.1 140",
        "tree:",
        "git:v6.1",
        "tree:/nonexistent",
        "image:/nonexistent",
        "image:/",
        "tree:/etc/passwd",
        "Debian:6.1",
    ],
)
def test_refused_with_one_line(text: str) -> None:
    with pytest.raises(UsageError) as e:
        parse_spec(text)
    assert len(str(e.value).splitlines()) == 1
    assert text in str(e.value)

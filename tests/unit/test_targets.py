# SPDX-License-Identifier: GPL-2.0-or-later
"""The target table: names become directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import targets
from harness.errors import UsageError
from harness.targets import Target, choose, table


def table_with(name: str, path: Path) -> Path:
    """A table of one row, the built-in aarch64 under another name."""
    ours = targets.BUILTIN.read_text(encoding="utf-8")
    begin = ours.index("[aarch64]")
    row = ours[begin : ours.index("[ppc64]")].removeprefix("[aarch64]")
    path.write_text(f"[{json.dumps(name)}]{row}", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/etc", "-rf", ".hidden", "a,b", "a b", "ä", "a\nb", "a\n", "all", "every", "n" * 65]
)
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be a target's name"):
        targets.load(table_with(name, tmp_path / "mine.toml"))


@pytest.mark.parametrize("name", ["board", "ppc64.64k", "x86_64-old", "8bit", "n" * 64])
def test_names(name: str, tmp_path: Path) -> None:
    assert list(targets.load(table_with(name, tmp_path / "mine.toml"))) == [name]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_is_like_another_but_for_what_it_says(tmp_path: Path) -> None:
    mine = written(tmp_path / "mine.toml", '[board]\nlike = "aarch64-16k"\nsmp = 4\n[big]\nlike = "board"\npage_size = 65536\n')
    rows, ours = targets.load(mine), table()
    assert rows["board"] == Target(**{**vars(ours["aarch64-16k"]), "name": "board", "smp": 4, "group": ""})
    assert (rows["big"].smp, rows["big"].page_size, rows["big"].cpu_tcg) == (4, 65536, ours["aarch64-16k"].cpu_tcg)


def test_a_row_that_replaces_one_of_ours_may_be_like_it(tmp_path: Path) -> None:
    mine = written(tmp_path / "mine.toml", '[aarch64]\nlike = "aarch64"\ncpu_tcg = "max"\n')
    rows = table(mine)
    assert rows["aarch64"] == Target(**{**vars(table()["aarch64"]), "cpu_tcg": "max"})
    assert rows["aarch64-64k"].cpu_tcg == "cortex-a57"  # is like our own


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[a]\nlike = "vax"\n', "there is no row 'vax'; there are x86_64, aarch64"),
        ("[a]\nlike = 1\n", "there is no row 1"),
        ('[a]\nlike = "a"\n', "there is no row 'a'"),
        ('[a]\nlike = "b"\n[b]\nlike = "a"\n', "a is like b is like a, which never ends"),
        ('[a]\nlike = "ppc64"\npage_size = 16384\n', "memory_mib has no entry for the page size 16384"),
        ('[a]\nlike = "x86_64"\ngroup = "all"\n', "'all' cannot be a group's name"),
        ('[pages]\nlike = "x86_64"\n', "pages is a target's name and a group's"),
        ('[a]\nlike = "x86_64"\njournal = "/dev/ttyS1"\n', 'must be "virtio-serial" or a serial line such as "ttyS1"'),
        ('[a]\nlike = "x86_64"\nlibc = "dietlibc"\n', 'libc must be "" or one of musl'),
        ('[a]\nlike = "x86_64"\ntcg_thread = "one"\n', 'tcg_thread must be "", "single" or "multi"'),
        ('a = "x86_64"\n', r"\[a\] is not a table"),
    ],
)
def test_rows_that_are_none(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        table(written(tmp_path / "mine.toml", text))


def test_all_are_the_four_architectures_and_every_is_every_row() -> None:
    rows = table()
    assert [t.name for t in choose(["all"], rows)] == ["x86_64", "aarch64", "ppc64", "ppc64le"]
    assert choose(["every"], rows) == tuple(rows.values())
    pages = ["aarch64-4k", "aarch64-16k", "aarch64-64k", "ppc64-4k", "ppc64-64k", "ppc64le-4k", "ppc64le-64k"]
    assert [t.name for t in choose(["pages"], rows)] == pages
    assert [t.name for t in choose(["ppc64", "hash", "ppc64"], rows)] == [
        "ppc64", "ppc64-4k-hash", "ppc64-64k-hash", "ppc64le-4k-hash", "ppc64le-64k-hash"
    ]  # fmt: skip


def test_a_users_rows_are_among_all_unless_they_name_a_group(tmp_path: Path) -> None:
    mine = written(tmp_path / "mine.toml", '[board]\nlike = "ppc64-4k"\n[slow]\nlike = "board"\ngroup = "lab"\n')
    rows = table(mine)
    assert [t.name for t in choose(["all"], rows)] == ["x86_64", "aarch64", "ppc64", "ppc64le", "board"]
    assert [t.name for t in choose(["lab"], rows)] == ["slow"]


def test_what_may_be_named_is_told() -> None:
    with pytest.raises(UsageError, match=r"no target 'vax'; there are x86_64, .*; and all, every, pages, hash, old"):
        choose(["ppc64", "vax"], table())

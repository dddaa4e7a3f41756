# SPDX-License-Identifier: GPL-2.0-or-later
"""Configurations: what a file of kconfigs/ wants of the guest, and that several go together or are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import resources
from harness.cli import main
from harness.cli.common import fragment_files
from harness.cli.parser import make_parser
from harness.errors import ExitCode, UsageError
from harness.guest.settings import Settings, read
from harness.kernel import fragments
from harness.targets import table

OURS = sorted(resources.directory("kconfigs").glob("*.config"))


def config(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / f"{name}.config"
    path.write_text(text)
    return path


def test_all_kinds_of_lines(tmp_path: Path) -> None:
    lines = ["# words: of a comment", "CONFIG_X=y", "guest: swap=zram  # why", "guest: thp=always", "boot: a=b,c", "smp: 2"]
    path = config(tmp_path, "a", "\n".join([*lines, "memory: 1.5", "patience: 4", ""]))
    wants = read([path])
    assert wants == Settings((("swap", "zram"), ("thp", "always")), ("a=b,c",), 2, 1.5, 4.0)
    assert wants.parameters == ("a=b,c", "harness.swap=zram", "harness.thp=always")
    assert [str(o) for o in fragments.read(path)] == ["CONFIG_X=y"]


def test_the_most_that_one_wants_is_what_all_get(tmp_path: Path) -> None:
    a = config(tmp_path, "a", "guest: swap=zram\nsmp: 2\nmemory: 2\npatience: 4\nboot: x\n")
    b = config(tmp_path, "b", "guest: swap=zram\nsmp: 4\npatience: 3\nboot: x\n")
    assert read([a, b]) == read([b, a]) == Settings((("swap", "zram"),), ("x",), 4, 2.0, 4.0)
    assert read([]) == Settings()


def test_a_contradiction_names_both(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(tmp_path / "store"))
    a, b = config(tmp_path, "a", "guest: thp=always\n"), config(tmp_path, "b", "\nguest: thp=never\n")
    assert main(["run", "--config", f"{a},{b}", "--out", str(tmp_path / "out")]) == ExitCode.USAGE
    assert "thp: a:1 wants always, but b:2 wants never" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "guest: swap",
        "guest: SWAP=x",
        "guest: a=b c",
        "boot: two words",
        "smp: 1.5",
        "smp: 0",
        "memory: 0.5",
        "patience: x",
        "colour: red",
    ],
)
def test_nonsense_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match="a:1: "):
        read([config(tmp_path, "a", line)])


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours_are_fit_for_every_target(path: Path) -> None:
    read([path])
    for target in table().values():
        if path.stem not in ("x86_64", "aarch64") and not path.stem.startswith("ppc64"):
            fragments.options_for(target, (*map(fragments.find, target.fragments), *fragments.included([path])))


def test_all_of_ours_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "configs", "--json"]) == ExitCode.GOOD
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    used = {name for target in table().values() for name in target.fragments}
    assert rows.keys() == {path.stem for path in OURS} - used
    assert all(row["about"].endswith(".") and "\n" not in row["about"] for row in rows.values())
    assert rows["zram"]["guest"] == ["swap=zram"]


def test_one_that_comes_with_another_is_there_once_and_first(tmp_path: Path) -> None:
    assert [p.stem for p in fragment_files(["mglru", "zswap"])] == ["switchable", "mglru", "zswap"]
    a = config(tmp_path, "a", f"with: {tmp_path}/b.config\n")
    b = config(tmp_path, "b", "smp: 2\n")
    assert fragments.included([a]) == fragments.included([b, a]) == [b, a]
    config(tmp_path, "b", f"with: {a}\n")
    with pytest.raises(UsageError, match="includes itself"):
        fragments.included([a])
    config(tmp_path, "b", "with: nobody\n")
    with pytest.raises(UsageError, match="no configuration 'nobody'"):
        fragments.included([a])


def test_names_are_a_list_and_a_file_may_have_a_comma(tmp_path: Path) -> None:
    odd = config(tmp_path, "a,b", "CONFIG_X=y\n")
    options = make_parser().parse_args(["run", "--config", "zram,mglru", "--config", str(odd), "--config", "zram"])
    assert [p.stem for p in fragment_files(options.config)] == ["zram", "switchable", "mglru", "a,b"]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Differences that somebody has declared: what the file may say, and where it is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness import declared
from harness.cli import main
from harness.errors import ExitCode, UsageError
from harness.oracle.semantics import DECLARABLE
from harness.report import load_run, write_reports
from harness.report.terminal import plain
from tests.unit.results_sample import sample

GOOD = """
[has_swpin_copy]
value = false
reason = "not counted\\n here"
reviewed-by = "A <a@b>"

[era]
value = "2.6.33"
reason = "one anon_vma for all"
reviewed-by = "B"
"""
FIELD = '[has_swpin_copy]\nvalue = false\nreason = "r"\nreviewed-by = "A"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "differences.toml"
    path.write_text(text)
    return path


def test_what_a_file_declares(tmp_path: Path) -> None:
    one, other = declared.load(written(tmp_path, GOOD), DECLARABLE)
    assert str(one) == "has_swpin_copy = false: not counted here (reviewed by A <a@b>)"
    assert str(other) == 'era = "2.6.33": one anon_vma for all (reviewed by B)'
    assert declared.values([one, other]) == {"has_swpin_copy": False, "era": "2.6.33"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing is declared"),
        ("= 3", "Invalid"),
        (FIELD.replace("has_swpin", "has_swapin"), r"\[has_swapin_copy\]: no field of Semantics has this name; there are era, "),
        (FIELD.replace("false", '"no"'), r"\[has_swpin_copy\]: value is true or false, not 'no'"),
        (FIELD.replace("false", "0"), "value is true or false, not 0"),
        (FIELD.replace("value = false\n", ""), "value is true or false, not None"),
        (FIELD.replace("has_swpin_copy", "era"), 'value is "avc" or "2.6.33", not False'),
        (FIELD.replace('reason = "r"\n', ""), "reason is missing: a text that says why"),
        (FIELD.replace('"r"', '" "'), "reason is missing"),
        (FIELD.replace('"A"', "3"), "reviewed-by is missing"),
        (FIELD + "because = 1\n", "there is no key 'because'"),
        ("has_swpin_copy = false", "a table with value, reason, reviewed-by is wanted here, not False"),
        (FIELD.replace("has_swpin_copy", "kpf_referenced_told"), "no field of Semantics has this name"),
    ],
)
def test_a_file_that_is_wrong_is_told_so_in_one_line(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=why):
        declared.load(path, DECLARABLE)
    out = tmp_path / "out"
    assert main(["run", "--kernel", "debian:6.1", "--semantics", str(path), "--out", str(out)]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert str(path) in told and len(told.strip().splitlines()) == 1
    assert not out.exists()


def test_all_reports_say_what_was_declared_by_whom_and_why(tmp_path: Path) -> None:
    there = declared.load(written(tmp_path, GOOD), DECLARABLE)
    run = dataclasses.replace(sample(tmp_path), declared=there)
    _, junit, html = write_reports(tmp_path, run)
    assert load_run(tmp_path).declared == there
    for text in (html.read_text(), plain(run)):
        assert "not counted here" in text and "reviewed by B" in text
    assert "declared" not in plain(sample(tmp_path))
    with pytest.raises(UsageError, match="no field of Semantics"):
        (tmp_path / "run.json").write_text((tmp_path / "run.json").read_text().replace('"has_swpin_copy"', '"x"'))
        load_run(tmp_path)
    assert junit.is_file()

# SPDX-License-Identifier: GPL-2.0-or-later
"""``ksm-harness mutate``: broken kernels are told from good ones, and what is known is not done again."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from .conftest import MUTANTS, execute, load_json
from .test_semantics import DECLARED, ON_PURPOSE

pytestmark = pytest.mark.system

CHOSEN = ("01-no-second-pass", "12-leak-put-remove-item", "B1-benign-break-after-own-vma")

# Only code that CONFIG_KSM=y leaves out.
NOT_COMPILED = """\
--- a/include/linux/ksm.h
+++ b/include/linux/ksm.h
@@ -57,4 +57,4 @@
 static inline int ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm)
 {
-	return 0;
+	return 1;
 }
"""


def test_a_campaign_and_its_second_call(tmp_path: Path) -> None:
    patches = tmp_path / "patches"
    patches.mkdir()
    for name in CHOSEN:
        shutil.copy(MUTANTS / f"{name}.patch", patches)
    (patches / "nothing.patch").write_text(NOT_COMPILED)
    (patches / "stale.patch").write_text(NOT_COMPILED.replace("return 0;", "return 7;"))
    out = tmp_path / "out"
    words = ("mutate", "--patches", patches, "--out", out, "--workload", "new_fork,ref_leak")

    ended = execute(out, *words)
    assert ended.code == 125, ended.told()  # what does not apply was not judged
    data = load_json(out / "mutate.json")
    told = {m["mutant"]: m for m in data["mutants"]}
    assert {name: m["fate"] for name, m in told.items()} == {
        "01-no-second-pass": "killed", "12-leak-put-remove-item": "killed", "B1-benign-break-after-own-vma": "clean",
        "nothing": "not testable", "stale": "does not build",
    }, ended.told()  # fmt: skip
    assert (told["01-no-second-pass"]["workload"], told["01-no-second-pass"]["prop"]) == ("new_fork", "P1")
    assert told["12-leak-put-remove-item"]["signature"].startswith("P6:")
    assert (out / told["01-no-second-pass"]["directory"] / "report.html").is_file()
    assert (out / "junit.xml").is_file()

    (patches / "stale.patch").unlink()
    began = time.monotonic()
    again = execute(out, *words)
    assert again.code == 0, again.told()
    assert time.monotonic() - began < 20
    assert [m["guest_seconds"] for m in load_json(out / "mutate.json")["mutants"]] == [
        m["guest_seconds"] for m in data["mutants"] if m["mutant"] != "stale"
    ]


def test_what_a_kernel_does_on_purpose_is_no_defect(tmp_path: Path) -> None:
    patches, out = tmp_path / "patches", tmp_path / "out"
    patches.mkdir()
    shutil.copy(ON_PURPOSE, patches / "B-uncounted.patch")
    words = ("mutate", "--patches", patches, "--out", out, "--workload", "swapin")

    flagged = execute(out, *words)
    assert flagged.code == 1, flagged.told()
    assert [m["fate"] for m in load_json(out / "mutate.json")["mutants"]] == ["flagged"], flagged.told()
    accepted = execute(out, *words, "--semantics", DECLARED)
    assert accepted.code == 0, accepted.told()
    assert [m["fate"] for m in load_json(out / "mutate.json")["mutants"]] == ["clean"], accepted.told()

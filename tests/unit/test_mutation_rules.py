# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a mutant, in which order it is run, what is kept of it, and how it is shown."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.errors import ExitCode, UsageError
from harness.findings import Finding, Tier
from harness.mutation import argued, document, fate, identity, junit, mutant, mutationfile, outcome, samecode, table
from harness.mutation.argued import Argument
from harness.mutation.fate import Fate, Judgement
from harness.mutation.mutant import Mutant
from harness.mutation.mutationfile import Score
from harness.mutation.outcome import Outcome
from harness.mutation.ranking import Runner, Trial, rank
from harness.results import CellResult, Verdict, WorkloadResult

M = Mutant("m", Path("m.patch"), "d" * 64, expected=("P6",))


def finding(prop: str, follows: bool = False) -> Finding:
    return Finding(prop, "leak", "exit", Tier.SAFETY, "w", 7, f"{prop} is broken", "", "", "", follows=follows)


def result(name: str, verdict: Verdict, *findings: Finding, reason: str = "", props: tuple[str, ...] = ("P1",)) -> WorkloadResult:
    return WorkloadResult(name, props, verdict, reason, findings)


def judge(of: Mutant, *results: WorkloadResult) -> Judgement:
    return fate.judge(of, CellResult("x86_64", "x86_64", results), [r.workload for r in results])


def test_the_first_bad_workload_kills_whatever_was_not_run() -> None:
    told = judge(
        M,
        result("a", Verdict.PASS),
        result("b", Verdict.FAIL, finding("P2", follows=True), finding("P6")),
        result("c", Verdict.LOST, reason="was not run"),
    )
    assert (told.fate, told.workload, told.signature, told.finding) == (Fate.KILLED, "b", "P6:leak:exit", "P6 is broken")
    assert told.named == ("P2", "P6")
    assert told.passed == ("a",)
    assert fate.right(M, told) is True


def test_another_property_is_still_a_kill() -> None:
    told = judge(M, result("b", Verdict.FAIL, finding("P1")))
    assert told.fate is Fate.KILLED
    assert fate.right(M, told) is False
    assert fate.right(dataclasses.replace(M, expected=()), told) is None
    assert fate.misnamed(M, told)
    assert not fate.misnamed(dataclasses.replace(M, expected=()), told)


def test_a_crash_kills_for_the_property_in_progress() -> None:
    crash = WorkloadResult("a", ("P5",), Verdict.CRASH, "BUG: unable to handle", (finding("P1"),), prop="P5")
    told = judge(M, crash)
    assert (told.fate, told.verdict, told.signature, told.finding) == (Fate.KILLED, "CRASH", "CRASH:P5", "BUG: unable to handle")
    assert fate.right(M, told) is None
    assert fate.misnamed(M, told)
    assert fate.right(dataclasses.replace(M, expected=("P5",)), told) is True
    assert not fate.misnamed(dataclasses.replace(M, expected=("P5",)), told)
    assert not fate.misnamed(M, judge(M, dataclasses.replace(crash, findings=(), prop="")))  # nothing to compare with


@pytest.mark.parametrize("verdict", [Verdict.LOST, Verdict.INFRA, Verdict.BOOT])
def test_what_was_lost_did_not_survive(verdict: Verdict) -> None:
    told = judge(M, result("a", Verdict.PASS), result("b", verdict, reason="gone"))
    assert told.fate is Fate.UNJUDGED
    assert not told.fate.final
    assert "b" in told.reason and "gone" in told.reason


def test_survivors_name_what_was_skipped() -> None:
    told = judge(M, result("a", Verdict.PASS, props=("P6",)), result("b", Verdict.SKIP, reason="no NUMA"))
    assert told.fate is Fate.SURVIVED
    assert "skipped: b" in told.reason


def test_not_testable_where_all_that_shows_the_property_is_skipped() -> None:
    told = judge(M, result("a", Verdict.PASS), result("b", Verdict.SKIP, reason="no slabinfo", props=("P6",)))
    assert told.fate is Fate.NOT_TESTABLE
    assert "b: no slabinfo" in told.reason
    nothing = dataclasses.replace(M, expected=())
    assert judge(nothing, result("b", Verdict.SKIP, reason="no NUMA")).fate is Fate.NOT_TESTABLE


def test_benign_controls() -> None:
    benign = dataclasses.replace(M, benign=True, expected=())
    assert judge(benign, result("a", Verdict.PASS)).fate is Fate.CLEAN
    assert judge(benign, result("a", Verdict.FAIL, finding("P1"))).fate is Fate.FLAGGED


def test_exit_codes() -> None:
    killed = (Fate.KILLED, "")
    assert fate.exit_code([killed, (Fate.CLEAN, ""), (Fate.NOT_TESTABLE, "")]) is ExitCode.GOOD
    assert fate.exit_code([killed, (Fate.UNJUDGED, ""), (Fate.SURVIVED, "gap")]) is ExitCode.BAD
    assert fate.exit_code([killed, (Fate.FLAGGED, "equivalent")]) is ExitCode.BAD
    assert fate.exit_code([killed, (Fate.SURVIVED, "equivalent")]) is ExitCode.GOOD
    assert fate.exit_code([killed, (Fate.NO_BUILD, "")]) is ExitCode.CANNOT_JUDGE
    assert fate.exit_code([]) is ExitCode.CANNOT_JUDGE


RUNNERS = (Runner("slow", ("P6",), 5.0), Runner("quick", ("P1",), 0.1), Runner("other", ("P2",), 0.1))


def order(*args: object, **more: object) -> list[str]:
    return [r.name for r in rank(RUNNERS, *args, **more)]  # type: ignore[arg-type]


def test_ranking() -> None:
    assert order([]) == ["quick", "other", "slow"]  # by cost; equals stay as they were
    assert order([], ["P6"])[0] == "slow"  # what shows the expected property comes first
    assert order([Trial("quick", False), Trial("other", True)]) == ["other", "quick", "slow"]
    kin = [Trial("quick", True)] * 3 + [Trial("other", False)] * 3 + [Trial("other", True, "f")]
    assert order(kin) == ["quick", "other", "slow"]
    assert order([*kin, Trial("quick", False, "f")], [], "f") == ["other", "quick", "slow"]  # kin tell more


def test_a_header_is_read_and_not_needed() -> None:
    patch = "--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -1 +1 @@\n-a\n+b\n"
    told = mutant.parse(Path("12-x.patch"), f"The put is lost.\n\nProperty: P6 (or P5)\nFunction: f\n\n{patch}".encode())
    assert (told.name, told.expected, told.function, told.description) == ("12-x", ("P6", "P5"), "f", "The put is lost.")
    assert mutant.parse(Path("B1.patch"), patch.encode()).benign
    assert mutant.parse(Path("a.patch"), f"Property: P1\n{patch}".encode()).digest != mutant.parse(Path("a.patch"), b"").digest


def test_directories_without_patches(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \*\.patch"):
        mutant.read(tmp_path)
    (tmp_path / "a.patch").write_text("x")
    with pytest.raises(UsageError, match=r"no b\.patch"):
        mutant.read(tmp_path, ["b"])


def made(**more: object) -> Outcome:
    judgement = Judgement(
        Fate.KILLED, workload="w", verdict="FAIL", prop="P6", signature="P6:leak:exit", finding="told", passed=("v",)
    )
    plain = outcome.outcome(M, "x86_64", "key", judgement, ran=("v", "w"), costs=(("v", 0.5),), guest_seconds=3.0)
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


def survivor(name: str) -> Outcome:
    return made(mutant=name, judgement=Judgement(Fate.SURVIVED, "all 2 workloads passed"), right=None)


def test_outcomes_are_kept(tmp_path: Path) -> None:
    assert outcome.kept(tmp_path) is None
    outcome.keep(tmp_path, made())
    assert outcome.kept(tmp_path) == made()
    (tmp_path / outcome.NAME).write_text('{"fate": "killed"}')
    assert outcome.kept(tmp_path) is None
    (tmp_path / outcome.NAME).write_text("[]")
    assert outcome.kept(tmp_path) is None


def test_trials_of_an_outcome() -> None:
    assert made().trials() == [Trial("v", False, ""), Trial("w", True, "")]


def test_keys_depend_on_all_that_decides() -> None:
    both = ["a", "b"]
    variants = (
        ("p", "k", "i", both),
        ("q", "k", "i", both),
        ("p", "l", "i", both),
        ("p", "k", "j", both),
        ("p", "k", "i", ["a"]),
    )
    keys = {identity.key(*variant) for variant in variants}
    assert len(keys) == 5
    assert identity.key("p", "k", "i", ["a", "b"]) == identity.key("p", "k", "i", ["b", "a"])


ARGUED = {"s1": Argument("equivalent", "why | so"), "s2": Argument("gap", "no workload")}


def score(*outcomes: Outcome) -> Score:
    return Score("debian:6.1", outcomes, ARGUED, started="2026-01-01T00:00:00+00:00", version="1")


def test_a_score() -> None:
    whole = score(made(), survivor("s1"), survivor("s2"), survivor("s3"))
    assert whole.rate() == 1 / 3
    assert whole.counts()["survived"] == 3 and whole.counts()["equivalent"] == 1
    assert whole.exit_code() is ExitCode.BAD
    data = json.loads(json.dumps(whole.data()))
    assert data["schema"] == 1 and data["exit_code"] == 1
    assert [m["argued"] and m["argued"]["verdict"] for m in data["mutants"]] == [None, "equivalent", "gap", None]
    assert "1 killed, 3 survived (1 argued equivalent)" in table.summary(whole)


def test_mutate_json_is_known_again(tmp_path: Path) -> None:
    assert not mutationfile.is_ours(tmp_path)
    mutationfile.write(tmp_path, score())
    assert mutationfile.is_ours(tmp_path)


def test_junit_fails_what_was_missed() -> None:
    whole = score(made(), survivor("s1"), survivor("s2"), made(mutant="n", judgement=Judgement(Fate.NO_BUILD, "hunk 1 FAILED")))
    root = ElementTree.fromstring(junit.junit(whole))
    cases = {c.get("name"): [child.tag for child in c if child.tag != "system-out"] for c in root.iter("testcase")}
    assert cases == {"m": [], "s1": ["skipped"], "s2": ["failure"], "n": ["error"]}


def test_the_document_replaces_its_own_part(tmp_path: Path) -> None:
    path = tmp_path / "mutation.md"
    path.write_text("# Mutation\n\nWords.\n")
    document.write(path, "one", score(made(), survivor("s1")))
    document.write(path, "two", score(survivor("s2")))
    first = path.read_text()
    document.write(path, "one", score(made(), survivor("s1")))
    assert path.read_text() == first
    assert first.startswith("# Mutation\n\nWords.\n") and "| s2 |" in first and "why \\| so" in first
    document.write(path, "one", score(made()))
    assert "s1" not in path.read_text() and "| s2 |" in path.read_text()


def test_a_wrong_property_is_shown() -> None:
    wrong = made(judgement=dataclasses.replace(made().judgement, named=("P1",)), right=False)
    assert table.rows(score(wrong))[0]["wanted"] == "P6, not P1"


def test_arguments(tmp_path: Path) -> None:
    path = tmp_path / "argued.toml"
    path.write_text('["a.drop.1"]\nverdict = "gap"\nreason = """two\n lines"""\n')
    assert argued.load(path) == {"a.drop.1": Argument("gap", "two lines")}
    assert argued.load(None) == {}
    for bad in ('["a"]\nverdict = "maybe"\nreason = "x"', '["a"]\nverdict = "gap"', "x = 1", "["):
        path.write_text(bad)
        with pytest.raises(UsageError, match=r"argued\.toml"):
            argued.load(path)


def elf(path: Path, order: str, sections: dict[str, tuple[int, int, bytes]]) -> Path:
    """A 64-bit ELF file: name to type, flags, content."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    rows, body = [bytes(64)], b""
    for name, (kind, flags, content) in {**sections, ".shstrtab": (3, 0, names)}.items():
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        rows.append(struct.pack(f"{order}2I4Q2I2Q", at, kind, flags, 0x1000, 64 + len(body), len(content), 0, 0, 1, 0))
        body += content
    head = b"\x7fELF\2" + (b"\1" if order == "<" else b"\2") + b"\1" + bytes(9)
    head += struct.pack(f"{order}2HI3QI6H", 2, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(rows), len(rows) - 1)
    path.write_bytes(head + body + b"".join(rows))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_same_code_is_known_whatever_its_lines(tmp_path: Path, order: str) -> None:
    def printed(text: bytes, bugs: bytes = b"line 7", debug: bytes = b"d", notes: bytes = b"id") -> str:
        sections = {".text": (1, 6, text), "__bug_table": (1, 3, bugs), ".debug_line": (1, 0, debug), ".notes": (7, 2, notes)}
        return samecode.fingerprint(elf(tmp_path / "vmlinux", order, sections))

    same = printed(b"code")
    assert same and same == printed(b"code", b"line 8", b"other", b"another")
    assert same != printed(b"kode")
    (tmp_path / "x").write_bytes(b"\x7fELF")
    assert samecode.fingerprint(tmp_path / "x") == samecode.fingerprint(tmp_path / "none") == ""

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a tree carries the patch, told by what its code does (ksm_sources.py)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.cli import main
from harness.errors import CannotJudge
from harness.source import contains, mechanism
from harness.source.contains import Answer, Presence
from harness.store import Store
from tests.unit.ksm_sources import BEFORE, EARLY, ITEM, LATE


def answer(files: Mapping[str, str], tmp_path: Path) -> Answer:
    return contains.examine(files.get, Store(tmp_path / "store"))


def edited(files: Mapping[str, str], old: str, new: str, count: int = 1) -> dict[str, str]:
    assert any(old in text for text in files.values()), old
    return {path: text.replace(old, new, count) for path, text in files.items()}


@pytest.mark.parametrize("files", [LATE, EARLY], ids=["late", "early"])
def test_both_forms_are_known_with_file_and_line(files: Mapping[str, str], tmp_path: Path) -> None:
    found = answer(files, tmp_path)
    assert found.presence is Presence.EVOLVED, found.lines
    lines = ["", *files["mm/ksm.c"].splitlines()]
    for place in (place for piece in found.pieces for place in piece.places):
        line, name = re.fullmatch(r"mm/ksm\.c:(\d+) (?:struct )?(\w+)(?:\(\)|, anon_vma)", place).groups()  # type: ignore[union-attr]
        begins = max(n for n, text in enumerate(lines) if n <= int(line) and re.match(r"\w", text) and not text.endswith(":"))
        assert re.search(rf"\b{name}\b", lines[begins]), place
    assert found.line.startswith("yes, evolved: mm/ksm.c:")


def test_names_do_not_matter(tmp_path: Path) -> None:
    names = (
        "rmap_walk_ksm", "break_cow", "remove_node_from_stable_tree", "remove_rmap_item_from_tree", "try_to_merge_with_ksm_page",
        "get_anon_vma", "put_anon_vma", "rmap_item", "stable_node", "search_new_forks", "collect_procs_ksm",
    )  # fmt: skip
    renamed: dict[str, str] = dict(LATE)
    for number, name in enumerate(names):
        renamed = {path: re.sub(rf"\b{name}\b", f"x{number}", text) for path, text in renamed.items()}
    assert answer(renamed, tmp_path).presence is Presence.EVOLVED


@pytest.mark.parametrize("files", [BEFORE, {}, {"mm/ksm.c": "int x;\n"}], ids=["before", "no KSM", "empty"])
def test_no(files: Mapping[str, str], tmp_path: Path) -> None:
    found = answer(files, tmp_path)
    assert found.presence is Presence.NO
    assert found.missing


def test_a_field_that_nothing_uses_is_no_mechanism(tmp_path: Path) -> None:
    assert answer({"mm/ksm.c": ITEM}, tmp_path).presence is Presence.NO


FILTER = "(rmap_item->mm == vma->vm_mm) == search_new_forks"
SECOND_PASS = "	if (!search_new_forks++)\n		goto again;\n"


@pytest.mark.parametrize(
    ("files", "old", "new", "missing"),
    [
        (LATE, SECOND_PASS, "", r"rmap_walk_ksm\(\) has no second pass"),
        (LATE, "		goto again;\n", "		return;\n", r"rmap_walk_ksm\(\) has no second pass"),
        (LATE, "if (!search_new_forks++)", "if (!search_new_forks)", r"rmap_walk_ksm\(\) has no second pass"),
        (LATE, FILTER, "rmap_item->mm != vma->vm_mm", "never searches other mms"),
        (LATE, FILTER, "vma->vm_mm == rmap_item->mm", "never searches the items' own"),
        (LATE, "(vmac->vma->vm_mm == tsk->mm", "(vma->vm_mm == rmap_item->mm && tsk->mm", "collect_procs_ksm"),
        (LATE, "	get_anon_vma(vma->anon_vma);\n", "", "takes no reference"),
        (LATE, "	rmap_item->anon_vma = vma->anon_vma;\n", "", "nothing sets an item's anon_vma"),
        (LATE, "	atomic_inc(&anon_vma->refcount);\n", "", "takes no reference"),
        (LATE, "		hlist_del(&rmap_item->hlist);\n		put_anon_vma(rmap_item->anon_vma);\n",
         "		hlist_del(&rmap_item->hlist);\n", r"remove_rmap_item_from_tree\(\) takes an item off its list"),
        (LATE, "		put_anon_vma(rmap_item->anon_vma);\n		rmap_item->address &=", "		rmap_item->address &=",
         r"remove_node_from_stable_tree\(\) lets all items"),
        (LATE, "	put_anon_vma(rmap_item->anon_vma);\n	mmap_read_lock", "	mmap_read_lock",
         r"cmp_and_merge_page\(\) undoes a merge"),
        (EARLY, SECOND_PASS, "", r"page_referenced_ksm\(\) has no second pass"),
        (EARLY, "		drop_anon_vma(rmap_item);\n		break_cow", "		break_cow", r"try_to_merge\(\) undoes a merge"),
        (EARLY, "		drop_anon_vma(tree_rmap_item);\n", "", r"try_to_merge\(\) undoes a merge"),
        (EARLY, "	hold_anon_vma(rmap_item, vma->anon_vma);\n", "", r"hold_anon_vma\(\) takes the reference, and nothing"),
        (EARLY, "	hlist_del(&rmap_item->hlist);\n	drop_anon_vma(rmap_item);\n", "	hlist_del(&rmap_item->hlist);\n",
         "off its list"),
    ],
)  # fmt: skip
def test_partly_and_what_is_missing(files: Mapping[str, str], old: str, new: str, missing: str, tmp_path: Path) -> None:
    found = answer(edited(files, old, new), tmp_path)
    assert found.presence is Presence.PARTLY, found.lines
    assert len(found.missing) == 1, found.missing
    assert re.search(missing, found.missing[0]), found.missing
    assert found.line.startswith("partly: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SECOND_PASS, "	search_new_forks = !search_new_forks;\n	if (search_new_forks)\n		goto again;\n"),
        ("			if ((rmap_item->mm == vma->vm_mm) == search_new_forks)\n				continue;\n", ""),
        ("if ((rmap_item->mm == vma->vm_mm) == search_new_forks)", "if (search_new_forks ? rmap_item->mm == vma->vm_mm :"
         " rmap_item->mm != vma->vm_mm)"),
    ],
)  # fmt: skip
def test_other_ways_to_come_to_all(old: str, new: str, tmp_path: Path) -> None:
    found = answer(edited(LATE, old, new), tmp_path)
    assert found.presence is Presence.EVOLVED, found.lines


def test_two_passes_by_a_loop_and_by_a_function_called_twice(tmp_path: Path) -> None:
    looped = edited(
        LATE, "again:\n	hlist_for", "	for (search_new_forks = 0; search_new_forks < 2; search_new_forks++)\n	hlist_for"
    )
    assert answer(edited(looped, SECOND_PASS, ""), tmp_path).presence is Presence.EVOLVED
    split = edited(LATE, "struct rmap_walk_control *rwc)\n", "struct rmap_walk_control *rwc, bool search_new_forks)\n")
    split = edited(edited(edited(split, "	int search_new_forks = 0;\n", ""), "again:\n", ""), SECOND_PASS, "")
    assert answer(split, tmp_path).presence is Presence.PARTLY
    once = "\nvoid walk(struct folio *folio, struct rmap_walk_control *rwc)\n{\n	rmap_walk_ksm(folio, rwc, false);\n}\n"
    assert answer({**split, "mm/ksm.c": split["mm/ksm.c"] + once}, tmp_path).presence is Presence.PARTLY
    twice = once.replace("}", "	rmap_walk_ksm(folio, rwc, true);\n}")
    assert answer({**split, "mm/ksm.c": split["mm/ksm.c"] + twice}, tmp_path).presence is Presence.EVOLVED


ONE_ITEM = """
static bool walk_item(struct folio *folio, struct rmap_item *item, struct rmap_walk_control *rwc, bool forks)
{
	struct anon_vma *anon_vma = item->anon_vma;

	anon_vma_interval_tree_foreach(vmac, &anon_vma->rb_root, 0, ULONG_MAX) {
		vma = vmac->vma;
		if ((item->mm == vma->vm_mm) == forks)
			continue;
		if (!rwc->rmap_one(folio, vma, item->address, rwc->arg))
			return false;
	}
	return true;
}
"""


def walked(body: str, before: str = "") -> dict[str, str]:
    """LATE with another loop over the items in rmap_walk_ksm()."""
    text = LATE["mm/ksm.c"]
    begin = text.index("void rmap_walk_ksm(")
    loop = text.index("	hlist_for_each_entry(", begin)
    return {**LATE, "mm/ksm.c": text[:begin] + before + text[begin:loop] + body + text[text.index(SECOND_PASS) :]}


def test_a_walk_that_leaves_each_item_to_a_function(tmp_path: Path) -> None:
    loop = """	hlist_for_each_entry(rmap_item, &stable_node->hlist, hlist)
		if (!walk_item(folio, rmap_item, rwc, %s))
			return;
"""
    assert answer(walked(loop % "search_new_forks", ONE_ITEM), tmp_path).presence is Presence.EVOLVED
    once = answer(walked(loop % "false", ONE_ITEM), tmp_path)
    assert once.presence is Presence.PARTLY, once.lines
    no_second = edited(walked(loop % "search_new_forks", ONE_ITEM), SECOND_PASS, "")
    assert answer(no_second, tmp_path).presence is Presence.PARTLY


def test_a_walk_in_one_pass_that_leaves_owners_to_their_own_items(tmp_path: Path) -> None:
    asks = """
static bool has_item(struct stable_node *stable_node, struct mm_struct *mm)
{
	struct rmap_item *rmap_item;

	hlist_for_each_entry(rmap_item, &stable_node->hlist, hlist)
		if (rmap_item->mm == mm)
			return true;
	return false;
}
"""
    found = edited(LATE, FILTER, "rmap_item->mm != vma->vm_mm && has_item(stable_node, vma->vm_mm)")
    found = edited(edited(found, SECOND_PASS, ""), "void rmap_walk_ksm(", asks + "\nvoid rmap_walk_ksm(")
    assert answer(found, tmp_path).presence is Presence.EVOLVED, answer(found, tmp_path).lines
    assert answer(edited(found, "if (rmap_item->mm == mm)", "if (mm)"), tmp_path).presence is Presence.PARTLY


def test_a_lock_held_by_scope_and_a_merge_undone_in_place(tmp_path: Path) -> None:
    scoped = edited(LATE, "	mmap_read_lock(mm);\n", "	guard(mmap_read_lock)(mm);\n", 1)
    assert answer(scoped, tmp_path).presence is Presence.EVOLVED, answer(scoped, tmp_path).lines
    in_place = edited(
        LATE, "static void break_cow(struct rmap_item *rmap_item)", "static int break_cow(struct rmap_item *rmap_item)"
    )
    assert answer(in_place, tmp_path).presence is Presence.EVOLVED
    kept = edited(in_place, "	put_anon_vma(rmap_item->anon_vma);\n	mmap_read_lock", "	mmap_read_lock")
    assert answer(kept, tmp_path).presence is Presence.PARTLY


def test_the_structures_in_a_header_and_the_walk_in_a_file_of_its_own(tmp_path: Path) -> None:
    text = LATE["mm/ksm.c"]
    moved = text[text.index("void rmap_walk_ksm(") : text.index("void collect_procs_ksm(")]
    files = {
        **LATE,
        "mm/ksm.c": '#include "ksm.h"\n' + text.replace(moved, "").replace(ITEM, ""),
        "mm/ksm.h": ITEM,
        "mm/ksm_rmap.c": moved,
        "mm/Makefile": "obj-$(CONFIG_KSM) += ksm.o ksm_rmap.o\n",
    }
    found = answer(files, tmp_path)
    assert found.presence is Presence.EVOLVED, found.lines
    assert found.pieces[0].places[0].startswith("mm/ksm.h:") and any(
        p.startswith("mm/ksm_rmap.c:") for p in found.pieces[-1].places
    )
    assert answer({**files, "mm/Makefile": "obj-$(CONFIG_KSM) += ksm.o\n", "mm/ksm.h": ""}, tmp_path).presence is Presence.NO


def after(patch: str) -> str:
    """A file that holds all that a patch leaves behind, at the lines where it leaves it."""
    lines: list[str] = []
    for line in patch.splitlines():
        if found := re.match(r"@@ -\d+,\d+ \+(\d+),\d+ @@", line):
            lines += [""] * (int(found[1]) - 1 - len(lines))
        elif lines and line[:1] in (" ", "+") and not line.startswith("+++"):
            lines.append(line[1:])
        elif found is None and lines == [] and line.startswith("@@"):
            raise AssertionError(line)
    return "\n".join(lines) + "\n"


def test_the_patch_as_committed_can_be_taken_out_again(tmp_path: Path) -> None:
    text, store = after(contains.PATCH.read_text(encoding="utf-8")), Store(tmp_path / "store")
    assert contains.as_committed(text, store)
    assert contains.examine({"mm/ksm.c": text}.get, store).presence is Presence.AS_COMMITTED
    for lost in ("\tif (!search_new_forks++)\n\t\tgoto again;\n", "\t\tdrop_anon_vma(rmap_item);\n"):
        assert not contains.as_committed(text.replace(lost, "", 1), store)
    assert not contains.as_committed(LATE["mm/ksm.c"], store), "which proves nothing"
    assert not list((store.root / "tmp").iterdir())


def test_source_that_cannot_be_followed_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(CannotJudge, match="cannot be followed"):
        answer({"mm/ksm.c": ITEM + "void f(void) { ( }\n"}, tmp_path)


def git(root: Path, *words: str) -> str:
    argv = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "linux"
    for path, text in {**LATE, "Makefile": "VERSION = 6\nPATCHLEVEL = 1\n", "arch/x": ""}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    git(tmp_path, "init", "-q", "linux")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "one")
    return root


def test_history_is_told_and_does_not_decide(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = git(tree, "rev-parse", "HEAD")
    assert contains.history(tree, one) == "", "this repository knows no such commit"
    monkeypatch.setattr(contains, "COMMIT", one)
    git(tree, "commit", "-q", "--allow-empty", "-m", "two")
    two = git(tree, "rev-parse", "HEAD")
    assert contains.history(tree, two) == f"commit {one[:12]} is an ancestor of {two[:12]}"
    monkeypatch.setattr(contains, "COMMIT", two)
    assert contains.history(tree, one) == f"commit {two[:12]} is no ancestor of {one[:12]}"
    assert contains.history(tmp_path, one) == ""


def test_the_command(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(tmp_path / "store"))
    assert main(["contains", f"tree:{tree}"]) == 0
    told = capsys.readouterr().out
    assert "yes, evolved" in told
    assert "walk over owners and forks: mm/ksm.c:" in told
    patch = tmp_path / "x.patch"
    ksm = tree / mechanism.KSM
    clean = ksm.read_text(encoding="utf-8")
    ksm.write_text(clean.replace(SECOND_PASS, ""), encoding="utf-8")
    patch.write_text(subprocess.run(["git", "-C", tree, "diff"], check=True, capture_output=True, text=True).stdout)
    assert main(["contains", f"tree:{tree}"]) == 1
    ksm.write_text(clean, encoding="utf-8")
    assert main(["contains", f"tree:{tree}", "--patch", str(patch), "--json"]) == 1
    assert '"answer": "partly"' in capsys.readouterr().out
    assert main(["contains", f"tree:{tmp_path}"]) == 129
    assert main(["contains", "image:/etc/hostname"]) == 129
    assert "ready image" in capsys.readouterr().err

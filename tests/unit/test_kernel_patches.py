# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches: applied with patch(1) on a few files, and what is refused before that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import BuildError, UsageError
from harness.kernel import patches
from harness.source.content import Directory, File

KSM = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"


def change(path: str, old: str, new: str, *, line: int = 1) -> str:
    """A unified diff that replaces KSM's line ``old``."""
    lines = KSM.splitlines()
    at = lines.index(old)
    before, after = lines[max(0, at - 1) : at], lines[at + 1 : at + 2]
    body = [f" {text}" for text in before] + [f"-{old}", f"+{new}"] + [f" {text}" for text in after]
    count = len(before) + len(after) + 1
    return f"--- a/{path}\n+++ b/{path}\n@@ -{line},{count} +{line},{count} @@\n" + "\n".join(body) + "\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "mm").mkdir(parents=True)
    (root / "mm/ksm.c").write_text(KSM)
    (root / "mm/gone.c").write_text("x\n")
    return root


def applied(root: Path, *texts: str) -> dict[str, File | None]:
    files = []
    for number, text in enumerate(texts):
        path = root.parent / f"{number}-x.patch"
        path.write_text(text)
        files.append(path)
    scratch = root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return dict(patches.apply(patches.load(files), Directory(root), scratch))


def content(file: File | None) -> str:
    assert file is not None
    return file.content.decode()


def test_one_file_and_the_tree_stays(root: Path) -> None:
    result = applied(root, change("mm/ksm.c", "two", "TWO"))
    assert content(result["mm/ksm.c"]) == KSM.replace("two", "TWO")
    assert (root / "mm/ksm.c").read_text() == KSM
    assert set(result) == {"mm/ksm.c"}


def test_patches_build_on_each_other_in_order(root: Path) -> None:
    first, second = change("mm/ksm.c", "two", "TWO"), change("mm/ksm.c", "two", "2").replace("-two", "-TWO")
    assert content(applied(root, first, second)["mm/ksm.c"]) == KSM.replace("two", "2")


def test_order_matters(root: Path) -> None:
    first, second = change("mm/ksm.c", "two", "TWO"), change("mm/ksm.c", "two", "2").replace("-two", "-TWO")
    with pytest.raises(BuildError, match=r"patch 0-x.patch does not apply: mm/ksm.c: Hunk #1 FAILED at 1"):
        applied(root, second, first)


def test_new_removed_renamed_and_mode(root: Path) -> None:
    mail = (
        "From: someone\nSubject: x\n\n--- not a header\n---\n mm/new.c | 1 +\n\n"
        "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100755\n--- /dev/null\n+++ b/mm/new.c\n@@ -0,0 +1 @@\n+int x;\n"
        "diff --git a/mm/gone.c b/mm/gone.c\ndeleted file mode 100644\n--- a/mm/gone.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "diff --git a/mm/ksm.c b/lib/ksm.c\nsimilarity index 100%\nrename from mm/ksm.c\nrename to lib/ksm.c\n-- \n2.39.5\n"
    )
    result = applied(root, mail)
    assert result == {
        "mm/new.c": File("100755", b"int x;\n"),
        "mm/gone.c": None,
        "mm/ksm.c": None,
        "lib/ksm.c": File("100644", KSM.encode()),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (change("mm/ksm.c", "two", "TWO").replace(" one", " uno").replace("-two", "-zwei"), "mm/ksm.c: Hunk #1 FAILED at 1"),
        (change("mm/none.c", "two", "TWO"), "can't find file to patch at input line 3"),
        (change("mm/ksm.c", "two", "TWO").replace("-two", "-TWO").replace("+TWO", "+two"), "previously applied"),
        (change("mm/ksm.c", "two", "TWO").partition("+TWO")[0], "malformed|unexpected"),
    ],
)
def test_what_does_not_apply(root: Path, text: str, words: str) -> None:
    with pytest.raises(BuildError, match=f"^patch 0-x.patch does not apply: .*({words})") as e:
        applied(root, text)
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["../../etc/passwd", "mm/../../x", "/etc/passwd"])
def test_paths_outside_the_tree(root: Path, path: str) -> None:
    text = change("mm/ksm.c", "two", "TWO")
    for bad in (
        text.replace("a/mm/ksm.c", f"a/{path}" if path[0] != "/" else path),
        text.replace("b/mm/ksm.c", f"b/{path}"),
        f"diff --git a/{path} b/mm/x\n{text}",
    ):
        with pytest.raises(UsageError, match="outside the tree"):
            applied(root, bad)


def test_a_patch_may_not_go_through_a_link(root: Path) -> None:
    (root / "link").symlink_to("/tmp")
    with pytest.raises(UsageError, match="link is a symbolic link"):
        applied(root, change("link/ksm.c", "two", "TWO"))


def test_a_patch_cannot_write_through_a_link_it_makes(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.mkdir()
    link = (
        f"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+{target}\n"
        "\\ No newline at end of file\n"
    )
    through = "diff --git a/l/x b/l/x\nnew file mode 100644\n--- /dev/null\n+++ b/l/x\n@@ -0,0 +1 @@\n+x\n"
    with pytest.raises(BuildError):
        applied(root, link + through)
    assert not list(target.iterdir())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"hello\n", "not a patch"),
        (b"\x7fELF\0\0", "not a patch"),
        (b"@@ -1 +1 @@\n-a\n+b\n", "names no file"),
        (b"--- ksm.c\n+++ ksm.c\n@@ -1 +1 @@\n-a\n+b\n", "names no file"),
    ],
)
def test_no_patch(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(UsageError, match=words):
        patches.load([tmp_path / "p"])


def test_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot read the patch"):
            patches.load([path])


def git_diff(root: Path, edit: Callable[[Path], None], *arguments: str) -> str:
    """What ``git diff --binary`` says of an edit."""
    tree = root.parent / "edited"
    shutil.copytree(root, tree)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], cwd=tree, check=True)
    edit(tree)
    subprocess.run([*git, "add", "-A"], cwd=tree, check=True)
    done = subprocess.run([*git, "diff", "--cached", *arguments], cwd=tree, check=True, capture_output=True, text=True)
    shutil.rmtree(tree)
    return done.stdout


LOGO = bytes(range(256)) * 20


def edit_both(tree: Path) -> None:
    (tree / "logo").write_bytes(LOGO.replace(b"\x07", b"\x08"))
    (tree / "new").write_bytes(b"\0\1\2" * 100)
    (tree / "mm/ksm.c").write_text(KSM.replace("two", "TWO"))


@pytest.mark.parametrize("inside", [False, True])
def test_a_binary_patch_of_gits(root: Path, inside: bool) -> None:
    (root / "logo").write_bytes(LOGO)
    text = git_diff(root, edit_both, "--binary")
    assert "GIT binary patch" in text
    if inside:  # the store may be in a repository of the user's
        subprocess.run(["git", "init", "-q"], cwd=root.parent, check=True)
    result = applied(root, change("mm/ksm.c", "six", "SIX", line=5), text)
    assert content(result["mm/ksm.c"]) == KSM.replace("two", "TWO").replace("six", "SIX")
    logo, new = result["logo"], result["new"]
    assert logo is not None
    assert new is not None
    assert (logo.content, new.content) == (LOGO.replace(b"\x07", b"\x08"), b"\0\1\2" * 100)


def test_a_binary_patch_that_does_not_apply(root: Path) -> None:
    (root / "logo").write_bytes(LOGO)
    text = git_diff(root, edit_both, "--binary")
    (root / "logo").write_bytes(LOGO + b"x")
    with pytest.raises(BuildError, match=r"patch 0-x\.patch does not apply: .*logo"):
        applied(root, text)


def test_a_binary_file_whose_content_the_patch_does_not_hold(root: Path) -> None:
    (root / "logo").write_bytes(LOGO)
    text = git_diff(root, edit_both)
    assert "Binary files" in text
    with pytest.raises(UsageError, match=r"0-x\.patch .*logo.* git diff --binary"):
        applied(root, text)


def test_shared_mutants_name_their_files() -> None:
    found = sorted((Path(__file__).parents[1] / "mutants").glob("*.patch"))
    if not found:
        pytest.skip("tests/mutants is empty")
    for patch in patches.load(found):  # KSM's half of fork is in a header, its caller in kernel/fork.c
        assert patch.touches
        assert all(path.startswith(("mm/", "include/linux/", "kernel/fork.c")) for path in patch.touches), patch

# SPDX-License-Identifier: GPL-2.0-or-later
"""A developer's tree: what belongs to it, when its identity changes, and that it is left alone."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.source import Source, parse_spec, resolve
from harness.source import tree as tree_module
from harness.source.manifest import read_content
from harness.store import Store

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]


def git(tree: Path, *arguments: str) -> None:
    subprocess.run([*GIT, *arguments], cwd=tree, check=True, capture_output=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def linux(tmp_path: Path) -> Path:
    tree = tmp_path / "linux"
    (tree / "mm").mkdir(parents=True)
    (tree / "arch").mkdir()
    (tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION = -rc1\n")
    (tree / ".gitignore").write_text(".*\n*.o\n/vmlinux\n!.gitignore\n")
    (tree / "mm/ksm.c").write_text("int ksm;\n")
    (tree / "arch/Kconfig").write_text("config X\n")
    (tree / "mm/link").symlink_to("ksm.c")
    return tree


def of(tree: Path, store: Store) -> Source:
    return resolve(parse_spec(f"tree:{tree}"), store)


def listing(tree: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in [tree, *tree.rglob("*")]:
        st = path.lstat()
        found[str(path)] = (st.st_mtime_ns, st.st_ctime_ns, st.st_size)
    return found


@pytest.mark.parametrize("repository", [False, True])
def test_products_of_a_build_are_no_part(linux: Path, store: Store, repository: bool) -> None:
    if repository:
        git(linux, "init", "-q")
        git(linux, "add", "mm", "Makefile")
        git(linux, "commit", "-qm", "x")
    before = of(linux, store)
    (linux / "mm/ksm.o").write_text("object")
    (linux / "vmlinux").write_text("elf")
    (linux / ".config").write_text("CONFIG_X=y")
    assert of(linux, store).identity == before.identity
    assert before.manifest is not None
    assert set(before.manifest) == {".gitignore", "Makefile", "mm/ksm.c", "mm/link", "arch/Kconfig"}
    assert (before.release, before.kind, before.pristine) == ("6.1.192-rc1", "tree", False)
    assert bool(before.revision) == repository


def test_repository_or_not_is_the_same_tree(linux: Path, store: Store) -> None:
    plain = of(linux, store).identity
    git(linux, "init", "-q")
    git(linux, "add", ".")
    assert of(linux, store).identity == plain


def test_tracked_file_counts_although_ignored(linux: Path, store: Store) -> None:
    (linux / "mm/blob.o").write_text("firmware")
    git(linux, "init", "-q")
    git(linux, "add", "-f", ".")
    manifest = of(linux, store).manifest
    assert manifest is not None
    assert "mm/blob.o" in manifest


def test_every_kind_of_edit_changes_the_identity_and_back(linux: Path, store: Store) -> None:
    git(linux, "init", "-q")
    git(linux, "add", ".")
    first = of(linux, store).identity
    seen = {first}

    def changed() -> None:
        identity = of(linux, store).identity
        assert identity not in seen
        seen.add(identity)

    (linux / "mm/ksm.c").write_text("int kSm;\n")
    changed()
    (linux / "mm/new.c").write_text("")
    changed()
    (linux / "mm/ksm.c").chmod(0o755)
    changed()
    (linux / "mm/link").unlink()
    changed()
    (linux / "mm/link").symlink_to("new.c")
    changed()
    (linux / "arch/Kconfig").unlink()
    changed()
    for undo in ("checkout -q -- .", "clean -qf mm/new.c"):
        git(linux, *undo.split())
    assert of(linux, store).identity == first


def test_edit_within_the_clock_tick_is_seen(linux: Path, store: Store) -> None:
    file = linux / "mm/ksm.c"
    first = of(linux, store).identity
    st = file.stat()
    for content in ("int ksn;\n", "int kso;\n"):
        file.write_text(content)
        os.utime(file, ns=(st.st_atime_ns, st.st_mtime_ns))
        assert of(linux, store).identity != first


def test_unchanged_files_are_not_read_again(linux: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = read_content

    def counting(path: str, mode: str) -> bytes:
        read.append(path)
        return real(path, mode)

    monkeypatch.setattr(tree_module, "read_content", counting)
    of(linux, store)
    assert len(read) == 5
    of(linux, store)
    assert len(read) == 10, "files this young cannot be trusted to their time stamps"
    time.sleep(tree_module.RACY_NS / 1e9 + 0.1)
    of(linux, store)
    read.clear()
    of(linux, store)
    assert read == []
    (linux / "mm/ksm.c").write_text("x")
    of(linux, store)
    assert read == [str(linux / "mm/ksm.c")]


def test_the_tree_is_left_untouched(linux: Path, store: Store) -> None:
    git(linux, "init", "-q")
    git(linux, "add", ".")
    (linux / "mm/ksm.c").touch()  # makes git want to refresh its index
    before = listing(linux)
    of(linux, store)
    assert listing(linux) == before


def test_the_users_git_environment_does_not_matter(
    linux: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = of(linux, store).identity
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    (tmp_path / "excludes").write_text("*.c\n")
    (tmp_path / "gitconfig").write_text(f"[core]\n\texcludesFile = {tmp_path}/excludes\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert of(linux, store).identity == first


def test_a_repository_that_git_cannot_read_still_gives_the_tree(linux: Path, store: Store) -> None:
    first = of(linux, store).identity
    (linux / ".git").write_text("gitdir: /nonexistent\n")
    assert of(linux, store).identity == first


def test_debian_gitignore_that_ignores_the_kernel(linux: Path, store: Store) -> None:
    (linux / ".gitignore").write_text("*.o\n/vmlinux\n/*\n!/debian/\n")
    (linux / "vmlinux").write_text("elf")
    (linux / "mm/ksm.o").write_text("object")
    manifest = of(linux, store).manifest
    assert manifest is not None
    assert {"Makefile", "mm/ksm.c", "arch/Kconfig"} <= set(manifest)
    assert not {"vmlinux", "mm/ksm.o"} & set(manifest)


def test_odd_names(linux: Path, store: Store) -> None:
    for name in (b"a\nb.c", b"-x.c", b"\xff\xfe.c", "ü.c".encode()):
        Path(os.fsdecode(os.fsencode(linux) + b"/mm/" + name)).write_text("x")
    (linux / "mm/dir").symlink_to("/")
    os.mkfifo(linux / "mm/pipe")
    first = of(linux, store)
    assert first.manifest is not None
    assert len(first.manifest) == 10
    assert of(linux, store).identity == first.identity


@pytest.mark.parametrize("worktree", [False, True])
def test_what_the_repository_itself_excludes_is_no_part(linux: Path, store: Store, worktree: bool) -> None:
    git(linux, "init", "-q")
    git(linux, "add", ".")
    git(linux, "commit", "-q", "-m", "x")
    (linux / ".git/info/exclude").write_text("/notes/\n*.o.d\n!mm/kept.o.d\n")
    tree = linux
    if worktree:  # has the file of the repository that it belongs to
        tree = linux.parent / "worktree"
        git(linux, "worktree", "add", "-q", str(tree))
    first = of(tree, store).identity
    (tree / "notes").mkdir()
    (tree / "notes/todo").write_text("x")
    (tree / "mm/ksm.o.d").write_text("x")
    assert of(tree, store).identity == first
    (tree / "mm/kept.o.d").write_text("x")
    assert of(tree, store).identity != first


def test_what_the_user_excludes_everywhere_does_not_matter(linux: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    git(linux, "init", "-q")
    git(linux, "add", ".")
    (linux / "mm/new.c").write_text("x")
    first = of(linux, store).identity
    home = linux.parent / "home"
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/ignore").write_text("new.c\n")
    (home / "ignore").write_text("new.c\n")
    (home / ".gitconfig").write_text(f"[core]\n\texcludesFile = {home}/ignore\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert of(linux, store).identity == first


def test_nested_repository_is_no_part(linux: Path, store: Store) -> None:
    git(linux, "init", "-q")
    git(linux, "add", ".")
    first = of(linux, store).identity
    (linux / "other").mkdir()
    git(linux / "other", "init", "-q")
    (linux / "other/file.c").write_text("x")
    assert of(linux, store).identity == first


def test_damaged_cache_is_ignored(linux: Path, store: Store) -> None:
    first = of(linux, store).identity
    for cache in (store.root / "facts").glob("tree-*"):
        cache.write_bytes(b"\xff\0garbage")
    assert of(linux, store).identity == first


def test_not_a_kernel(tmp_path: Path, store: Store) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match="not a kernel source tree"):
        of(tmp_path / "x", store)

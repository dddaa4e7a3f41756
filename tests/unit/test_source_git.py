# SPDX-License-Identifier: GPL-2.0-or-later
"""git:PATH@REV with real repositories: any revision, nothing checked out, the user's checkout as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import interruption
from harness.cli import main
from harness.errors import HostError, UsageError
from harness.kernel import contained, patches, slots, sync
from harness.kernel.slots import Slot
from harness.source import Source, git, parse_spec, resolve
from harness.source.content import File, read_file
from harness.store import Store

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def run(root: Path, *words: str) -> str:
    argv = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "core.hooksPath=", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits: one, tagged v1, and one that changes, adds and removes; files of all kinds that git has."""
    root = tmp_path / "linux"
    (root / "arch").mkdir(parents=True)
    (root / "mm").mkdir()
    (root / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 7\n")
    (root / "arch/x").write_text("x\n")
    (root / "mm/ksm.c").write_text("one\n")
    (root / "mm/rmap.c").write_text("rmap\n")
    (root / "mm/tool").write_text("#!/bin/sh\n")
    (root / "mm/tool").chmod(0o755)
    (root / "mm/link").symlink_to("ksm.c")
    (root / "mm/twin.c").write_text("rmap\n")
    (root / "mm/empty").touch()
    (root / ".gitattributes").write_text("mm/ksm.c text eol=crlf\nmm/rmap.c export-ignore filter=evil\n")
    run(tmp_path, "init", "-q", "linux")
    run(root, "config", "filter.evil.smudge", f"touch {tmp_path}/evil; cat")
    run(root, "add", ".")
    run(root, "commit", "-q", "-m", "one")
    run(root, "tag", "v1")
    (root / "mm/ksm.c").write_text("two\n")
    (root / "mm/more").mkdir()
    (root / "mm/more/x.c").write_text("x\n")
    (root / "mm/rmap.c").unlink()
    run(root, "add", "-A")
    run(root, "commit", "-q", "-m", "two")
    return root


def of(repository: Path, revision: str, store: Store) -> Source:
    return resolve(parse_spec(f"git:{repository}@{revision}"), store)


def content(root: Path) -> dict[str, File]:
    paths = (str(p.relative_to(root)) for p in root.rglob("*"))
    return {path: file for path in paths if (file := read_file(root, path))}


def test_a_revision_is_what_was_committed(repository: Path, store: Store, tmp_path: Path) -> None:
    before = {p: p.lstat().st_mtime_ns for p in repository.rglob("*") if p.is_file()}
    (repository / "mm/ksm.c").write_text("an edit\n")
    source = of(repository, "v1", store)
    assert (source.kind, source.release) == ("git", "6.1.7")
    assert source.revision == run(repository, "rev-parse", "v1")
    assert source.files.read("mm/ksm.c") == File("100644", b"one\n"), "as committed, whatever attributes say"
    assert source.files.read("mm/tool") == File("100755", b"#!/bin/sh\n")
    assert source.files.read("mm/link") == File("120000", b"ksm.c")
    assert source.files.read("mm/empty") == File("100644", b"")
    assert source.files.read("mm/rmap.c") == File("100644", b"rmap\n")
    assert source.files.read("mm") is None
    assert source.files.read("mm/more/x.c") is None
    assert not (tmp_path / "evil").exists(), "a filter ran"
    after = {p: p.lstat().st_mtime_ns for p in repository.rglob("*") if p.is_file()}
    assert {p for p in before if after.get(p) != before[p]} == {repository / "mm/ksm.c"}, "only our own edit"
    assert run(repository, "status", "--porcelain") == "M mm/ksm.c"


def test_it_is_the_same_kernel_as_a_clean_checkout(repository: Path, store: Store) -> None:
    tree = resolve(parse_spec(f"tree:{repository}"), store)
    (repository / "mm/ksm.c").write_bytes(b"two\n")
    assert of(repository, "HEAD", store).identity == tree.identity
    assert of(repository, "HEAD~1", store).identity != tree.identity


def test_bare_repositories_worktrees_and_subdirectories(repository: Path, store: Store, tmp_path: Path) -> None:
    here = of(repository, "v1", store)
    bare = tmp_path / "linux@bare.git"
    run(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    run(repository, "worktree", "add", "-q", str(tmp_path / "second"), "v1")
    assert of(bare, "v1", store).identity == here.identity
    second = of(tmp_path / "second", "v1", store)
    assert (second.identity, second.family) == (here.identity, here.family), "worktrees share private copies"
    assert of(repository / "mm", "v1", store).identity == here.identity
    assert of(repository, "master@{0}" if run(repository, "branch", "--show-current") == "master" else "main@{0}", store)


def test_neighbours_share_a_private_copy(repository: Path, store: Store) -> None:
    directory = store.root / "work/family-0"
    directory.mkdir()
    with interruption.lock(store, slots.lock_name(directory)) as lock:
        slot = Slot(directory, (lock,))
        one, two = of(repository, "v1", store), of(repository, "HEAD", store)
        assert one.family == two.family
        sync.bring(one, slot, {})
        run(repository, "checkout", "-q", "v1")
        assert content(slot.src) == {p: f for p, f in content(repository).items() if not p.startswith(".git/")} | {
            "mm/ksm.c": File("100644", b"one\n")
        }
        before = {p: p.lstat().st_mtime_ns for p in slot.src.rglob("*") if p.is_file()}
        assert sorted(sync.bring(two, slot, {})) == ["mm/ksm.c", "mm/more/x.c", "mm/rmap.c"]
        after = {p: p.lstat().st_mtime_ns for p in slot.src.rglob("*") if p.is_file()}
        assert {str(p.relative_to(slot.src)) for p in after if after[p] != before.get(p)} == {"mm/ksm.c", "mm/more/x.c"}
        assert sync.bring(two, slot, {"mm/ksm.c": File("100644", b"patched\n")}) == ["mm/ksm.c"]
        assert sync.bring(one, slot, {}) == ["mm/more/x.c", "mm/ksm.c", "mm/rmap.c"]
        assert not (slot.src / "mm/more").exists()


def test_another_revision_hashes_what_is_new_only(repository: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    of(repository, "v1", store)
    asked: list[str] = []
    objects = git.objects

    def counted(where: Path, names: list[str]) -> object:
        asked.extend(names)
        return objects(where, names)

    monkeypatch.setattr(git, "objects", counted)
    two = of(repository, "HEAD", store)
    wanted = {run(repository, "rev-parse", f"HEAD:{path}") for path in ("Makefile", "mm/ksm.c")}  # the Makefile for the release
    assert set(asked) == wanted, "x.c has the content of arch/x"
    assert len(two.manifest or {}) == 9


def test_patches_on_a_revision(repository: Path, store: Store, tmp_path: Path) -> None:
    patch = tmp_path / "x.patch"
    patch.write_text("--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -1 +1 @@\n-one\n+three\n")
    source = of(repository, "v1", store)
    with store.scratch() as scratch:
        made = patches.apply(patches.load([patch]), source.files, scratch)
    assert made == {"mm/ksm.c": File("100644", b"three\n")}
    assert str(contained(source, [patch], store).presence) == "no"
    through = tmp_path / "y.patch"
    through.write_text("--- a/mm/link/x\n+++ b/mm/link/x\n@@ -0,0 +1 @@\n+x\n")
    with store.scratch() as scratch, pytest.raises(UsageError, match="mm/link is a symbolic link"):
        patches.apply(patches.load([through]), source.files, scratch)


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("v2", "no revision 'v2'"),
        ("HEAD~9", "no revision"),
        ("deadbeef" * 5, "no revision"),
        ("v1:Makefile", "no revision"),
        ("-h", "'-h' is no revision"),
        ("--all", "'--all' is no revision"),
        ("", "'' is no revision"),
        ("a b", "is no revision"),
        ("v1\n", "is no revision"),
    ],
)
def test_revisions_that_are_none(
    revision: str, words: str, repository: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=words):
        of(repository, revision, store)
    monkeypatch.setenv("KSM_HARNESS_STORE", str(store.root))
    out = tmp_path / "out"
    assert main(["run", "--kernel", f"git:{repository}@{revision}", "--out", str(out)]) == 129
    assert not out.exists()
    assert len(capsys.readouterr().err.splitlines()) <= 2


def test_what_is_no_kernel_or_no_repository(repository: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match="is no git repository"):
        of(tmp_path / "plain", "v1", store)
    run(repository, "rm", "-q", "-r", "arch")
    run(repository, "commit", "-q", "-m", "three")
    with pytest.raises(UsageError, match="is not a kernel source tree"):
        of(repository, "HEAD", store)
    with pytest.raises(UsageError, match="no revision is named"):
        parse_spec(f"git:{repository}")
    with pytest.raises(UsageError, match="there is no directory /nowhere"):
        parse_spec("git:/nowhere@v1")


def test_a_bisection_without_a_checkout(repository: Path, store: Store, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    run(tmp_path, "clone", "-q", "--bare", str(repository), str(bare))
    run(repository, "commit", "-q", "--allow-empty", "-m", "three")
    for root in (repository, bare):
        run(root, "bisect", "start", "--no-checkout", "HEAD", "v1")
        assert of(root, "BISECT_HEAD", store).revision == run(root, "rev-parse", "BISECT_HEAD")


def test_an_object_that_is_lost(repository: Path, store: Store) -> None:
    name = run(repository, "rev-parse", "v1:mm/tool")
    os.unlink(repository / ".git/objects" / name[:2] / name[2:])  # noqa: PTH108
    with pytest.raises(HostError, match=f"no object {name[:12]}"):
        of(repository, "v1", store)


def test_submodules_are_no_part_of_it(repository: Path, store: Store) -> None:
    commit = run(repository, "rev-parse", "HEAD")
    run(repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},other")
    run(repository, "commit", "-q", "-m", "three")
    assert "other" not in (of(repository, "HEAD", store).manifest or {})

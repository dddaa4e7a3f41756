# SPDX-License-Identifier: GPL-2.0-or-later
"""tarball:FILE: in all packings, unpacked once, and nothing outside of the tree whatever the archive wants."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import interruption
from harness.errors import HostError, UsageError
from harness.kernel import slots, sync
from harness.kernel.slots import Slot
from harness.source import Source, parse_spec, resolve
from harness.source.content import File
from harness.store import Store

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = {}\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def plant(root: Path, sublevel: int) -> Path:
    for name, text in {"Makefile": MAKEFILE.format(sublevel), "arch/x": "x\n", "mm/ksm.c": f"ksm {sublevel}\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "mm/tool").write_text("#!/bin/sh\n")
    (root / "mm/tool").chmod(0o755)
    (root / "mm/link").symlink_to("../arch/x")
    return root


def packed(tmp_path: Path, mode: str = "w:xz", top: str = "linux-6.1/", sublevel: int = 7) -> Path:
    root = plant(tmp_path / f"plant-{sublevel}-{mode[2:]}-{bool(top)}", sublevel)
    archive = tmp_path / f"linux-{sublevel}-{bool(top)}.tar.{mode[2:]}"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.add(root, top or ".")
    return archive


def of(archive: Path, store: Store) -> Source:
    return resolve(parse_spec(f"tarball:{archive}"), store)


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("top", ["linux-6.1/", ""])
def test_packings(mode: str, top: str, tmp_path: Path, store: Store) -> None:
    source = of(packed(tmp_path, mode, top), store)
    assert (source.kind, source.release, source.family) == ("tarball", "6.1.7", "tarball-6.1")
    assert source.files.read("mm/ksm.c") == File("100644", b"ksm 7\n")
    assert source.files.read("mm/tool") == File("100755", b"#!/bin/sh\n")
    assert source.files.read("mm/link") == File("120000", b"../arch/x")
    assert source.manifest is not None
    assert set(source.manifest) == {"Makefile", "arch/x", "mm/ksm.c", "mm/tool", "mm/link"}
    assert all((file := source.files.read(p)) is not None and file.value == v for p, v in source.manifest.items())
    assert not list((store.root / "tmp").iterdir())


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")
def test_zstd(tmp_path: Path, store: Store) -> None:
    archive = packed(tmp_path, "w:")
    subprocess.run(["zstd", "-q", "--rm", str(archive)], check=True)
    whole = archive.with_name(archive.name + ".zst")
    assert of(whole, store).release == "6.1.7"
    cut = tmp_path / "cut.tar.zst"
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"cannot unpack|cannot be unpacked"):
        of(cut, store)


def test_zstd_is_named_where_it_is_missing(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "x.tar.zst"
    archive.write_bytes(b"\x28\xb5\x2f\xfd rest")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="zstd is missing"):
        of(archive, store)


def test_unpacked_once_and_the_same_as_a_tree(tmp_path: Path, store: Store) -> None:
    archive = packed(tmp_path)
    first = of(archive, store)
    before = (first.root / "mm/ksm.c").stat()
    moved = archive.rename(tmp_path / "other-name.tar.xz")
    again = of(moved, store)
    assert again.identity == first.identity
    after = (again.root / "mm/ksm.c").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    tree = resolve(parse_spec(f"tree:{plant(tmp_path / 'tree', 7)}"), store)
    assert tree.identity == first.identity


def test_neighbours_share_a_private_copy_and_the_unpacked_trees_stay(tmp_path: Path, store: Store) -> None:
    directory = store.root / "work/family-0"
    directory.mkdir()
    seven, eight = of(packed(tmp_path), store), of(packed(tmp_path, sublevel=8), store)
    assert seven.family == eight.family
    with interruption.lock(store, slots.lock_name(directory)) as lock:
        slot = Slot(directory, (lock,))
        sync.bring(seven, slot, {})
        assert (slot.src / "arch/x").stat().st_ino == (seven.root / "arch/x").stat().st_ino
        old = (slot.src / "arch/x").stat().st_mtime_ns
        assert sync.bring(eight, slot, {}) == ["Makefile", "mm/ksm.c"]
        assert (slot.src / "mm/ksm.c").read_text() == "ksm 8\n"
        assert (slot.src / "arch/x").stat().st_mtime_ns == old
        assert sync.bring(seven, slot, {"mm/ksm.c": None}) == ["mm/ksm.c", "Makefile"]
    assert (seven.root / "mm/ksm.c").read_text() == "ksm 7\n"
    assert (eight.root / "mm/ksm.c").read_text() == "ksm 8\n"


Member = tuple[str, bytes, str]


def file(name: str, text: str = "x\n") -> Member:
    return name, tarfile.REGTYPE, text


def link(name: str, target: str) -> Member:
    return name, tarfile.SYMTYPE, target


def write(archive: Path, *members: Member) -> Path:
    """An archive of a kernel with these members at its end."""
    kernel = [file("k/Makefile", MAKEFILE.format(7)), file("k/arch/x")]
    with tarfile.open(archive, "w:gz") as tar:
        for name, kind, text in [*kernel, *members]:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
            else:
                info.linkname = text
            tar.addfile(info, io.BytesIO(text.encode()) if kind == tarfile.REGTYPE else None)
    return archive


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([file("../escaped")], "outside of the tree"),
        ([file("k/../../escaped")], "outside of the tree"),
        ([file("/tmp/escaped")], "outside of the tree"),
        ([link("k/out", "/etc"), file("k/out/escaped")], "outside of the tree"),
        ([link("k/out", "../.."), file("k/out/escaped")], "outside of the tree"),
        ([link("k/out", "..")], "outside of the tree"),
        ([link("k/a/out", "b/../../..")], "outside of the tree"),
        ([link("k/mm", "arch"), file("k/mm/escaped")], "lies beyond k/mm, which is no directory"),
        ([link("k/mm", "arch"), file("k/mm/a/escaped")], "lies beyond k/mm, which is no directory"),
        ([file("k/mm"), file("k/mm/x")], "lies beyond k/mm"),
        ([file("k/arch")], "would take the place of a directory"),
        ([link("k/arch", "x")], "would take the place of a directory"),
        ([("k/dev", tarfile.CHRTYPE, "")], "is neither"),
        ([("k/fifo", tarfile.FIFOTYPE, "")], "is neither"),
        ([("k/hard", tarfile.LNKTYPE, "/etc/passwd")], "is neither"),
    ],
)
def test_what_wants_out(members: list[Member], words: str, tmp_path: Path, store: Store) -> None:
    archive = write(tmp_path / "x.tar.gz", *members)
    around = set(tmp_path.parent.iterdir())
    with pytest.raises(UsageError, match=words) as e:
        of(archive, store)
    assert len(str(e.value).splitlines()) == 1
    assert not list(store.root.rglob("*escaped*"))
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/escaped").exists()
    assert set(tmp_path.parent.iterdir()) == around
    assert not list((store.root / "src").iterdir())
    assert not list((store.root / "tmp").iterdir())


def test_links_inside_are_links_and_a_later_member_counts(tmp_path: Path, store: Store) -> None:
    members = [link("k/mm/in", "../arch"), link("k/x", "nowhere"), file("k/twice", "a"), file("k/twice", "b"), link("k/l", "x")]
    source = of(write(tmp_path / "x.tar.gz", *members, file("k/l", "file")), store)
    assert source.files.read("mm/in") == File("120000", b"../arch")
    assert source.files.read("twice") == File("100644", b"b")
    assert source.files.read("l") == File("100644", b"file")
    assert source.files.read("x") == File("120000", b"nowhere")


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-3])


@pytest.mark.parametrize(
    "spoil",
    [
        cut,
        lambda archive: archive.write_bytes(b""),
        lambda archive: archive.write_text("no archive\n" * 100),
        lambda archive: archive.write_bytes(archive.read_bytes()[:40] + b"garbage" * 10 + archive.read_bytes()[110:]),
    ],
    ids=["cut", "empty", "text", "garbage"],
)
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_what_is_no_whole_archive(spoil: Callable[[Path], object], mode: str, tmp_path: Path, store: Store) -> None:
    archive = packed(tmp_path, mode)
    spoil(archive)
    with pytest.raises(UsageError, match=r"cannot be unpacked|no kernel source tree") as e:
        of(archive, store)
    assert len(str(e.value).splitlines()) == 1
    assert not list((store.root / "tmp").iterdir())


def test_an_archive_without_a_kernel(tmp_path: Path, store: Store) -> None:
    archive = tmp_path / "x.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        (tmp_path / "file").write_text("x")
        tar.add(tmp_path / "file", "x/file")
    with pytest.raises(UsageError, match="holds no kernel source tree"):
        of(archive, store)
    with pytest.raises(UsageError, match="there is no file"):
        parse_spec("tarball:/nowhere.tar.xz")

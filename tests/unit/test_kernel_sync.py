# SPDX-License-Identifier: GPL-2.0-or-later
"""Private copies: right content whatever came before, new time stamps only where content changed, no write through links."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import interruption
from harness.errors import BuildError
from harness.kernel import slots, sync
from harness.kernel.slots import Slot
from harness.source import Source, Spec, parse_spec, resolve
from harness.source.content import File, read_file
from harness.store import Store


def text(content: str) -> File:
    return File("100644", content.encode())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def slot(store: Store) -> Iterator[Slot]:
    directory = store.root / "work/family-0"
    directory.mkdir()
    with interruption.lock(store, slots.lock_name(directory)) as lock:
        yield Slot(directory, (lock,))


def plant(root: Path) -> None:
    files = {"Makefile": "VERSION = 6\nPATCHLEVEL = 1\n", "mm/ksm.c": "ksm\n", "mm/rmap.c": "rmap\n", "arch/x": "x\n"}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "mm/tool").write_text("#!/bin/sh\n")
    (root / "mm/tool").chmod(0o755)
    (root / "mm/link").symlink_to("ksm.c")


@pytest.fixture
def pristine(store: Store) -> Source:
    root = store.root / "src/debian-6.1-1/linux"
    plant(root)
    return Source(Spec("debian", "6.1"), root, "debian", "debian-6.1-1", "6.1", "debian-6.1-1", pristine=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    plant(tmp_path / "linux")
    return tmp_path / "linux"


def of(tree: Path, store: Store) -> Source:
    return resolve(parse_spec(f"tree:{tree}"), store)


def content(root: Path) -> dict[str, File]:
    paths = (str(p.relative_to(root)) for p in root.rglob("*"))
    return {path: file for path in paths if (file := read_file(root, path))}


def stamps(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.lstat().st_mtime_ns for p in root.rglob("*") if not p.is_dir() or p.is_symlink()}


def check(source: Source, slot: Slot, patched: dict[str, File | None]) -> list[str]:
    """Bring the slot there; verify content, and that exactly what changed has a new stamp."""
    before, old = (content(slot.src), stamps(slot.src)) if (slot.directory / "state.json").exists() else ({}, {})
    time.sleep(0.01)
    began = time.time_ns() - 5_000_000
    written = sync.bring(source, slot, patched)
    wanted = content(source.root) | {path: file for path, file in patched.items() if file}
    for path, file in patched.items():
        if file is None:
            wanted.pop(path, None)
    after, new = content(slot.src), stamps(slot.src)
    assert after == wanted
    if before:
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        assert set(written) == changed
        for path in after:
            assert (new[path] >= began) if path in changed else (new[path] == old[path]), path
    return written


@pytest.mark.parametrize("kind", ["pristine", "tree"])
def test_patches_come_and_go(kind: str, store: Store, slot: Slot, pristine: Source, tree: Path) -> None:
    source = pristine if kind == "pristine" else of(tree, store)
    original = content(source.root)
    check(source, slot, {})
    assert check(source, slot, {}) == []
    assert check(source, slot, {"mm/ksm.c": text("A")}) == ["mm/ksm.c"]
    assert check(source, slot, {"mm/ksm.c": text("B")}) == ["mm/ksm.c"]
    assert check(source, slot, {"mm/ksm.c": text("B"), "mm/new/deep.c": text("n")}) == ["mm/new/deep.c"]
    assert check(source, slot, {"mm/rmap.c": None, "mm/ksm.c": text("B")}) == ["mm/new/deep.c", "mm/rmap.c"]
    assert not (slot.src / "mm/new").exists()
    assert check(source, slot, {"mm/tool": File("100644", b"#!/bin/sh\n")}) == ["mm/ksm.c", "mm/rmap.c", "mm/tool"]
    assert check(source, slot, {"mm/link": File("120000", b"rmap.c"), "mm/tool": None}) == ["mm/tool", "mm/link"]
    assert check(source, slot, {"mm/link": text("now a file")}) == ["mm/link", "mm/tool"]
    check(source, slot, {})
    assert content(source.root) == original


def test_pristine_is_shared_by_links_and_never_written(store: Store, slot: Slot, pristine: Source) -> None:
    check(pristine, slot, {})
    assert (slot.src / "mm/rmap.c").stat().st_ino == (pristine.root / "mm/rmap.c").stat().st_ino
    before = stamps(pristine.root)
    check(pristine, slot, {"mm/ksm.c": text("A")})
    check(pristine, slot, {})
    assert stamps(pristine.root) == before
    assert (slot.src / "mm/ksm.c").stat().st_ino != (pristine.root / "mm/ksm.c").stat().st_ino


def test_a_tree_is_copied_not_linked(store: Store, slot: Slot, tree: Path) -> None:
    check(of(tree, store), slot, {})
    with (tree / "mm/ksm.c").open("a") as f:
        f.write("edited in place")
    assert (slot.src / "mm/ksm.c").read_text() == "ksm\n"


def test_edits_of_the_tree(store: Store, slot: Slot, tree: Path) -> None:
    check(of(tree, store), slot, {})
    (tree / "mm/ksm.c").write_text("edited\n")
    (tree / "mm/rmap.c").touch()
    assert check(of(tree, store), slot, {}) == ["mm/ksm.c"]
    (tree / "mm/rmap.c").unlink()
    (tree / "mm/more").mkdir()
    (tree / "mm/more/x.c").write_text("x")
    assert check(of(tree, store), slot, {"mm/ksm.c": text("patched")}) == ["mm/rmap.c", "mm/ksm.c", "mm/more/x.c"]
    (tree / "mm/more/x.c").unlink()
    (tree / "mm/more").rmdir()
    (tree / "mm/more").write_text("a file where a directory was")
    check(of(tree, store), slot, {})


def test_an_edit_while_it_is_copied_is_noticed(store: Store, slot: Slot, tree: Path) -> None:
    source = of(tree, store)
    check(source, slot, {})
    (tree / "mm/ksm.c").write_text("first\n")
    source = of(tree, store)
    (tree / "mm/ksm.c").write_text("second\n")
    with pytest.raises(BuildError, match=r"mm/ksm\.c changed while it was being copied"):
        sync.bring(source, slot, {})
    check(of(tree, store), slot, {})


def test_an_edit_during_the_first_copy_is_noticed(store: Store, slot: Slot, tree: Path) -> None:
    source = of(tree, store)
    (tree / "mm/ksm.c").write_text("second\n")
    with pytest.raises(BuildError, match="changed while"):
        sync.bring(source, slot, {})
    check(of(tree, store), slot, {})


class Killed(BaseException):
    pass


@pytest.mark.parametrize("seed", range(8))
def test_killed_anywhere_the_next_run_is_right(
    seed: int, store: Store, slot: Slot, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write may be the last: the content afterwards is right, and what changed since make last ran is newer than that."""
    chance = random.Random(seed)
    files = ["mm/ksm.c", "mm/rmap.c", "arch/x", "mm/new.c"]
    sync.bring(of(tree, store), slot, {})
    built = content(slot.src)

    def dying(original: object) -> object:
        def call(*arguments: object) -> object:
            if chance.random() < 0.25:
                raise Killed
            result = original(*arguments)  # type: ignore[operator]
            if chance.random() < 0.1:
                raise Killed
            return result

        return call

    for _ in range(10):
        for name in chance.sample(files, 2):
            if chance.random() < 0.3:
                (tree / name).unlink(missing_ok=True)
            else:
                (tree / name).write_text(chance.choice("abc"))
        patched = {name: text(chance.choice("abc")) if chance.random() < 0.8 else None for name in chance.sample(files, 2)}
        source = of(tree, store)
        time.sleep(0.01)
        since = time.time_ns() - 5_000_000
        with monkeypatch.context() as m:
            for name in ("write_file", "remove_file", "write_atomically"):
                m.setattr(sync, name, dying(getattr(sync, name)))
            for _ in range(3):
                try:
                    sync.bring(source, slot, patched)
                except Killed:
                    continue
        check_source = of(tree, store)
        sync.bring(check_source, slot, patched)
        wanted = content(tree) | {path: file for path, file in patched.items() if file}
        assert content(slot.src) == {path: file for path, file in wanted.items() if patched.get(path, file) is not None}
        for path, file in content(slot.src).items():
            if built.get(path) != file:
                assert (slot.src / path).lstat().st_mtime_ns >= since, path
        built = content(slot.src)


def test_half_filled_slot_is_filled_again(store: Store, slot: Slot, pristine: Source) -> None:
    (slot.src / "mm").mkdir(parents=True)
    (slot.src / "mm/ksm.c").write_text("half")
    (slot.directory / "o-x").mkdir()
    (slot.directory / "o-x/stale.o").write_text("x")
    check(pristine, slot, {})
    assert not (slot.directory / "o-x").exists()


def filler(content: str, calls: list[str] | None = None) -> Callable[[Slot], None]:
    def fill(slot: Slot) -> None:
        if calls is not None:
            calls.append(slot.directory.name)
        (slot.directory / "state.json").write_text(json.dumps({"content": content}))

    return fill


def test_same_content_is_shared_other_content_has_its_own_slot(store: Store) -> None:
    calls: list[str] = []
    with (
        slots.acquire(store, "f", "o-a", "X", filler("X", calls)) as first,
        slots.acquire(store, "f", "o-b", "X", filler("X", calls)) as second,
        slots.acquire(store, "f", "o-c", "Y", filler("Y", calls)) as third,
        slots.acquire(store, "f", "o-d", "Y", filler("Y", calls)) as fourth,
        slots.acquire(store, "g", "o-a", "X", filler("X", calls)) as stranger,
    ):
        names = [slot.directory.name for slot in (first, second, third, fourth, stranger)]
        assert names == ["f-0", "f-0", "f-1", "f-1", "g-0"]
        assert calls == ["f-0", "f-1", "g-0"]
        assert (second.directory / "o-b").is_dir()
    with slots.acquire(store, "f", "o-c", "X", filler("X")) as again:
        assert again.directory.name == "f-1", "where its objects are"
    with slots.acquire(store, "f", "o-e", "Z", filler("Z")) as anywhere:
        assert anywhere.directory.name == "f-0"


def test_objects_are_worth_waiting_for_but_not_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "GRACE", 0.5)
    with slots.acquire(store, "f", "o-a", "X", filler("X")):
        began = time.monotonic()
        with slots.acquire(store, "f", "o-a", "Y", filler("Y")) as other:
            assert other.directory.name == "f-1"
        assert time.monotonic() - began >= 0.5


def test_one_that_is_being_filled_is_waited_for(store: Store) -> None:
    (store.root / "work/f-0").mkdir()
    names: list[str] = []

    def second() -> None:
        with slots.acquire(store, "f", "o-b", "X", filler("X")) as slot:
            names.append(slot.directory.name)

    with interruption.lock(store, "work-f-0"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
    thread.join(10)
    assert names == ["f-0"]


def test_a_process_that_inherits_the_locks_holds_the_slot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "GRACE", 0.2)
    with slots.acquire(store, "f", "o-a", "X", filler("X")) as first:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=first.locks)
    with slots.acquire(store, "f", "o-a", "Y", filler("Y")) as second:
        assert second.directory != first.directory
    with store.try_lock("f-0-o-a") as free:
        assert free is None
    child.communicate()
    with slots.acquire(store, "f", "o-a", "Z", filler("Z")) as third:
        assert third.directory == first.directory

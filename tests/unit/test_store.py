# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: locks, finished work, and the removal of what is old and not in use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import store as stores
from harness.cli import main
from harness.errors import UsageError
from harness.store import USED, Entry, Store, write_atomically

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fill(store: Store, name: str, mib: int, used: float) -> Path:
    place = store.root / name
    place.mkdir(parents=True)
    (place / "data").write_bytes(b"x" * (mib * MIB))
    (place / USED).touch()
    os.utime(place / USED, (used, used))
    return place


def kinds(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.kind, entry.key) for entry in entries]


def elsewhere(store: Store, code: str) -> subprocess.Popen[str]:
    """A process that runs ``code`` on the same store, says so, and waits for its stdin to end."""
    program = f"""
import sys
from pathlib import Path
from harness import interruption
from harness.store import Store
store = Store(Path({str(store.root)!r}))
{code}
print("ready", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_making_is_all_or_nothing(store: Store) -> None:
    place = store.root / "kernels/k"
    with pytest.raises(RuntimeError), store.making(place) as fresh:
        (fresh / "x").touch()
        raise RuntimeError
    assert not place.exists()
    with store.making(place) as fresh:
        (fresh / "x").touch()
        assert not place.exists()
    assert (place / "x").exists()
    assert not list((store.root / "tmp").iterdir())


def test_try_lock(store: Store) -> None:
    with store.try_lock("a") as first, store.try_lock("a") as second, store.try_lock("b") as other:
        assert first is not None
        assert second is None
        assert other is not None
    with store.try_lock("a") as again:
        assert again is not None


def test_a_killed_process_holds_no_lock(store: Store) -> None:
    process = elsewhere(store, "lock = interruption.lock(store, 'a'); lock.__enter__()")
    with store.try_lock("a") as free:
        assert free is None
    process.kill()
    process.wait()
    with store.try_lock("a") as free:
        assert free is not None


def test_collect_removes_what_the_dead_left(store: Store) -> None:
    process = elsewhere(store, "making = store.making(store.root / 'images/i'); (making.__enter__() / 'x').touch()")
    store.collect()
    assert len(list((store.root / "tmp").iterdir())) == 1
    process.kill()
    process.wait()
    store.collect()
    assert not list((store.root / "tmp").iterdir())


def test_write_atomically_leaves_no_trace_of_a_failure(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x", "one")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "x", 1)  # type: ignore[arg-type]
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x", "one")]


def test_a_store_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="with KSM_HARNESS_STORE"):
        Store(tmp_path / "file/store")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("10G", 10 << 30),
        ("500m", 500 << 20),
        ("1.5T", 3 << 39),
        ("2 GiB", 2 << 30),
        ("4KB", 4096),
        (" 1K ", 1024),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert stores.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "ten", "1e3", "1GG", "1,5G", "nan", "0x10", "9" * 400, "1." + "0" * 400])
def test_not_a_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        stores.parse_size(text)


def test_entries(store: Store) -> None:
    fill(store, "kernels/k1", 2, 1000)
    fill(store, "images/i1", 1, 3000)
    fill(store, "work/tree-1-0", 1, 1500)
    fill(store, "work/tree-1-0/o-x86_64-12", 4, 2000)
    write_atomically(store.root / "kernels/k1/kernel.json", '{"label": "x86_64 6.1"}')
    found = stores.entries(store)
    assert kinds(found) == [("image", "i1"), ("objects", "tree-1-0/o-x86_64-12"), ("work", "tree-1-0"), ("kernel", "k1")]
    assert [round(entry.size / MIB) for entry in found] == [1, 4, 1, 2]
    assert [entry.used for entry in found] == [3000, 2000, 2000, 1000]
    assert [entry.label for entry in found] == ["", "", "", "x86_64 6.1"]
    assert not any(entry.busy for entry in found)


def test_hard_links_count_once(store: Store) -> None:
    source = fill(store, "src/debian-6.1-1", 4, 1000)
    slot = fill(store, "work/debian-6.1-1-0", 1, 2000)
    (slot / "src").mkdir()
    (slot / "src/data").hardlink_to(source / "data")
    sizes = {entry.kind: round(entry.size / MIB) for entry in stores.entries(store)}
    assert sizes == {"source": 4, "work": 1}
    # The source alone frees nothing, so the copy has to go as well to get below 3 MiB.
    assert kinds(stores.gc(store, 3 * MIB).removed) == [("source", "debian-6.1-1"), ("work", "debian-6.1-1-0")]


def test_gc_removes_the_least_recently_used_first_and_no_more(store: Store) -> None:
    for number in range(5):
        fill(store, f"kernels/k{number}", 1, 5000 - number)
    store.touch(store.root / "kernels/k4")
    removed = stores.gc(store, int(2.5 * MIB)).removed
    assert kinds(removed) == [("kernel", "k3"), ("kernel", "k2"), ("kernel", "k1")]
    assert sorted(path.name for path in (store.root / "kernels").iterdir()) == ["k0", "k4"]
    assert stores.gc(store, 10 * MIB).removed == []


def test_gc_takes_objects_before_their_copy(store: Store) -> None:
    fill(store, "work/f-0", 1, 1000)
    fill(store, "work/f-0/o-a", 4, 1000)
    fill(store, "work/f-0/o-b", 4, 2000)
    assert kinds(stores.gc(store, 6 * MIB).removed) == [("objects", "f-0/o-a")]
    assert kinds(stores.gc(store, 0).removed) == [("objects", "f-0/o-b"), ("work", "f-0")]


def test_gc_spares_what_another_process_uses(store: Store) -> None:
    for name in ("kernels/k", "images/i", "src/debian-6.1-1", "work/f-0"):
        fill(store, name, 1, 1000)
    process = elsewhere(
        store,
        "store.pin(store.root / 'kernels/k'); store.pin(store.root / 'src/debian-6.1-1')\n"
        "lock = interruption.lock(store, 'work-f-0'); lock.__enter__()",
    )
    assert {entry.kind for entry in stores.entries(store) if entry.busy} == {"kernel", "source", "work"}
    assert kinds(stores.gc(store, 0).removed) == [("image", "i")]
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    assert len(stores.gc(store, 0).removed) == 3


def test_room_is_made_from_what_was_not_used_for_longest(store: Store) -> None:
    fill(store, "kernels/old", 1, 1000)
    fill(store, "work/f-0/o-a", 1, 2000)
    fill(store, "ccache", 1, 500)
    new = fill(store, "kernels/new", 1, 3000)
    assert stores.make_room(store, 0) == []
    store.pin(new)
    everything = shutil.disk_usage(store.root).total + 1
    assert stores.make_room(store, everything) == [
        store.root / "kernels/old",
        store.root / "work/f-0/o-a",
        store.root / "work/f-0",
    ]
    assert new.is_dir()
    assert (store.root / "ccache").is_dir()


def test_no_more_room_is_made_than_is_wanted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([0, 3 * MIB, 7 * MIB])
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, next(free)))
    for number in range(5):
        fill(store, f"images/i{number}", 1, 1000 + number)
    monkeypatch.setenv("KSM_HARNESS_KEEP_FREE", "5M")
    assert [path.name for path in stores.make_room(store)] == ["i0", "i1"]
    monkeypatch.setenv("KSM_HARNESS_KEEP_FREE", "plenty")
    with pytest.raises(UsageError, match="'plenty' is not a size"):
        stores.make_room(store)


def test_pins_are_shared(store: Store) -> None:
    place = fill(store, "kernels/k", 1, 1000)
    process = elsewhere(store, "store.pin(store.root / 'kernels/k')")
    store.pin(place)
    store.pin(place)
    process.kill()
    process.wait()
    assert stores.gc(store, 0).removed == []


def test_what_the_command_tells(store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSM_HARNESS_STORE", str(store.root))
    for number in range(3):
        fill(store, f"kernels/k{number}", 2, 1000 + number)
    fill(store, "images/i", 1, 3000)
    write_atomically(store.root / "kernels" / "k0" / "kernel.json", json.dumps({"label": "x86_64 " + "patch " * 100}))
    assert main(["store", "list"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in told if line.startswith(("kernel", "image"))] == [
        ["image", "i", "1", "MiB"], ["kernel", "k2", "2", "MiB"], ["kernel", "k1", "2", "MiB"], ["kernel", "k0", "2", "MiB"],
    ]  # fmt: skip
    assert len(told) == 2 + 4 + 1  # nothing wraps
    assert not any(str(store.root) in line for line in told[:-1])
    assert told[-1].startswith(f"3 kernels, 1 image: 7 MiB in {store.root}; ")
    assert told[-1].endswith(" of the disk are free")
    assert main(["store", "list", "--json"]) == 0
    assert [Path(row["path"]).name for row in json.loads(capsys.readouterr().out)] == ["i", "k2", "k1", "k0"]
    assert main(["store", "gc", "--max-size", "4M"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"removed 2 kernels, 4 MiB; 3 MiB stay in {store.root}, ")
    assert main(["store", "gc", "--max-size", "4M"]) == 0
    assert capsys.readouterr().out.startswith("removed nothing; 3 MiB stay")
    assert main(["store", "gc", "--max-size", "0", "--json"]) == 0
    assert [row["key"] for row in json.loads(capsys.readouterr().out)] == ["k2", "i"]

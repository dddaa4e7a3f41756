# SPDX-License-Identifier: GPL-2.0-or-later
"""Bringing a slot's source to "this source with these patches", with as few new time stamps as possible.

make rebuilds what is newer than its object.  So a file is written only when its content differs, and then always with the
present as its time; a file that goes back to what it was is written again for the same reason.  What a killed run left is
brought right by the same rules: a slot's state names, before the first file is written, all files that may differ from
the base it was filled from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness import interruption
from harness.errors import BuildError, HostError
from harness.kernel.content import remove_file, write_file
from harness.kernel.slots import Slot
from harness.source import Source
from harness.source import manifest as manifests
from harness.source.command import run
from harness.source.content import File, read_file
from harness.store import write_atomically

log = logging.getLogger("harness.kernel")

_FORMAT = 1


@dataclass(frozen=True)
class _State:
    """``base`` is the identity of the source that the slot was filled from, ``touched`` the paths that may differ from it.

    ``content`` is the name of what is there (see ``content_name``), "" while it is being changed.
    """

    base: str
    touched: frozenset[str]
    content: str = ""


def content_name(source: Source, patched: Mapping[str, File | None]) -> str:
    """A name for a source with patched files in place: the same for the same content."""
    changes = sorted((path, file.value if file else "") for path, file in patched.items())
    return hashlib.sha256(json.dumps([source.identity, changes]).encode()).hexdigest()


def _read_state(slot: Slot) -> _State | None:
    try:
        data = json.loads((slot.directory / "state.json").read_text(encoding="utf-8", errors="surrogateescape"))
        if data["format"] == _FORMAT and slot.src.is_dir():
            return _State(data["base"], frozenset(data["touched"]), data.get("content", ""))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _write_state(slot: Slot, state: _State) -> None:
    data = {"format": _FORMAT, "base": state.base, "touched": sorted(state.touched), "content": state.content}
    write_atomically(slot.directory / "state.json", json.dumps(data))


def _manifest_file(slot: Slot) -> Path:
    return slot.directory / "manifest"


def _original(source: Source, path: str) -> File | None:
    """A file of the source as it was when its identity was taken.  BuildError when it has changed since."""
    if source.manifest is None:
        return source.files.read(path)
    if path not in source.manifest:
        return None
    try:
        return _unchanged(source, path, source.files.read(path))
    except OSError as e:
        raise BuildError(f"cannot read {source.root / path}: {e.strerror}") from e


def _originals(source: Source, paths: Iterable[str]) -> Iterator[tuple[str, File]]:
    """Many of them, in any order."""
    try:
        for path, file in source.files.read_all(paths):
            yield path, _unchanged(source, path, file)
    except OSError as e:
        raise BuildError(f"cannot read {e.filename or source.root}: {e.strerror}") from e


def _unchanged(source: Source, path: str, file: File | None) -> File:
    """The file, if it is what the manifest says."""
    if file is None or source.manifest is None or file.value != source.manifest[path]:
        raise BuildError(f"{source.root / path} changed while it was being copied; save your edits and run again")
    return file


def _copy_all(source: Source, slot: Slot) -> None:
    """Fill an empty ``src`` with what the manifest lists."""
    assert source.manifest is not None
    for directory in sorted({os.path.dirname(path) for path in source.manifest}):  # noqa: PTH120
        (slot.src / directory).mkdir(parents=True, exist_ok=True)

    def copy(paths: list[str]) -> None:
        for path, file in _originals(source, paths):
            full = f"{slot.src}/{path}"
            if file.mode == "120000":
                os.symlink(os.fsdecode(file.content), full)  # noqa: PTH211
                continue
            fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755 if file.mode == "100755" else 0o644)
            with open(fd, "wb", buffering=0) as f:  # noqa: PTH123
                f.write(file.content)

    paths = list(source.manifest)
    chunk = 8192 if source.tree else 512  # git is started for each
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(copy, [paths[i : i + chunk] for i in range(0, len(paths), chunk)]):
            interruption.check()


def _fill(source: Source, slot: Slot) -> None:
    """A fresh ``src``: hard links to a pristine tree, copies of the files of any other."""
    slot.wipe()
    if source.pristine:
        done = run(["cp", "--archive", "--link", "--", str(source.root), str(slot.src)], log=log)
        if done.status:
            raise HostError(f"cannot copy {source.root}: {done.last_error}")
        if source.manifest is not None:
            write_atomically(_manifest_file(slot), manifests.dumps(source.manifest))
    else:
        log.info("copying %d files of %s to %s", len(source.manifest or ()), source.root, slot.src)
        slot.src.mkdir()
        try:
            _copy_all(source, slot)
        except OSError as e:
            raise HostError(f"cannot copy {source.root} to {slot.src}: {e.strerror}") from e
        write_atomically(_manifest_file(slot), manifests.dumps(source.manifest or {}))
    _write_state(slot, _State(source.identity, frozenset()))


def _moved(source: Source, slot: Slot, state: _State) -> set[str] | None:
    """The paths in which the source differs from the slot's base; None when that cannot be told."""
    if state.base == source.identity:
        return set()
    if source.manifest is None:
        return None
    try:
        return manifests.difference(manifests.loads(_manifest_file(slot).read_bytes()), source.manifest)
    except (OSError, ValueError):
        return None


def _put(slot: Slot, path: str, wanted: File | None) -> bool:
    """Make the slot's file what is wanted; whether it had to be written."""
    present = read_file(slot.src, path)
    if present == wanted:
        return False
    if wanted is None:
        remove_file(slot.src, path)
    else:
        write_file(slot.src, path, wanted, slot.scratch)
    return True


def _is_wanted(source: Source, path: str, patched: Mapping[str, File | None]) -> bool:
    if path in patched:
        return patched[path] is not None
    return path in source.manifest if source.manifest is not None else os.path.lexists(source.root / path)


def _bring(source: Source, slot: Slot, patched: Mapping[str, File | None], paths: Iterable[str]) -> list[str]:
    gone: list[str] = []
    kept: list[str] = []
    for path in sorted(paths):
        (kept if _is_wanted(source, path, patched) else gone).append(path)
    # Removals first: a directory may take the place of a file.
    written = [path for path in gone if _put(slot, path, None)]
    return written + [path for path in kept if _put(slot, path, patched[path] if path in patched else _original(source, path))]


def bring(source: Source, slot: Slot, patched: Mapping[str, File | None]) -> list[str]:
    """Make ``slot.src`` the source with ``patched`` files in place (None: removed); gives the paths that were written."""
    state = _read_state(slot)
    wanted = content_name(source, patched)
    if state and state.content == wanted:
        return []
    moved = _moved(source, slot, state) if state else None
    if state is None or moved is None:
        _fill(source, slot)
        state, moved = _State(source.identity, frozenset()), set()
    suspect = state.touched | moved | patched.keys()
    _write_state(slot, _State(state.base, suspect))
    try:
        written = _bring(source, slot, patched, suspect)
    except OSError as e:
        raise HostError(f"cannot write to the private copy {slot.src}: {e.strerror}") from e
    if state.base != source.identity:
        write_atomically(_manifest_file(slot), manifests.dumps(source.manifest or {}))
    _write_state(slot, _State(source.identity, frozenset(patched), wanted))
    if written:
        log.info("%s: %d files written: %s", slot.src, len(written), " ".join(written[:10]))
    return written

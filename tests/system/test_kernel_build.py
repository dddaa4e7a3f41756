# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels built by the kernel room itself: what is rebuilt, and what is not."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from harness.errors import BuildError
from harness.kernel import Kernel, build
from harness.source import Source, parse_spec, resolve
from harness.store import Store
from harness.targets import table

pytestmark = pytest.mark.system

X86 = table()["x86_64"]


@pytest.fixture(scope="module")
def store() -> Store:
    return Store()


@pytest.fixture(scope="module")
def source(store: Store) -> Source:
    return resolve(parse_spec("debian:6.1"), store)


@pytest.fixture(scope="module")
def plain(source: Source, store: Store) -> Kernel:
    return build(source, X86, store)


def an_edit(tmp_path: Path) -> Path:
    """A patch of mm/ksm.c that nobody has built yet."""
    patch = tmp_path / "edit.patch"
    patch.write_text(
        "--- a/mm/ksm.c\n+++ b/mm/ksm.c\n@@ -1,2 +1,3 @@\n // SPDX-License-Identifier: GPL-2.0-only\n"
        f"+extern int edit_{uuid.uuid4().hex};\n /*\n"
    )
    return patch


def test_the_kernel_is_what_it_says(plain: Kernel, source: Source) -> None:
    assert plain.release == source.release
    assert plain.image.is_file()
    assert plain.vmlinux is not None
    assert b".debug_info\0" in plain.vmlinux.read_bytes()[-8192:]
    assert plain.config is not None
    assert "CONFIG_KSM=y\n" in plain.config.read_text()
    assert plain.warnings == ()


def test_the_same_work_is_never_done_twice(plain: Kernel, source: Source, store: Store) -> None:
    again = build(source, X86, store)
    assert again.cached
    assert again.key == plain.key


def test_an_edit_compiles_one_file(plain: Kernel, source: Source, store: Store, tmp_path: Path) -> None:
    before = {p: (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in (source.root / "mm").iterdir()}
    build(source, X86, store, patches=[an_edit(tmp_path)])  # whatever the copy held before
    edited = build(source, X86, store, patches=[an_edit(tmp_path)])
    assert not edited.cached
    compiled = [line.split()[1] for line in edited.log.read_text().splitlines() if line.startswith("  CC ")]
    assert "mm/ksm.o" in compiled
    assert set(compiled) <= {"mm/ksm.o", "init/version.o", "init/version-timestamp.o"}
    assert {p: (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in (source.root / "mm").iterdir()} == before
    assert build(source, X86, store).cached


def test_an_option_that_kconfig_drops_is_an_error(source: Source, store: Store, tmp_path: Path) -> None:
    fragment = tmp_path / "mine.config"
    fragment.write_text("CONFIG_INET=y\n")  # without NET
    with pytest.raises(BuildError, match=r"CONFIG_INET=y \(mine:1\) did not stick: it became n"):
        build(source, X86, store, fragments=[fragment])

# SPDX-License-Identifier: GPL-2.0-or-later
"""``ksm-harness contains`` on real kernels: as Debian ships them, and with parts taken out or renamed.  Nothing is built."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.source import apt, debian, mechanism, parse_spec, resolve
from harness.store import Store

from .conftest import MUTANTS, Ended, execute

pytestmark = pytest.mark.system

OURS = (
    "rmap_walk_ksm", "break_cow", "remove_node_from_stable_tree", "remove_rmap_item_from_tree", "try_to_merge_with_ksm_page",
    "collect_procs_ksm", "get_anon_vma", "put_anon_vma", "search_new_forks", "rmap_item", "ksm_rmap_item", "stable_node",
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What decides, copied from Debian's source; a kernel tree as far as ``contains`` looks."""
    source = resolve(parse_spec("debian:6.1"), Store()).root
    for path in ("Makefile", "arch/Kconfig", mechanism.KSM, *mechanism.AROUND):
        (tmp_path / "linux" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, tmp_path / "linux" / path)
    return tmp_path / "linux"


def edit(tree: Path, pattern: str, new: str) -> None:
    """Replace a regular expression in all files of the tree that this is about."""
    count = 0
    for path in (mechanism.KSM, *mechanism.AROUND):
        text, made = re.subn(pattern, new, (tree / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
        (tree / path).write_text(text, encoding="utf-8")
        count += made
    assert count


def contains(spec: str, tmp_path: Path, *words: str | Path) -> Ended:
    return execute(tmp_path / "out", "contains", spec, *words)


def test_as_debian_ships_it(tmp_path: Path) -> None:
    ended = contains("debian:6.1", tmp_path)
    assert ended.code == 0, ended.told()
    assert "yes, evolved" in ended.stdout
    assert re.search(r"walk over owners and forks: mm/ksm\.c:\d+ rmap_walk_ksm\(\)", ended.stdout)


def test_every_kernel_that_debian_has(tmp_path: Path) -> None:
    """Of each linux-source package only the files that decide are unpacked."""
    store = Store()
    with pytest.raises(UsageError, match="apt knows no package"):  # fetches all lists
        debian.locate(parse_spec("debian:0.1"), store)
    series = debian.offered(store)
    assert {"5.10", "6.1", "6.12"} <= set(series)
    for name in series:
        tree, scratch = tmp_path / name, tmp_path / f"{name}.package"
        tree.mkdir()
        scratch.mkdir()
        version = debian.version_of(parse_spec(f"debian:{name}"), store)
        package = apt.fetch(f"linux-source-{name}", version, store, scratch)
        wanted = [f"linux-source-{name}/{path}" for path in ("Makefile", "arch/Kconfig", mechanism.KSM, *mechanism.AROUND)]
        script = (
            f"dpkg-deb --fsys-tarfile {package} | tar -xO --wildcards './usr/src/linux-source-*.tar.*' | xz -dc |"
            f" tar -x -C {tree} --strip-components=1 {' '.join(wanted)}"
        )
        subprocess.run(["bash", "-o", "pipefail", "-c", script], check=True)
        ended = contains(f"tree:{tree}", tmp_path)
        assert ended.code == 0, (name, ended.told())
        assert "yes, evolved" in ended.stdout
        package.unlink()


@pytest.mark.parametrize(
    ("mutant", "missing"),
    [("01-no-second-pass", "rmap_walk_ksm() has no second pass"), ("12-leak-put-remove-item", "keeps its reference")],
)
def test_with_a_part_patched_out(mutant: str, missing: str, tmp_path: Path) -> None:
    ended = contains("debian:6.1", tmp_path, "--patch", MUTANTS / f"{mutant}.patch")
    assert ended.code == 1, ended.told()
    assert "partly" in ended.stdout
    assert missing in ended.stdout


def test_without_the_second_pass(tree: Path, tmp_path: Path) -> None:
    edit(tree, r"\tif \(!search_new_forks\+\+\)\n\t\tgoto again;\n", "")
    ended = contains(f"tree:{tree}", tmp_path)
    assert ended.code == 1, ended.told()
    assert "partly" in ended.stdout
    assert "forks are not found" in ended.stdout


def test_without_the_whole_mechanism(tree: Path, tmp_path: Path) -> None:
    edit(tree, r"^\t\tstruct anon_vma \*anon_vma;\t/\* when stable \*/\n", "")
    edit(tree, r"^.*\brmap_item->anon_vma\b.*\n", "")
    ended = contains(f"tree:{tree}", tmp_path)
    assert ended.code == 1, ended.told()
    assert ": no\n" in ended.stdout


def test_with_other_names(tree: Path, tmp_path: Path) -> None:
    for name in OURS:
        if any(re.search(rf"\b{name}\b", (tree / path).read_text()) for path in (mechanism.KSM, *mechanism.AROUND)):
            edit(tree, rf"\b{name}\b", "".join(reversed(name)))
    ended = contains(f"tree:{tree}", tmp_path)
    assert ended.code == 0, ended.told()
    assert "yes, evolved" in ended.stdout
    assert "msk_klaw_pamr()" in ended.stdout

# SPDX-License-Identifier: GPL-2.0-or-later
"""The second witness on real kernels: it agrees with what the guest says of itself, and a held guest can be looked at."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import looks
from harness.journal.reader import Reader, Record

from .conftest import MUTANTS, TARGETS, Ended, Harness, command, execute

pytestmark = pytest.mark.system

WORKLOADS = ("new_fork", "ref_leak", "chains")
LEAK = MUTANTS / "12-leak-put-remove-item.patch"
KSM = 3  # PAGE_MAPPING_KSM


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    out = tmp_path_factory.mktemp("watched") / "out"
    return execute(out, "run", "--target", "all", "--witness", "--workload", ",".join(WORKLOADS), "--out", out)


def records(cell: Path) -> dict[tuple[int, int], Record]:
    """By the number of the workload's segment and their own."""
    segment, found = -1, {}
    for record in Reader().feed((cell / "journal.jsonl").read_bytes()):
        if not record.get("boot"):
            segment += record["kind"] == "begin"
            found[segment, record["seq"]] = record
    return found


def test_good_on_all_targets(watched: Ended) -> None:
    assert watched.code == 0, watched.told()
    for target in TARGETS:
        assert watched.verdicts(target) == dict.fromkeys(WORKLOADS, "PASS"), watched.told()


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_read_is_what_the_guest_says(target: str, watched: Ended) -> None:
    cell = watched.out / "cells" / target
    told, seen = records(cell), looks.read_all(cell / looks.name(1))
    waited = [place for place, record in told.items() if record["kind"] in ("obs", "ret")]
    assert [(look.segment, look.seq) for look in seen] == waited, "a look after each"
    pages = 0
    for look in seen:
        graph, record = look.graph, told[look.segment, look.seq]
        assert graph.faults == ()
        for node in graph.nodes.values():
            page = graph.pages[node.kpfn]
            if page.mapping & KSM == KSM and page.mapping - KSM == node.address:
                pages += 1
                assert page.mapcount <= page.refcount
        if record["kind"] != "obs":
            continue
        for name in ("pages_shared", "pages_sharing", "pages_unshared"):
            assert graph.counters[f"ksm_{name}"] == int(record["ksm"][name])
        with_items = [node for node in graph.nodes.values() if node.items]
        assert len(with_items) == int(record["ksm"]["pages_shared"])
        assert sum(len(node.items) - 1 for node in with_items) == int(record["ksm"]["pages_sharing"])
        pids = {mm.pid for mm in graph.mms.values()}
        assert {proc["pid"] for proc in record["procs"].values()} <= pids
        mapped = {pfn: page.mapcount for pfn, page in graph.pages.items()}
        for proc in record["procs"].values():
            for run in (run for area in proc["areas"].values() for run in area if run[1] == "P"):
                for i in range(run[0]):
                    assert mapped.get(run[2] + i * run[3], run[5]) == run[5], "the page's mapcount is /proc/kpagecount's"
    assert pages > 100
    assert any(look.graph.chains for look in seen)


def test_judged_again_from_the_files(watched: Ended) -> None:
    before = [(c.cell, c.workloads) for c in watched.run.cells]
    again = execute(watched.out, "judge", watched.out)
    assert (again.code, [(c.cell, c.workloads) for c in again.run.cells]) == (0, before), again.told()


def test_a_reference_too_many_is_seen_where_it_is_left(harness: Harness) -> None:
    ended = harness("--witness", "--patch", LEAK, "--workload", "ref_leak", "--fail-fast")
    assert ended.code == 1, ended.told()
    finding = ended.workload("ref_leak").findings[0]
    assert finding.signature == "P6:reference-leak:scan"
    seen = looks.read_all(ended.out / "cells" / "x86_64" / looks.name(1))
    assert seen[-1].seq == finding.seq, "no look was made after it"
    again = execute(ended.out, "judge", ended.out)
    assert (again.code, again.workload("ref_leak").findings[0]) == (1, finding), again.told()


def test_a_kernel_without_debug_information_is_refused_in_words(tmp_path: Path, watched: Ended) -> None:
    stripped = tmp_path / "vmlinux"
    subprocess.run(["objcopy", "-g", watched.facts()["vmlinux"], str(stripped)], check=True)
    out = tmp_path / "out"
    ended = execute(out, "run", "--kernel", f"image:{stripped}", "--witness", "--workload", "new_fork", "--out", out)
    assert ended.code == 125, ended.told()
    assert "has no debug information" in ended.workload("new_fork").reason


# Held guests.


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str], Path]]:
    """A run that has come to its first finding, and what it said of how to get at the guest."""
    out, said = tmp_path / "out", dict[str, str]()
    words = ("--patch", LEAK, "--workload", "ref_leak", "--witness", "--hold")
    run = subprocess.Popen(
        command("run", "--out", out, *words), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    for line in run.stderr:
        _, _, rest = line.partition("x86_64: ")
        word, _, text = rest.partition(": ")
        said[word] = text.strip()
        if rest.startswith("Enter"):
            break
    try:
        yield run, said, out
    finally:
        run.kill()
        run.communicate()


ASK = """
import json
from drgn.helpers.linux.rbtree import rbtree_inorder_for_each_entry
root = prog["root_stable_tree"][0]
nodes = list(rbtree_inorder_for_each_entry("struct ksm_stable_node", root, "node"))
print(json.dumps({"nodes": len(nodes), "shared": int(prog["ksm_pages_shared"]), "kpfn": sorted(int(n.kpfn) for n in nodes)}))
"""


def test_a_held_guest_is_open_to_debuggers(held: tuple[subprocess.Popen[str], dict[str, str], Path], tmp_path: Path) -> None:
    run, said, out = held
    assert said["held"].startswith("P6:reference-leak:scan in ref_leak")
    ask = tmp_path / "ask.py"
    ask.write_text(ASK, encoding="ascii")
    twice = [
        json.loads(subprocess.run([*shlex.split(said["drgn"]), str(ask)], capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    ]
    assert twice[0] == twice[1], "it is paused"
    last = looks.read_all(out / "cells" / "x86_64" / looks.name(1))[-1].graph
    assert twice[0]["shared"] == last.counters["ksm_pages_shared"]
    assert twice[0]["kpfn"] == sorted(node.kpfn for node in last.nodes.values())
    if shutil.which("gdb"):
        asked = f"{said['gdb']} -batch -ex 'print ksm_pages_shared'"
        told = subprocess.run(asked, shell=True, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
        assert f"= {last.counters['ksm_pages_shared']}\n" in told
    run.communicate("\n", timeout=120)
    assert run.returncode == 1
    assert not list((out / "cells" / "x86_64").glob("attach*"))


def test_a_held_run_can_be_interrupted(held: tuple[subprocess.Popen[str], dict[str, str], Path]) -> None:
    run, said, _ = held
    assert "drgn" in said
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130

# SPDX-License-Identifier: GPL-2.0-or-later
"""From debug information to a layout, on small programs linked where a kernel is, with the names of three series."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import CannotJudge, HostError
from harness.targets import table
from harness.witness import KernelWitness, check, debuginfo, elf

pytest.importorskip("drgn")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None or platform.machine() != "x86_64", reason="needs gcc for x86_64")

BANNER = 'const char linux_banner[] = "Linux version 5.10.1 (a@b) #1\\n";\n'
COMMON = """
typedef struct { int counter; } atomic_t;
struct list_head { struct list_head *next, *prev; };
struct hlist_node { struct hlist_node *next, **pprev; };
struct hlist_head { struct hlist_node *first; };
struct rb_node { unsigned long __rb_parent_color; struct rb_node *rb_right, *rb_left; };
struct rb_root { struct rb_node *rb_node; };
struct rb_root_cached { struct rb_root rb_root; struct rb_node *rb_leftmost; };
struct ITEM { struct ITEM *rmap_list; union { void *anon_vma; int nid; }; void *mm; unsigned long address;
  unsigned int oldchecksum; union { struct rb_node node; struct { void *head; struct hlist_node hlist; }; }; };
struct NODE { union { struct rb_node node; struct { struct list_head *head;
    struct { struct hlist_node hlist_dup; struct list_head list; }; }; };
  struct hlist_head hlist; union { unsigned long kpfn; unsigned long chain_prune_time; }; int rmap_hlist_len; };
struct anon_vma { struct anon_vma *root; char rwsem[40]; atomic_t refcount; ANON_VMA struct anon_vma *parent; TREE rb_root; };
struct anon_vma_chain { void *vma; void *anon_vma; struct list_head same_vma; struct rb_node rb; };
struct vm_area_struct { unsigned long vm_start, vm_end; void *vm_mm; VMA struct list_head anon_vma_chain; void *anon_vma, *vm_ops;
  unsigned long vm_pgoff; };
struct mm_struct { struct { MM atomic_t mm_users, mm_count; }; };
struct task_struct { unsigned int flags; struct list_head tasks; void *mm; int pid, tgid; char comm[16]; };
struct ksm_scan { void *mm_slot; unsigned long address; void *rmap_list; unsigned long seqnr; };
struct SLOT mm_head_type;
static struct SLOT ksm_mm_head; static struct list_head migrate_nodes; static struct ksm_scan ksm_scan;
static struct rb_root one[1], *root_stable_tree = one, *root_unstable_tree = one;
static unsigned long ksm_pages_shared; static int ksm_max_page_sharing = 256;
struct ITEM item; struct NODE node; struct anon_vma av; struct anon_vma_chain avc; struct vm_area_struct vma; struct mm_struct mm;
struct task_struct init_task;
void *use[] = { &ksm_mm_head, &migrate_nodes, &ksm_scan, &root_stable_tree, &root_unstable_tree, &ksm_pages_shared,
  &ksm_max_page_sharing };
"""
SERIES = {
    "5.10": ("struct mm_slot { struct hlist_node link; struct list_head mm_list; void *rmap_list; void *mm; };",
             {"ITEM": "rmap_item", "NODE": "stable_node", "SLOT": "mm_slot", "ANON_VMA": "unsigned degree;",
              "TREE": "struct rb_root_cached", "VMA": "void *vm_next, *vm_prev; unsigned long vm_flags;", "MM": "void *mmap;"}),
    "6.1": ("struct mm_slot { struct hlist_node hash; struct list_head mm_node; void *mm; };"
            "struct ksm_mm_slot { struct mm_slot slot; void *rmap_list; };"
            "struct maple_tree { int ma_lock; void *ma_root; unsigned ma_flags; };"
            "struct maple_range_64 { void *parent; unsigned long pivot[15]; void *slot[16]; } r;"
            "struct maple_arange_64 { void *parent; unsigned long pivot[9]; void *slot[10]; unsigned long gap[10]; } a;",
            {"ITEM": "ksm_rmap_item", "NODE": "ksm_stable_node", "SLOT": "ksm_mm_slot",
             "ANON_VMA": "unsigned long num_children, num_active_vmas;", "TREE": "struct rb_root_cached",
             "VMA": "unsigned long vm_flags;", "MM": "struct maple_tree mm_mt;"}),
}  # fmt: skip
SERIES["6.12"] = (
    SERIES["6.1"][0],
    SERIES["6.1"][1] | {"VMA": "union { const unsigned long vm_flags; unsigned long __vm_flags; };"},
)


def build(directory: Path, source: str, *options: str, compiler: str = "gcc") -> Path:
    """Link it where x86_64's kernel is."""
    path = directory / "ksm.c"
    path.write_text(source, encoding="ascii")
    vmlinux = directory / "vmlinux"
    subprocess.run(
        [compiler, "-g", *options, "-nostdlib", "-static", "-mcmodel=kernel", "-fno-pic", "-no-pie",
         "-Wl,-Ttext-segment=0xffffffff81000000", "-Wl,-e,0", "-Wl,--build-id=none", "-o", str(vmlinux), str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    return vmlinux


@needs_gcc
@pytest.mark.parametrize("series", SERIES)
def test_by_type_not_by_version(series: str, tmp_path: Path) -> None:
    vmlinux = build(tmp_path, program(series))
    found = elf.examine(vmlinux)
    layout = debuginfo.load(found)
    offsets = {name: {m: f.offset for m, f in fields.items()} for name, fields in layout.structures.items()}
    assert offsets["item"] == {
        "rmap_list": 0, "anon_vma": 8, "mm": 16, "address": 24, "head": 40, "next": 48, "pprev": 56,
        "parent": 40, "right": 48, "left": 56,
    }  # fmt: skip
    assert (layout.sizes["item"], layout.sizes["node"]) == (64, 64)
    assert layout.structures["node"]["length"].signed
    assert offsets["slot"] == ({"next": 16, "prev": 24, "rmap_list": 32, "mm": 40} if series == "5.10" else
                               {"next": 16, "prev": 24, "mm": 32, "rmap_list": 40})  # fmt: skip
    assert layout.has("mm", "maple") is (series != "5.10")
    assert layout.has("anon_vma", "active") is (series != "5.10")
    assert layout.structures["anon_vma"]["children"].size == (4 if series == "5.10" else 8)
    assert layout.has("vma", "older") is (series == "5.10")
    symbols = subprocess.run(["nm", str(vmlinux)], capture_output=True, text=True, check=True).stdout
    addresses = {line.split()[2]: int(line.split()[0], 16) for line in symbols.splitlines()}
    for name in ("ksm_mm_head", "migrate_nodes", "init_task", "linux_banner"):
        assert layout.symbols[name] == addresses[name]
    assert layout.variables["ksm_max_page_sharing"][0] == addresses["ksm_max_page_sharing"]
    address, field = layout.variables["seqnr"]
    assert (address, field.offset) == (addresses["ksm_scan"], 24)
    assert "ksm_zero_pages" not in layout.variables


def program(series: str, **others: str) -> str:
    """A series' source; ``others``: what some of its names are called instead."""
    head, names = SERIES[series]
    declarations, rest = COMMON.split("struct ITEM {", 1)
    for name, value in names.items():
        rest = rest.replace(name, value)
        declarations = declarations.replace(name, value)
    text = BANNER + declarations + head + "struct " + names["ITEM"] + " {" + rest
    for name, value in others.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return text


@needs_gcc
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("ksm_mm_head", "no variable ksm_mm_head"),
        ("root_stable_tree", "no variable root_stable_tree"),
        ("migrate_nodes", "no variable migrate_nodes"),
        ("seqnr", "ksm_scan' has no member 'seqnr'"),
        ("ksm_scan", r"no variable ksm_scan\.mm_slot"),
        ("rmap_hlist_len", "no member rmap_hlist_len of a stable node"),
        ("hlist_dup", "no member hlist_dup of a stable node"),
        ("kpfn", "ksm_stable_node has no kpfn"),
    ],
)
def test_what_is_called_otherwise_is_lacking(name: str, missing: str, tmp_path: Path) -> None:
    """What a kernel may do without is optional only where nothing else shows that it is there."""
    vmlinux = build(tmp_path, program("6.1", **{name: "other"}))
    with pytest.raises(CannotJudge, match=missing):
        debuginfo.load(elf.examine(vmlinux))


@needs_gcc
@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang")
def test_a_structure_that_clang_has_taken_apart(tmp_path: Path) -> None:
    """Its members are variables of their own then, and what it is can be told from memory only."""
    text = program("6.1").replace("&ksm_scan, ", "").replace("ksm_scan ksm_scan;", "ksm_scan ksm_scan = { &ksm_mm_head };")
    text += """
void set(void *p, unsigned long at) { ksm_scan.mm_slot = p; ksm_scan.rmap_list = p; ksm_scan.address = at; }
void *slot(void) { ksm_scan.seqnr++; return ksm_scan.mm_slot; }
void *list(void) { return ksm_scan.rmap_list; }
unsigned long at(void) { return ksm_scan.seqnr + ksm_scan.address; }
"""
    vmlinux = build(tmp_path, text, "-O2", compiler="clang")
    with pytest.raises(CannotJudge, match=r"no variable ksm_scan\.mm_slot"):
        debuginfo.load(elf.examine(vmlinux))


@needs_gcc
def test_trees_by_node_are_not_taken_for_one(tmp_path: Path) -> None:
    text = program("6.1").replace("int rmap_hlist_len;", "int rmap_hlist_len; int nid;")
    with pytest.raises(CannotJudge, match="no variable ksm_nr_node_ids"):
        debuginfo.load(elf.examine(build(tmp_path, text)))
    (tmp_path / "there").mkdir()
    there = text.replace("void *use[] = {", "static int ksm_nr_node_ids = 1;\nvoid *use[] = { &ksm_nr_node_ids,")
    assert "ksm_nr_node_ids" in debuginfo.load(elf.examine(build(tmp_path / "there", there))).variables


@needs_gcc
def test_a_vmlinux_without_debug_information(tmp_path: Path) -> None:
    vmlinux = build(tmp_path, BANNER + "int x; void *use = &x;", "-g0")
    with pytest.raises(CannotJudge, match="no debug information"):
        debuginfo.load(elf.examine(vmlinux))


@needs_gcc
def test_debug_information_of_something_else(tmp_path: Path) -> None:
    vmlinux = build(tmp_path, BANNER + "int x; void *use = &x;")
    with pytest.raises(CannotJudge, match=r"no debug information on what is looked at: .*ksm_rmap_item"):
        debuginfo.load(elf.examine(vmlinux))


def test_a_kernel_that_came_without_a_vmlinux(tmp_path: Path) -> None:
    with pytest.raises(CannotJudge, match="needs a vmlinux with debug information"):
        KernelWitness(None, table()["x86_64"], tmp_path)


def test_no_drgn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "drgn", None)
    with pytest.raises(HostError, match=r"pip install 'ksm-harness\[witness\]'"):
        check()

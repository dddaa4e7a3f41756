# SPDX-License-Identifier: GPL-2.0-or-later
"""How a kernel behaves, told by its source: the forms that the code has had, and what tells nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.source.behaviour import examine

SEARCH_FIRST = """
static void cmp_and_merge_page(struct page *page, struct rmap_item *rmap_item)
{
	/* calc_checksum() comes later */
	kpage = stable_tree_search(page);
	checksum = calc_checksum(page);
}
"""
CHECKSUM_FIRST = """
static void cmp_and_merge_page(struct page *page, struct rmap_item *rmap_item)
{
	if (!stable_node) {
		checksum = calc_checksum(page);
		if (rmap_item->oldchecksum != checksum)
			return;
	}
	kpage = stable_tree_search(page);
}
"""
GIVES_UP = """
static struct page *stable_tree_search(struct page *page)
{
again:
	while (*new) {
		tree_page = get_ksm_page(stable_node, false);
		if (!tree_page)
			return NULL;
		if (stale)
			goto again;
	}
	return NULL;
}
"""
GOES_ON = """
static struct page *stable_tree_search(struct page *page)
{
again:
	while (*new) {
		if (!stable_node_dup) {
			stable_node_any = stable_node_dup_any(stable_node, root);
			if (!stable_node_any) {
				/* rb_erase just run */
				goto again;
			}
		}
		if (!stable_node_dup)
			return NULL;
	}
	return NULL;
}
"""
CHAIN = """
static struct page *stable_node_dup(struct stable_node **dup, bool prune_stale_stable_nodes)
{
	if (found) {
		if (%s) {
			BUG_ON(stable_node->hlist.first->next);
			rb_replace_node(&stable_node->node, &found->node, root);
		} else if (stable_node->hlist.first != &found->hlist_dup) {
			hlist_del(&found->hlist_dup);
		}
	}
}
"""
CLOCK, ALONE = "prune_stale_stable_nodes && nr == 1", "hlist_is_singular_node(&found->hlist_dup, &stable_node->hlist)"


def told(files: Mapping[str, str]) -> dict[str, bool]:
    return {t.field: t.value for t in examine(files.get)}


@pytest.mark.parametrize(("text", "first"), [(SEARCH_FIRST, False), (CHECKSUM_FIRST, True)])
def test_whether_the_checksum_or_the_stable_tree_comes_first(text: str, first: bool) -> None:
    assert told({"mm/ksm.c": text})["cksum_first"] is first


@pytest.mark.parametrize(("text", "ends"), [(GIVES_UP, True), (GOES_ON, False)])
def test_whether_a_node_without_a_page_ends_a_search(text: str, ends: bool) -> None:
    assert told({"mm/ksm.c": text})["stale_node_ends_search"] is ends


@pytest.mark.parametrize(("condition", "leaves"), [(CLOCK, False), ("prune_stale_stable_nodes && nr == 0", False), (ALONE, True)])
def test_when_a_chain_of_one_is_none_any_more(condition: str, leaves: bool) -> None:
    """Not whether the condition is right: that is judged by what the kernel does."""
    assert told({"mm/ksm.c": CHAIN % condition})["single_dup_leaves_chain"] is leaves


@pytest.mark.parametrize("forgets", [True, False])
def test_what_lies_over_the_checksum(forgets: bool) -> None:
    text = "static void remove_rmap_item_from_tree(struct ksm_rmap_item *item)\n{\n\tput_anon_vma(item->anon_vma);\n%s}\n"
    assert told({"mm/ksm.c": text % ("\titem->linear_page_index = 0;\n" * forgets)})["merge_forgets_checksum"] is forgets


@pytest.mark.parametrize(("call", "xxh64"), [("xxhash(addr, PAGE_SIZE, 0)", True), ("jhash2(addr, PAGE_SIZE / 4, 17)", False)])
def test_which_checksum_there_is(call: str, xxh64: bool) -> None:
    text = "static u32 calc_checksum(struct page *page)\n{\n\treturn %s;\n}\n"
    assert told({"mm/ksm.c": text % call})["xxh64_checksum"] is xxh64


def test_a_kernel_without_chains_has_none_that_could_be_left() -> None:
    expected = {"cksum_first", "single_dup_leaves_chain", "unmerging_empties_tree", "merge_forgets_checksum", "frees_after_grace"}
    assert told({"mm/ksm.c": SEARCH_FIRST}) == dict.fromkeys(expected, False)


WRITES = """
static int do_wp_page(struct mm_struct *mm, pte_t orig_pte)
	__releases(ptl)
{
	/* reuse_ksm_page() */
	%s
}
"""
COPIES = """
static inline int ksm_might_need_to_copy(struct page *page)
{
	return %s;
}

#else

static inline int ksm_might_need_to_copy(struct page *page)
{
	return 0;
}
"""
MOVES = """
static int __unmap_and_move(struct page *page, bool offlining)
{
	if (%s)
		goto unlock;
}
"""
CLONES = """
int anon_vma_clone(struct vm_area_struct *dst, struct vm_area_struct *src)
{
	if (!dst->anon_vma %s)
		dst->anon_vma = anon_vma;
}
"""
UNMAPS = """
static bool try_to_unmap_one(struct page *page, struct vm_area_struct *vma, unsigned long address, void *arg)
{
	%s
	return ret;
}
"""

ADVISES = """
static int madvise_hwpoison(int bhv, unsigned long start, unsigned long end)
{
	int ret = 0;
	for (; start < end; start += PAGE_SIZE) {
		%s
	}
	return ret;
}
"""


@pytest.mark.parametrize(
    ("path", "form", "code", "expected"),
    [
        ("mm/memory.c", WRITES, "reuse = reuse_swap_page(old_page);", {"wp_counts_users": True, "wp_reuses_ksm": False}),
        ("mm/memory.c", WRITES, "reused = reuse_ksm_page(page);", {"wp_counts_users": False, "wp_reuses_ksm": True}),
        ("mm/memory.c", WRITES, "goto copy;", {"wp_counts_users": False, "wp_reuses_ksm": False}),
        ("include/linux/ksm.h", COPIES, "anon_vma->root != vma->anon_vma->root", {"swap_cache_by_root": True}),
        ("include/linux/ksm.h", COPIES, "anon_vma != vma->anon_vma", {"swap_cache_by_root": False}),
        ("mm/migrate.c", MOVES, "PageKsm(page) && !offlining", {"migrates_ksm": False}),
        ("mm/migrate.c", MOVES, "PageAnon(page) && !PageKsm(page)", {"migrates_ksm": True}),
        ("mm/madvise.c", ADVISES, "int ret = get_user_pages_fast();", {"madvise_tells_offline": False}),
        ("mm/madvise.c", ADVISES, "ret = get_user_pages_fast();", {"madvise_tells_offline": True}),
        ("mm/madvise.c", ADVISES, "/* Ignore for now */ memory_failure(pfn);", {"madvise_tells_poison": False}),
        ("mm/madvise.c", ADVISES, "ret = memory_failure(pfn, 0);", {"madvise_tells_poison": True}),
        ("mm/rmap.c", CLONES, "&& anon_vma->degree < 2", {"reuses_anon_vmas": True}),
        ("mm/rmap.c", CLONES, "", {"reuses_anon_vmas": False}),
        ("mm/rmap.c", UNMAPS, "if (!(flags & TTU_IGNORE_ACCESS)) ret = false;", {"unmap_stops_at_young": True}),
        ("mm/rmap.c", UNMAPS, "/* TTU_IGNORE_ACCESS is always so */", {"unmap_stops_at_young": False}),
    ],
)
def test_what_is_done_with_pages_and_anon_vmas(path: str, form: str, code: str, expected: Mapping[str, bool]) -> None:
    found = told({path: form % code})
    assert {field: found[field] for field in expected} == expected


TWO = """
static struct page *try_to_merge_two_pages(struct rmap_item *rmap_item, struct page *page,
	struct rmap_item *tree_rmap_item, struct page *tree_page)
{
	err = try_to_merge_with_ksm_page(%s, NULL);
	if (!err)
		err = try_to_merge_with_ksm_page(%s);
	return page;
}

static void cmp_and_merge_page(struct page *page, struct rmap_item *rmap_item)
{
	kpage = try_to_merge_two_pages(%s);
}
"""
MINE, ITS = "rmap_item, page", "tree_rmap_item, tree_page"


@pytest.mark.parametrize(
    ("first", "given", "expected"),
    [
        (MINE, f"{MINE}, {ITS}", True),
        (ITS, f"{MINE}, {ITS}", False),
        (MINE, f"{ITS}, {MINE}", False),
        (ITS, f"{ITS}, {MINE}", True),
        ("rmap_item, tree_page", f"{MINE}, {ITS}", None),
        (MINE, f"rmap_item, tree_page, {ITS}", None),
        (MINE, "&two", None),
        ("rmap_item, kpage", f"{MINE}, {ITS}", None),
    ],
)
def test_which_of_two_equal_pages_stays(first: str, given: str, expected: bool | None) -> None:
    other = f"{ITS if first == MINE else MINE}, {first.split()[-1]}"
    assert told({"mm/ksm.c": TWO % (first, other, given)}).get("met_last_stays") is expected


def test_two_merges_that_have_nothing_to_do_with_one_another_tell_nothing_of_which_stays() -> None:
    assert "met_last_stays" not in told({"mm/ksm.c": TWO % (MINE, f"{ITS}, kpage", f"{MINE}, {ITS}")})


@pytest.mark.parametrize("line", ["mm->ksm_merging_pages = 0;", "atomic_long_add(nr_ksm_zero_pages, &ksm_zero_pages);"])
def test_a_fork_that_resets_or_counts_anything_is_held_to_the_whole(line: str) -> None:
    fork = "static inline void ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm)\n{\n\t%s\n\t__ksm_enter(mm);\n}\n"
    assert told({"include/linux/ksm.h": fork % line})["merging_inherited_at_fork"] is False
    assert "merging_inherited_at_fork" not in told({"include/linux/ksm.h": fork % "/* ksm_zero_pages */"})


@pytest.mark.parametrize(
    ("field", "path", "text"),
    [
        ("has_merge_any", "kernel/sys.c", "\tcase PR_SET_MEMORY_MERGE:\n"),
        ("swap_ptes_keep_exclusive", "mm/rmap.c", "\t\tswp_pte = pte_swp_mkexclusive(swp_pte);\n"),
        ("mlock_marks_ksm", "mm/mlock.c", "static int mlock_pte_range(pmd_t *pmd)\n{\n}\n"),
        ("split_maps_zeros", "mm/migrate.c", "static bool try_to_map_unused_to_zeropage(struct folio *folio)\n{\n}\n"),
        ("cow_frees_swap_cache", "mm/memory.c", "\t\t\tfree_swap_cache(old_page);\n"),
        ("unmerging_empties_tree", "mm/ksm.c", "static int remove_all_stable_nodes(void)\n{\n}\n"),
        ("hwpoison_takes_ksm", "mm/memory-failure.c", "\t\tcollect_procs_ksm(folio, page, tokill, force_early);\n"),
    ],
)
def test_what_is_there_or_not(field: str, path: str, text: str) -> None:
    (there,) = (t for t in examine({path: "/* one\n line */\n" + text}.get) if t.field == field)
    assert there.value and there.place.startswith(f"{path}:3 ")
    assert told({path: "/* of old */\n"})[field] is False
    assert told({path: f"/* see {text}*/ // {text}"})[field] is False
    assert told({path + ".orig": text}) == {}


@pytest.mark.parametrize(
    "text", ["int broken(void)\n{\n", "`", SEARCH_FIRST.replace("calc_checksum", "hash_of"), CHAIN % "chain_is_short(found)"]
)
def test_code_of_another_form_tells_nothing(text: str) -> None:
    assert {"cksum_first", "stale_node_ends_search"}.isdisjoint(told({"mm/ksm.c": text}))
    assert told({"mm/ksm.c": text}).get("single_dup_leaves_chain", False) is False


RENAMED = """
static int ksm_drop_all_nodes(void)
{
}
static ssize_t max_page_sharing_store(void)
{
	if (ksm_pages_shared || ksm_drop_all_nodes())
		err = -EBUSY;
}
static struct page *pick_node_dup(struct stable_node **dup, bool prune_stale_stable_nodes)
{
	if (found) {
		if (only_dup(found, stable_node)) {
			rb_replace_node(&stable_node->node, &found->node, root);
		}
	}
}
static bool only_dup(struct stable_node *dup, struct stable_node *chain)
{
	return hlist_is_singular_node(&dup->hlist_dup, &chain->hlist);
}
static void detach(struct ksm_rmap_item *item)
{
	item->linear_page_index = 0;
}
"""


def test_other_names_and_functions_that_were_split() -> None:
    found = told({"mm/ksm.c": RENAMED})
    assert {field for field, value in found.items() if value} == {
        "unmerging_empties_tree", "single_dup_leaves_chain", "merge_forgets_checksum",
    }  # fmt: skip
    assert told({"mm/ksm.c": "int ksm_max_page_sharing;\n"}).get("single_dup_leaves_chain") is None, "which way is not seen"


def test_what_ksm_does_may_be_in_a_file_or_a_header_of_its_own() -> None:
    tree = "/* ksm */\nstatic int remove_all_stable_nodes(void)\n{\n}\n"
    split = {"mm/ksm.c": '#include "ksm_tree.h"\n', "mm/Makefile": "obj-$(CONFIG_KSM) += ksm.o \\\n\tksm_tree.o\n"}
    for path in ("mm/ksm_tree.c", "mm/ksm_tree.h"):
        (there,) = (t for t in examine({**split, path: tree}.get) if t.field == "unmerging_empties_tree")
        assert (there.value, there.place) == (True, f"{path}:2 remove_all_stable_nodes")
    assert told({**split, "mm/ksm_more.c": tree})["unmerging_empties_tree"] is False, "which nothing makes part of KSM"


HASH = "static %s hash_of(struct page *page)\n{\n\treturn %s;\n}\n"


@pytest.mark.parametrize(
    ("kind", "call", "plain"),
    [
        ("u32", "xxhash(addr, PAGE_SIZE, 0)", True),
        ("unsigned int", "xxh64(addr, PAGE_SIZE, 0)", True),
        ("u64", "xxh64(addr, PAGE_SIZE, 0)", True),
        ("u32", "xxhash(addr, PAGE_SIZE, seed)", False),
    ],
)
def test_xxh64_as_the_workloads_know_it(kind: str, call: str, plain: bool) -> None:
    """Pages that have the checksum of zeros have it without a seed, in 64 bits as in 32."""
    assert told({"mm/ksm.c": HASH % (kind, call)})["xxh64_checksum"] is plain


def test_the_checksum_counts_where_it_is_compared() -> None:
    """Not where it is made: early, as the page is in the cache, or in a function that says whether the page changes."""
    early = SEARCH_FIRST.replace("\tkpage", "\tchecksum = calc_checksum(page);\n\tkpage").replace(
        "page);\n}", "page);\n\tif (rmap_item->oldchecksum != checksum)\n\t\treturn;\n}"
    )
    assert told({"mm/ksm.c": early})["cksum_first"] is False
    looked_at = early.replace("\tkpage", "\ttrace_ksm_page(page, rmap_item->oldchecksum);\n\tkpage")
    assert told({"mm/ksm.c": looked_at})["cksum_first"] is False
    helper = "static bool changes(void)\n{\n\treturn rmap_item->oldchecksum != calc_checksum(page);\n}\n"
    first = SEARCH_FIRST.replace("\tkpage", "\tif (changes())\n\t\treturn;\n\tkpage").replace(
        "\tchecksum = calc_checksum(page);\n", ""
    )
    assert told({"mm/ksm.c": helper + first})["cksum_first"] is True


def test_a_search_that_begins_again_by_a_call() -> None:
    again = GIVES_UP.replace("\t\t\treturn NULL;", "\t\t\treturn stable_tree_search(page);")
    assert told({"mm/ksm.c": again})["stale_node_ends_search"] is False


WP = "static vm_fault_t wp_page_copy(struct vm_fault *vmf)\n{\n\t%s(old_page);\n}\n"
TLB = "bool __tlb_remove_page(struct mmu_gather *tlb, struct page *page)\n{\n\tfree_page_and_swap_cache(page);\n}\n"
POISONED = """
static bool hwpoison_user_mappings(struct page *p)
{
	if (%s) {
		%s
	}
}
"""


@pytest.mark.parametrize(
    ("files", "field", "value"),
    [
        ({"mm/memory.c": WP % "free_page_and_swap_cache"}, "cow_frees_swap_cache", True),
        ({"mm/memory.c": WP % "put_page" + TLB}, "cow_frees_swap_cache", False),
        ({"mm/memory.c": "", "mm/swap.h": WP % "free_swap_cache"}, "cow_frees_swap_cache", True),
        ({"mm/rmap.c": "", "include/linux/swapops.h": "pte = pte_swp_mkexclusive(pte);"}, "swap_ptes_keep_exclusive", True),
        ({"mm/mlock.c": "walk_page_range(vma->vm_mm, start, end, &ops, NULL);"}, "mlock_marks_ksm", True),
        ({"mm/migrate.c": "if (pages_identical(page, ZERO_PAGE(0)))"}, "split_maps_zeros", True),
        ({"mm/memory-failure.c": POISONED % ("PageKsm(p)", "return false;")}, "hwpoison_takes_ksm", False),
        ({"mm/memory-failure.c": POISONED % ("folio_test_ksm(f)", "ksm_procs(f);")}, "hwpoison_takes_ksm", True),
        ({"mm/rmap.c": "int idle(void)\n{\n\treturn a->num_active_vmas;\n}\n" + CLONES % "&& idle()"}, "reuses_anon_vmas", True),
        ({"mm/ksm.c": "int rel(void)\n{\n\treturn a->root == b->root;\n}\n" + COPIES % "rel()"}, "swap_cache_by_root", True),
        ({"mm/madvise.c": ADVISES % "err = memory_failure(pfn);"}, "madvise_tells_poison", True),
        ({"mm/madvise.c": "int f(void)\n{\n\treturn memory_failure(pfn);\n}\n" + ADVISES % "f();"}, "madvise_tells_poison", True),
        ({"mm/madvise.c": ADVISES % "__memory_failure(pfn, 0, 1);"}, "madvise_tells_poison", False),
    ],
)  # fmt: skip
def test_forms_that_a_series_may_give_it(files: Mapping[str, str], field: str, value: bool) -> None:
    assert told(files)[field] is value


def test_a_fork_that_only_looks_at_the_numbers_resets_nothing() -> None:
    look = "trace_fork(mm->ksm_rmap_items, atomic_long_read(&mm->ksm_zero_pages));"
    fork = f"static inline void ksm_fork(struct mm_struct *mm)\n{{\n\t{look}\n}}\n"
    assert "merging_inherited_at_fork" not in told({"include/linux/ksm.h": fork})


@pytest.mark.parametrize(
    ("call", "late"), [("call_rcu(&item->rcu, free)", True), ("kfree_rcu(item, rcu)", True), ("kfree(item)", False)]
)
def test_items_that_are_freed_after_a_grace_period(call: str, late: bool) -> None:
    assert (
        told({"mm/ksm.c": f"static void free_rmap_item(struct rmap_item *item)\n{{\n\t{call};\n}}\n"})["frees_after_grace"]
        is late
    )

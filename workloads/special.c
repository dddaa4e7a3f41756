// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define SIZE (128ul << 10)

/*
 * With use_zero_pages a page of zeros is given up for the kernel's page of
 * zeros.  ksmd finds it by its checksum, but must compare: there are others
 * with the same one.  Also when a page changes from one to the other.
 */
static void merge_zeros(void)
{
	const size_t n = pages(SIZE);
	struct actor *p[2], *child;

	ksm_set("use_zero_pages", "1");
	for (int i = 0; i < 2; i++) {
		p[i] = spawn(i ? "P2" : "P1");
		map_area(p[i], "a", 4 * SIZE);
		fill(p[i], "a", 0, n, 0, 0);
		fill(p[i], "a", n, n, LIKE_ZEROS, 1);
		fill(p[i], "a", 2 * n, n, 1, 1);
		fill(p[i], "a", 3 * n, n, 0, 0);
		map_area(p[i], "pinned", page_size());
		fill(p[i], "pinned", 0, 1, 0, 0);
		pin(p[i], "pinned", 0, 1);
		mergeable(p[i], "a", 0, ALL_PAGES);
		mergeable(p[i], "pinned", 0, 1);
	}
	scan(1);
	write_pages(p[0], "a", 3 * n, n, LIKE_ZEROS, 0);
	observe("met once");
	scan(1);
	observe("zeros are zeros, the rest is merged");
	look_at_vmas(p[0], "a");
	child = fork_actor(p[0], "C");
	scan(1);
	observe("forked and met again");
	write_pages(child, "a", 0, n / 2, 1, 1);
	write_pages(p[1], "a", 0, n / 2, 7000, 1);
	observe("zeros written to");
	unmergeable(p[0], "a", 0, n);
	observe("unmerged");
	keep(p[0], "a", 0, ALL_PAGES);
	keep(p[1], "a", 0, ALL_PAGES);
	keep(child, "a", 0, ALL_PAGES);
	verify(p[0], "a", 0, ALL_PAGES);
	verify(p[1], "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	unmap_pages(child, "a", 0, n);
	observe("unmapped");
	ksm_run(2);
	observe("all unmerged");
	ksm_run(1);
	exit_actor(child);
	exit_actor(p[0]);
	exit_actor(p[1]);
	ksm_set("use_zero_pages", "0");
	scan(2);
	observe("all gone");
}

/* ksmd's pages of zeros are a fork's as well, and give way to a huge page. */
static void collapse_zeros(void)
{
	struct actor *p, *child;

	if (!ksm_has("ksm_zero_pages") || !huge_size() || !room_for(2 * huge_size()))
		return;
	ksm_set("use_zero_pages", "1");
	p = spawn("P");
	map_area(p, "a", huge_size());
	fill(p, "a", 0, 8, 0, 0);
	mergeable(p, "a", 0, ALL_PAGES);
	scan(2);
	child = fork_actor(p, "C");
	observe("zeros, and nothing else, and a fork's");
	exit_actor(child);
	fill(p, "a", 8, 1, 1, 0);	/* one must be writable */
	if (!collapse(p, "a"))
		note("no huge page in place of them");
	observe("in a huge page");
	exit_actor(p);
	ksm_set("use_zero_pages", "0");
	scan(1);
	observe("all gone");
}

/* KSM pages, too, give way to a huge page, and stay where others map them. */
static void collapse_merged(void)
{
	const size_t n = 8;
	struct actor *p1, *p2, *child;

	if (!huge_size() || !room_for(2 * huge_size()))
		return;
	p1 = spawn("P1");
	map_area(p1, "a", huge_size());
	fill(p1, "a", 0, n, 1, 1);
	p2 = spawn_filled("P2", n * page_size(), 1);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	scan(2);
	child = fork_actor(p2, "C");
	fill(p1, "a", n, 1, 1000, 0);	/* one must be writable */
	if (!collapse(p1, "a"))
		note("no huge page in place of them");
	observe("in a huge page");
	verify(p1, "a", 0, n + 1);
	verify(child, "a", 0, ALL_PAGES);
	exit_actor(p1);
	reclaim();
	observe("the others' pages are swapped out");
	exit_actor(child);
	exit_actor(p2);
	scan(2);
	observe("all gone");
}

/* Without use_zero_pages a page of zeros is merged as any other. */
static void merge_zeros_as_others(void)
{
	struct actor *p[2];

	for (int i = 0; i < 2; i++) {
		p[i] = spawn(i ? "P2" : "P1");
		map_area(p[i], "a", SIZE);
		fill(p[i], "a", 0, ALL_PAGES, 0, 0);
		mergeable(p[i], "a", 0, ALL_PAGES);
	}
	scan(2);
	observe("zeros are merged");
	reclaim();
	observe("zeros are swapped out");
	verify(p[0], "a", 0, ALL_PAGES);
	exit_actor(p[0]);
	exit_actor(p[1]);
	scan(2);
}

/* A huge page is split when one of its parts is merged, in vain if with another. */
static void split_huge(void)
{
	const size_t n = pages(huge_size());
	struct actor *p1, *p2, *twin;

	if (!huge_size()) {
		note("no transparent huge pages here");
		return;
	}
	/* With pages of 64 KiB arm64's are of 512 MiB (asm/pgtable-hwdef.h: PMD_SIZE). */
	if (!room_for(3 * huge_size())) {
		note("no room for three huge pages of %zu MiB", huge_size() >> 20);
		return;
	}
	allow_huge(true);
	p1 = spawn("H");
	map_area(p1, "a", huge_size());
	want_huge(p1, "a", 0, ALL_PAGES);
	fill(p1, "a", 0, ALL_PAGES, 1, 1);
	twin = spawn("T");
	map_area(twin, "a", huge_size());
	want_huge(twin, "a", 0, ALL_PAGES);
	fill(twin, "a", 0, n / 2, 100000, 1);
	fill(twin, "a", n / 2, n / 2, 100000, 1);
	allow_huge(false);
	p2 = spawn("P");
	map_filled(p2, "a", huge_size(), 1);
	observe("huge");
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, n / 2);
	mergeable(twin, "a", 0, ALL_PAGES);
	scan(1);
	observe("met once");
	scan(1);
	observe("split");
	scan(1);
	observe("both halves merged");
	reclaim();
	observe("reclaimed");
	verify(p1, "a", 0, ALL_PAGES);
	verify(twin, "a", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(twin);
	scan(2);
}

/* MADV_MERGEABLE is ignored, with success, where ksmd has no business. */
static void ignore_advice(void)
{
	struct actor *p[2];

	for (int i = 0; i < 2; i++) {
		p[i] = spawn(i ? "P2" : "P1");
		map_shared(p[i], "s", SIZE);
		fill(p[i], "s", 0, ALL_PAGES, 1, 1);
		mergeable(p[i], "s", 0, ALL_PAGES);
		look_at_vmas(p[i], "s");
		advise_strange(p[i], "vvar");
		advise_strange(p[i], "file");
		advise_strange(p[i], "droppable");
	}
	scan(2);
	observe("nothing merged");
	for (int i = 0; i < 2; i++) {
		map_filled(p[i], "a", SIZE, 1);
		mergeable(p[i], "a", 0, ALL_PAGES);
		look_at_vmas(p[i], "a");
	}
	scan(2);
	observe("private memory merged, shared not");
	verify(p[0], "s", 0, ALL_PAGES);
	exit_actor(p[0]);
	exit_actor(p[1]);
	scan(2);
}

/*
 * A process that was to be merged as a whole, and is not any more, is on ksmd's
 * list, once.  No scan in between: nothing is known of its other memory.
 */
static void take_back(void)
{
	struct actor *p1, *p2;

	p1 = spawn_filled("P1", SIZE, 1);
	p2 = spawn_filled("P2", SIZE, 1);
	if (!merge_any(p1, true))
		note("no PR_SET_MEMORY_MERGE here");
	else
		merge_any(p1, false);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	scan(2);
	observe_slab("merged like others");
	exit_actor(p1);
	exit_actor(p2);
	scan(1);
}

/* Processes all of whose memory is mergeable, what they map later and their forks. */
static void merge_processes(void)
{
	struct actor *p[2], *child;

	for (int i = 0; i < 2; i++) {
		p[i] = spawn_filled(i ? "P2" : "P1", SIZE, 1);
		if (!merge_any(p[i], true)) {
			note("no PR_SET_MEMORY_MERGE here");
			return;
		}
		map_filled(p[i], "b", SIZE, 1000);
		map_shared(p[i], "s", SIZE);
		fill(p[i], "s", 0, ALL_PAGES, 1, 1);
		look_at_vmas(p[i], "a");
		look_at_vmas(p[i], "b");
		look_at_vmas(p[i], "s");
	}
	scan(2);
	observe("processes merged");
	child = fork_actor(p[0], "C");
	map_filled(child, "c", SIZE, 1000);
	look_at_vmas(child, "c");
	scan(2);
	observe("a fork merged");
	advise_strange(child, "heap");
	merge_any(p[1], false);
	look_at_vmas(p[1], "a");
	map_area(p[1], "e", SIZE);
	look_at_vmas(p[1], "e");
	observe("one unmerged");
	exec_actor(child);
	map_filled(child, "d", SIZE, 1);
	look_at_vmas(child, "d");
	scan(2);
	observe("another program merged");
	verify(p[0], "a", 0, ALL_PAGES);
	verify(p[1], "b", 0, ALL_PAGES);
}

WORKLOAD(special, "P23", "pages of zeros, huge pages, mappings that are not merged, processes that are merged as a whole")
{
	property("P23");
	merge_zeros();
	collapse_zeros();
	collapse_merged();
	merge_zeros_as_others();
	split_huge();
	ignore_advice();
	take_back();
	merge_processes();
}

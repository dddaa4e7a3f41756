// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <stdio.h>

#define SHARERS 5

/*
 * Of two equal pages, is it the one met last that stays?  A third page like them,
 * met for the first time: it is merged at once where ksmd searches the stable tree
 * first, and a scan later where it wants a checksum that has not changed.  Then: do
 * locked KSM pages bear the mark?
 */
static struct actor *merge_and_lock(void)
{
	struct actor *p = spawn("P1");

	map_area(p, "a", 4 * page_size());
	fill(p, "a", 0, 2, 1, 0);
	mergeable(p, "a", 0, ALL_PAGES);
	map_area(p, "x", page_size());
	fill(p, "x", 0, 1, 2, 0);
	observe("two equal pages");
	scan(2);
	observe("merged");
	fill(p, "a", 2, 1, 1, 0);
	scan(1);
	observe("a third page met once");
	return p;
}

/* A page of one process only, read from swap and then written to: the same frame, or a copy? */
static void swap_and_write(struct actor *p)
{
	reclaim();
	read_pages(p, "x", 0, 1);
	observe("read from swap");
	write_pages(p, "x", 0, 1, 3, 0);
	observe("written to");
}

/* A KSM page with one mapper left is written to by that one: the same frame, or a copy? */
static void write_to_the_last(void)
{
	struct actor *r = spawn("R");

	map_area(r, "a", 2 * page_size());
	fill(r, "a", 0, 2, 5, 0);
	mergeable(r, "a", 0, ALL_PAGES);
	scan(2);
	write_pages(r, "a", 0, 1, 6, 0);
	observe("one mapper is left");
	write_pages(r, "a", 1, 1, 7, 0);
	observe("the last one has written");
	exit_actor(r);
	scan(1);
}

/* A chain of two full pages loses one; then a page of this content looks for its like. */
static void leave_one_in_a_chain(void)
{
	struct actor *s[SHARERS];
	char name[8];

	if (!ksm_try("max_page_sharing", "2"))
		return;
	ksm_try("stable_node_chains_prune_millisecs", "1000000000");
	for (int i = 0; i < SHARERS; i++) {
		if (i == SHARERS - 1) {
			scan(2);
			observe("two pages in a chain");
			exit_actor(s[0]);
			exit_actor(s[1]);
		}
		snprintf(name, sizeof(name), "S%d", i);
		s[i] = spawn_filled(name, page_size(), 1);
		mergeable(s[i], "a", 0, ALL_PAGES);
	}
	scan(2);
	observe("one page is left");
	for (int i = 2; i < SHARERS; i++)
		exit_actor(s[i]);
	scan(2);
	ksm_try("max_page_sharing", "256");
}

/* A huge page that holds one page with contents is split, as that is merged. */
static void split_huge(void)
{
	struct actor *h;

	if (!huge_size())
		return;
	allow_huge(true);
	h = spawn("H");
	map_area(h, "a", huge_size());
	want_huge(h, "a", 0, ALL_PAGES);
	fill(h, "a", 0, 1, 1, 0);
	allow_huge(false);
	map_area(h, "b", page_size());
	fill(h, "b", 0, 1, 1, 0);
	mergeable(h, "a", 0, 1);
	mergeable(h, "b", 0, 1);
	scan(2);
	observe("split");
	exit_actor(h);
	scan(1);
}

static void poison(void)
{
	struct actor *e = spawn("E");

	map_area(e, "a", 2 * page_size());
	fill(e, "a", 0, 2, 7000001, 0);	/* poisoned.c has the reason */
	mergeable(e, "a", 0, ALL_PAGES);
	scan(3);
	hwpoison(e, "a", 0, false);
	observe("poisoned");
	exit_actor(e);
	scan(1);
}

/*
 * Nothing is judged here: what is seen is how this kernel behaves where kernels
 * differ and no file says in which way (harness/oracle/calibration.py).  The
 * first workload of a guest whose kernel has no source that could be asked.
 * What a kernel is too old for comes last, as it ends the workload.
 */
WORKLOAD_ON_REQUEST(calibrate, "", "shows no property: measures what no file tells of a kernel without a source")
{
	struct actor *p = merge_and_lock(), *any = spawn("M");

	merge_any(any, true);
	exit_actor(any);
	swap_and_write(p);
	verify(p, "a", 0, 3);
	scan(2);
	lock_pages(p, "a", 0, 2, true);
	observe("locked");
	exit_actor(p);
	scan(2);
	write_to_the_last();
	leave_one_in_a_chain();
	split_huge();
	poison();
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define SIZE (128ul << 10)

/*
 * A KSM page that reclaim has unmapped, but could not free as it is pinned, is
 * still in the swap cache and still a KSM page: whoever touches it has it
 * mapped again, and nothing is copied.  Unless its stable node is gone in
 * between, which run=2 sees to, also of a page that nobody maps.
 */
static void come_back(void)
{
	struct actor *p1, *p2;

	merge_pair(&p1, &p2, SIZE);
	pin(p1, "a", 0, ALL_PAGES);
	reclaim();
	observe("in the swap cache");
	verify(p2, "a", 0, ALL_PAGES);
	observe("mapped again");
	verify(p1, "a", 0, ALL_PAGES);
	observe("by both");

	reclaim();
	ksm_run(2);
	ksm_run(1);
	observe("unmerged while unmapped");
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	observe("copied");
	unpin(p1);
	exit_actor(p1);
	exit_actor(p2);
	scan(2);
}

/* Who writes to such a page gets a copy, even the last one to have it. */
static void come_back_to_write(void)
{
	const size_t part = pages(SIZE) / 2;
	struct actor *p1, *p2;

	property("P17");
	merge_pair(&p1, &p2, SIZE);
	pin(p1, "a", 0, ALL_PAGES);
	reclaim();
	unpin(p1);
	write_pages(p2, "a", 0, part, 5000, 1);
	observe("P2 wrote to what is in the swap cache");
	exit_actor(p1);
	write_pages(p2, "a", part, part, 6000, 1);
	observe("and to what only P2 has");
	verify(p2, "a", 0, ALL_PAGES);
	exit_actor(p2);
	scan(2);
	observe("all gone");
	property("P16");
}

/*
 * While run is 2 no KSM page is mapped anew, though it has a stable node still:
 * such is one that a parent maps whom ksmd does not scan.
 */
static void come_back_while_unmerging(void)
{
	struct actor *parent, *child, *other;

	parent = spawn_filled("P", SIZE, 1);
	child = fork_actor(parent, "C");
	other = spawn_filled("O", SIZE, 1);
	mergeable(other, "a", 0, ALL_PAGES);
	mergeable(child, "a", 0, ALL_PAGES);
	scan(2);
	keep(parent, "a", 0, ALL_PAGES);
	reclaim();
	observe("only the parent maps it");
	verify(other, "a", 0, 1);
	observe("one page mapped again");
	ksm_run(2);
	verify(child, "a", 0, ALL_PAGES);
	observe("copied while run is 2");
	ksm_run(1);
	verify(other, "a", 0, ALL_PAGES);
	verify(parent, "a", 0, ALL_PAGES);
	observe("mapped again while run is 1");
	exit_actor(parent);
	exit_actor(child);
	exit_actor(other);
	scan(2);
	observe("all gone");
}

WORKLOAD(swap_cache, "P16 P17", "KSM pages in the swap cache are mapped again, or copied when they are being unmerged or written to")
{
	property("P16");
	come_back();
	come_back_to_write();
	come_back_while_unmerging();
}

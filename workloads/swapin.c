// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

static const size_t size = 256 << 10;

static void merge_fork_reclaim(struct actor *p[3])
{
	merge_pair(&p[0], &p[1], size);
	p[2] = fork_actor(p[0], "C");
	reclaim();
	observe("reclaimed");
}

static void take_down(struct actor *p[3])
{
	for (int i = 0; i < 3; i++)
		exit_actor(p[i]);
	scan(2);
	observe("all gone");
}

/* A process of which nothing is swapped but KSM pages that nobody else has. */
static struct actor *swap_merged_only(void)
{
	struct actor *p, *q;

	p = spawn_filled("O", size / 4, 2000);
	q = spawn_filled("Q", size / 4, 2000);
	mergeable(p, "a", 0, ALL_PAGES);
	mergeable(q, "a", 0, ALL_PAGES);
	scan(2);
	clear_refs(q);
	pageout(p, "a", 0, ALL_PAGES);
	observe("not paged out, as somebody else has it too");
	exit_actor(q);
	pageout(p, "a", 0, ALL_PAGES);
	return p;
}

/*
 * swapoff() looks for every pte that holds a swap entry, of all processes of whom
 * reclaim has told it (mmlist): among them a fork that ksmd has never met, and one
 * that got nothing but swap entries.  Who shares a page then may not write to it
 * as his own.  Before 3.9 it maps pages where it should copy them.
 */
static void swap_off(void)
{
	struct actor *p1, *p2, *child, *other, *plain, *late;

	if (!ksm_has("merge_across_nodes")) {
		note("swapoff copies since 3.9 only");
		return;
	}
	merge_pair(&p1, &p2, size / 4);
	child = fork_actor(p1, "C");
	exit_actor(p1);
	plain = spawn_filled("X", 8 * page_size(), 3000);
	reclaim();
	late = fork_actor(plain, "Y");
	other = swap_merged_only();
	swap_off_and_on();
	observe("swap was off");
	write_pages(plain, "a", 0, 4, 4000, 1);
	verify(late, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(other, "a", 0, ALL_PAGES);
	reclaim();
	observe("and is used again");
	verify(plain, "a", 0, ALL_PAGES);
	exit_actor(plain);
	exit_actor(late);
	exit_actor(p2);
	exit_actor(child);
	exit_actor(other);
	scan(2);
	observe("all gone");
}

/*
 * What comes back from swap is ordinary memory, shared by those that share an
 * anon_vma's root and copied for the others (mm/ksm.c: ksm_might_need_to_copy),
 * so it depends on who asks first; the bytes never do.  ksmd's counters do not
 * notice before the next scan, which merges the pages again.  So it is when
 * nobody asks, but swap is given up.
 */
WORKLOAD(swapin, "P16", "swapped-in pages have their bytes, and are copied where they cannot be shared")
{
	struct actor *p[3];

	property("P16");
	merge_fork_reclaim(p);
	verify(p[0], "a", 0, ALL_PAGES);
	observe("P1 is back");
	verify(p[2], "a", 0, ALL_PAGES);
	observe("C is back");
	verify(p[1], "a", 0, ALL_PAGES);
	observe("P2 is back");
	scan(1);
	observe("scanned once");
	scan(1);
	observe("scanned twice");
	reclaim();
	observe("reclaimed again");
	verify(p[2], "a", 0, ALL_PAGES);
	take_down(p);

	merge_fork_reclaim(p);
	verify(p[1], "a", 0, ALL_PAGES);
	verify(p[0], "a", 0, ALL_PAGES);
	verify(p[2], "a", 0, ALL_PAGES);
	observe("back in the order P2, P1, C");
	scan(2);
	observe("scanned twice");
	take_down(p);
	swap_off();
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

static const size_t size = 512 << 10;

/* Two owners whose pages are merged, and a fork of the first. */
static struct actor *merge_and_fork(struct actor **p1, struct actor **p2)
{
	merge_pair(p1, p2, size);
	return fork_actor(*p1, "C");
}

/*
 * The owners of the rmap_items exit, and their fork lives on.  Until ksmd comes
 * round the items stay, and with them the anon_vma that leads to the fork's
 * ptes (P3).  When ksmd has been there the dead owners' items are gone, and the
 * fork has items of its own (P4).  Both ways its pages must go to swap.
 */
WORKLOAD(owner_exit, "P3 P4", "a fork is unmapped although the owners have exited, before and after ksmd noticed")
{
	struct actor *p1, *p2, *child;

	property("P3");
	child = merge_and_fork(&p1, &p2);
	exit_actor(p1);
	exit_actor(p2);
	observe("owners exited");
	reclaim();
	observe("reclaimed");
	scan(1);
	observe("stale nodes pruned");
	verify(child, "a", 0, ALL_PAGES);
	exit_actor(child);
	scan(1);

	property("P4");
	child = merge_and_fork(&p1, &p2);
	exit_actor(p1);
	exit_actor(p2);
	scan(1);
	observe("owners pruned");
	reclaim();
	observe("reclaimed");
	verify(child, "a", 0, ALL_PAGES);
}

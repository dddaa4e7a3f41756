// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * Two unrelated processes have the same contents, and ksmd has merged them.
 * Then one of them forks.  The child has a copy of each pte, but ksmd has not
 * passed since: no rmap_item tells of the child.  Reclaim must find its ptes
 * all the same, through the anon_vma that each rmap_item holds, and swap the
 * pages out of all three; and all three must get their bytes back.
 */
WORKLOAD(new_fork, "P1", "a fork that ksmd has not met yet is unmapped with its parents")
{
	const size_t size = 1 << 20;
	struct actor *p1, *p2, *child;

	property("P1");
	merge_pair(&p1, &p2, size);
	observe("merged");

	child = fork_actor(p1, "C");
	observe("forked");

	reclaim();
	observe("reclaimed");

	verify(child, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	observe("swapped in");
}

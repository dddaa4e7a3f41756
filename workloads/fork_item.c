// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * At its first scan after the fork ksmd gives the child's ptes rmap_items of
 * their own: pages_sharing grows by one for each, at once, for a page that is
 * in the stable tree already needs no settled checksum.  Frames, mapcounts and
 * cow_ksm stay.  The new items must be complete: they are walked by reclaim,
 * and dropped when the child goes.
 */
WORKLOAD(fork_item, "P15", "a fork gets its rmap_items at the next scan, and they work")
{
	const size_t size = 512 << 10;
	struct actor *p1, *p2, *child, *grandchild;

	property("P15");
	merge_pair(&p1, &p2, size);
	child = fork_actor(p1, "C");
	observe("forked");
	scan(1);
	observe("met by ksmd");
	scan(1);
	observe("met again");
	grandchild = fork_actor(child, "G");
	scan(1);
	observe("grandchild met");

	reclaim();
	observe("reclaimed");
	verify(grandchild, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	exit_actor(child);
	exit_actor(grandchild);
	scan(1);
	observe("forks gone");
	exit_actor(p1);
	exit_actor(p2);
	scan(1);
	observe("all gone");
}

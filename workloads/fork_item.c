// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define FEW (64ul << 10)

/*
 * ksmd meets a page that is not merged twice in each scan, as the fork has it,
 * too: it stays out of the way, and can be merged when another has its content.
 */
static void share_with_ordinary_fork(void)
{
	struct actor *p3, *p4, *child;

	p3 = spawn_filled("P3", FEW, 1000);
	mergeable(p3, "a", 0, ALL_PAGES);
	child = fork_actor(p3, "D");
	scan(3);
	observe("ordinary pages met twice");
	p4 = spawn_filled("P4", FEW, 1000);
	mergeable(p4, "a", 0, ALL_PAGES);
	scan(2);
	observe("merged with a third process");
	scan(1);
	observe("and the fork's");
	exit_actor(p3);
	exit_actor(p4);
	exit_actor(child);
	scan(1);
}

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
	struct actor *p1, *p2, *child, *early, *grandchild;

	property("P15");
	merge_pair(&p1, &p2, size);
	child = fork_actor(p1, "C");
	early = fork_actor(child, "E");
	observe("forked");
	scan(1);
	observe("met by ksmd");
	scan(1);
	observe("met again");
	exit_actor(early);
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
	share_with_ordinary_fork();
	observe("all gone");
}

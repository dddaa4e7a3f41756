// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define SIZE (128ul << 10)

/*
 * An mm that two processes have (mm_users is 2) is scanned, merged, forked,
 * unmerged and reclaimed like any other.  When one of the two exits it is not
 * the mm that exits: its items stay, ksmd goes on with it, and its memcg is
 * the other one's.
 */
WORKLOAD(shared_mm, "P14", "an mm that two processes share, before and after one of them exits")
{
	struct actor *p1, *p2, *child, *late;

	property("P14");
	p1 = spawn_filled("P1", SIZE, 1);
	p2 = spawn_filled("P2", SIZE, 1);
	twin(p1);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	scan(2);
	observe_slab("merged");
	child = fork_actor(p1, "C");
	scan(1);
	observe("a fork of the shared mm met");
	twin(child);
	unmergeable(p1, "a", 0, pages(SIZE) / 4);
	observe("a part unmerged");
	mergeable(p1, "a", 0, ALL_PAGES);
	scan(2);
	observe("merged again");

	hand_over(p1);
	observe("P1's first process has exited");
	late = fork_actor(p1, "D");
	scan_pages(pages(SIZE) / 2);
	hand_over(child);
	observe("so has C's, in the middle of a scan");
	scan(2);
	observe_slab("all met");
	reclaim();
	observe("reclaimed");
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(late, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	scan(2);
	twin(p1);
	twin(p2);
	observe("merged once more");
	ksm_run(2);
	observe("unmerged");
	ksm_run(1);
	scan(2);
	exit_actor(p1);
	exit_actor(p2);
	observe_slab("both gone with their twins");
	exit_actor(child);
	exit_actor(late);
	scan(1);
	observe_slab("all gone");
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * Several forks of each sharer, and a grandchild.  ksmd keeps the rmap_items of
 * a page in a list whose head is the one added last (mm/ksm.c:
 * stable_tree_append), so P2's comes first: a walk that serves the first item
 * only, or stops after the first fork that it finds, gets past a single fork
 * of a single sharer.  Here it leaves somebody mapped.
 */
WORKLOAD(fork_tree, "P2", "several forks, grandchildren and forks of each sharer are unmapped")
{
	const size_t size = 512 << 10;
	struct actor *p1, *p2, *child;

	property("P2");
	merge_pair(&p1, &p2, size);

	child = fork_actor(p1, "C1");
	fork_actor(p1, "C2");
	fork_actor(p1, "C3");
	fork_actor(child, "G1");
	fork_actor(p2, "D1");
	child = fork_actor(p2, "D2");
	observe("forked");

	reclaim();
	observe("reclaimed");

	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
	observe("swapped in");
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * P1's fork has items of its own and P1 is gone, so that nothing leads to a
 * fork of the fork but the fork's anon_vma, which is no root and has one child.
 */
static void orphaned_fork(void)
{
	struct actor *p1, *p2, *child, *grandchild;

	merge_pair(&p1, &p2, 128 << 10);
	child = fork_actor(p1, "C");
	scan(1);
	exit_actor(p1);
	scan(1);
	grandchild = fork_actor(child, "G");
	observe("a fork of a fork whose parent is gone");
	reclaim();
	observe("reclaimed");
	verify(grandchild, "a", 0, ALL_PAGES);
	exit_actor(grandchild);
	exit_actor(child);
	exit_actor(p2);
	scan(1);
}

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
	orphaned_fork();
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

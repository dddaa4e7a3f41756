// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define MORE (32ul << 20)	/* than a block: the last one of a node has the kernel's own pages, too */

/*
 * While memory is on its way offline ksmd must not touch its trees, whose pages move
 * (mm/ksm.c: ksm_memory_callback).  It waits, as long as that takes, and goes on: when
 * it is given up, as one page stays where it is, and when it is done.  All mappers of
 * a KSM page go along, and so does its stable node.  P3 sees to it that they are not in
 * a block that cannot go.
 */
WORKLOAD_ON_REQUEST(offlined, "P19", "memory goes offline, or is to and does not: ksmd waits, and goes on")
{
	struct actor *p1, *p2, *p3, *late, *child;
	const size_t size = 256 << 10, last = pages(memory_block() + MORE) - 1;

	property("P19");
	if (!room_for((last + 1) * page_size()))
		skip("no room for more than a block of memory");
	p3 = spawn_filled("P3", (last + 1) * page_size(), 5000);
	merge_pair(&p1, &p2, size);
	pin(p3, "a", last, 1);
	unmap_pages(p3, "a", 0, last);
	scan(1);
	child = fork_actor(p1, "C");
	observe("forked");
	offline_cancelled(p3, "a", last);
	observe("given up");
	verify(child, "a", 0, ALL_PAGES);
	scan(1);
	observe("scanned");
	unpin(p3);
	offline_and_online(p3, "a", last);
	observe("gone, and back");
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	late = spawn_filled("L", size, 1);
	mergeable(late, "a", 0, ALL_PAGES);
	scan(2);
	observe("merged with what has moved");
	reclaim();
	observe("reclaimed");
	verify(p2, "a", 0, ALL_PAGES);
	verify(late, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(p3);
	exit_actor(child);
	exit_actor(late);
	scan(2);
	observe_slab("all gone");
}

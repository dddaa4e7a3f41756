// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * P1's pages are pinned (they lie in a pipe), so that they cannot be write
 * protected for good; P2 has the same contents.  ksmd meets P1 first, puts its
 * pages into the unstable tree, then makes a KSM page of P2's, fails to put it
 * in P1's place, and must undo the half that it did: break_cow() on P2, and its
 * reference to the anon_vma dropped.  Again at each scan.  When the pipe is
 * drained the pages do merge.  P3's have their likes in the stable tree then, and
 * are pinned as well: they are put into no tree until they merge.
 */
WORKLOAD(failed_merge, "P7", "a merge that fails half way is undone")
{
	const size_t size = 256 << 10;
	struct actor *p1, *p2, *p3;

	property("P7");
	p1 = spawn_filled("P1", size, 1);
	p2 = spawn_filled("P2", size, 1);
	pin(p1, "a", 0, ALL_PAGES);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	observe("pinned");
	scan(1);
	observe("scan 1");
	scan(1);
	observe("scan 2");
	scan(1);
	observe("scan 3");
	scan(1);
	observe("scan 4");
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);

	unpin(p1);
	scan(2);
	observe("merged");

	p3 = spawn_filled("P3", 8 * page_size(), 1);
	pin(p3, "a", 0, ALL_PAGES);
	mergeable(p3, "a", 0, ALL_PAGES);
	scan(2);
	observe("P3 is pinned, and stays out of the trees");
	unpin(p3);
	scan(1);
	observe("P3 merged");
	reclaim();
	observe("reclaimed");
	verify(p2, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
}

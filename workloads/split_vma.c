// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * vmas are split and merged without KSM's knowledge, which is why an rmap_item
 * cannot keep a vma and holds an anon_vma instead.  After the merge the area is
 * cut up in the parent and in its fork, also page by page, and put together
 * again; the first half is locked in the parent.  Exactly the pages of the
 * unlocked half must go; the first one after the boundary shows an off-by-one.
 */
WORKLOAD(split_vma, "P8", "vmas split and merged after ksmd passed: exactly the unlocked pages go")
{
	const size_t half = pages(512 << 10);
	struct actor *p1, *p2, *child;

	property("P8");
	merge_pair(&p1, &p2, 2 * half * page_size());
	child = fork_actor(p1, "C");

	lock_pages(p1, "a", 0, half, true);
	for (size_t i = 0; i < half; i += 2) {
		protect(child, "a", half + i, 1, "r");
		protect(p2, "a", half + i, 1, "none");
	}
	protect(p1, "a", half + 1, half - 2, "r");
	protect(p1, "a", half + 1, half - 2, "rw");
	for (size_t i = 0; i < half / 2; i += 2)
		protect(p2, "a", half + i, 1, "rw");
	observe("split");

	keep(p1, "a", 0, half);
	keep(p2, "a", 0, half);
	keep(child, "a", 0, half);
	reclaim();
	observe("reclaimed");

	protect(child, "a", half, half, "rw");
	protect(p2, "a", half, half, "rw");
	unlock_pages(p1, "a", 0, half);
	reclaim();
	observe("unlocked and reclaimed");
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
}

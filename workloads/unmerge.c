// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <unistd.h>

static const size_t size = 512 << 10;

/* Like P1 and P2, but first heard of while run is 2. */
static void spawn_newcomer(void)
{
	struct actor *a = spawn_filled("N", size, 1);

	mergeable(a, "a", 0, ALL_PAGES);
}

/*
 * PROT_NONE.  Not with CONFIG_NUMA_BALANCING: 6.1 takes such a pte for one of its own
 * then, which follow_page() does not follow, nor with it break_ksm() (include/linux/mm.h:
 * gup_can_follow_protnone; otherwise before and later).
 */
static void shut(struct actor *a, size_t first, size_t count)
{
	if (!access("/proc/sys/kernel/numa_balancing", F_OK))
		note("NUMA balancing: no pages that nobody may access");
	else
		protect(a, "a", first, count, "none");
}

/*
 * Unmerging reaches a fork that ksmd has never met, since fork registered it:
 * run=2 gives every mapper pages of its own and empties both trees.  Swapped
 * ptes are left alone, and pages that were never touched; whether they may be
 * written or read does not matter, nor does it to a scan.  Processes that have gone, and which ksmd has not seen
 * yet, are cleaned up.  MADV_UNMERGEABLE does so for one process and range.  Who
 * comes while run is 2 is merged with the others afterwards, when ksmd, which
 * waits for run=1 then, has been woken.
 */
WORKLOAD(unmerge, "P18", "unmerging after a fork leaves no KSM page and no rmap_item")
{
	const size_t n = pages(size);
	struct actor *p1, *p2, *child;

	property("P18");
	ksm_try("run", "3");
	merge_pair(&p1, &p2, size);
	map_area(p1, "holes", 8 * page_size());
	fill(p1, "holes", 1, 2, 1, 1);	/* another before the end of its page table */
	fill(p1, "holes", 6, 1, 1, 1);
	mergeable(p1, "holes", 0, ALL_PAGES);
	scan(2);
	child = fork_actor(p1, "C");
	protect(p2, "a", n / 8, n / 4, "r");
	shut(p2, n / 2, n / 4);
	observe_slab("forked");
	ksm_run(2);
	observe_slab("unmerged");
	protect(p2, "a", 0, ALL_PAGES, "rw");
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);

	shut(p1, n / 4, n / 2);
	ksm_run(1);
	scan(2);
	observe("merged again");
	unmergeable(p1, "a", 0, n / 2);
	observe("half of P1 unmerged");
	protect(p1, "a", 0, ALL_PAGES, "rw");
	unmergeable(p2, "a", n / 2, n / 4);
	observe("a part of P2 unmerged");
	scan(1);
	observe("its items dropped");

	reclaim();
	observe("reclaimed");
	ksm_run(2);
	observe_slab("unmerged while swapped");
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	fork_actor(child, "D");
	spawn_newcomer();
	scan_by_run();
	scan(2);
	observe_slab("merged once more");
	exit_actor(p2);
	exit_actor(child);
	ksm_run(2);
	observe_slab("unmerged with processes that had gone");
	ksm_run(1);
	scan(2);
	observe_slab("P1 met again");
}

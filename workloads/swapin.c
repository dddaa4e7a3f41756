// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

static const size_t size = 256 << 10;

static void merge_fork_reclaim(struct actor *p[3])
{
	merge_pair(&p[0], &p[1], size);
	p[2] = fork_actor(p[0], "C");
	reclaim();
	observe("reclaimed");
}

static void take_down(struct actor *p[3])
{
	for (int i = 0; i < 3; i++)
		exit_actor(p[i]);
	scan(2);
	observe("all gone");
}

/*
 * What comes back from swap is ordinary memory, shared by those that share an
 * anon_vma's root and copied for the others (mm/ksm.c: ksm_might_need_to_copy),
 * so it depends on who asks first; the bytes never do.  ksmd's counters do not
 * notice before the next scan, which merges the pages again.
 */
WORKLOAD(swapin, "P16", "swapped-in pages have their bytes, and are copied where they cannot be shared")
{
	struct actor *p[3];

	property("P16");
	merge_fork_reclaim(p);
	verify(p[0], "a", 0, ALL_PAGES);
	observe("P1 is back");
	verify(p[2], "a", 0, ALL_PAGES);
	observe("C is back");
	verify(p[1], "a", 0, ALL_PAGES);
	observe("P2 is back");
	scan(1);
	observe("scanned once");
	scan(1);
	observe("scanned twice");
	reclaim();
	observe("reclaimed again");
	verify(p[2], "a", 0, ALL_PAGES);
	take_down(p);

	merge_fork_reclaim(p);
	verify(p[1], "a", 0, ALL_PAGES);
	verify(p[0], "a", 0, ALL_PAGES);
	verify(p[2], "a", 0, ALL_PAGES);
	observe("back in the order P2, P1, C");
	scan(2);
	observe("scanned twice");
	take_down(p);
}

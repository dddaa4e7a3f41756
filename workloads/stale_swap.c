// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define SIZE (128ul << 10)

/*
 * With MADV_FREE a process lets reclaim drop its pages with what they hold.  One that
 * is merged since is another's as well, who wants it back from swap: ksmd makes it
 * dirty (mm/ksm.c: try_to_merge_one_page), and one that is a KSM page already is left
 * as it is (mm/madvise.c: madvise_free_pte_range).
 */
static void give_up_shared(void)
{
	const size_t half = pages(SIZE) / 2;
	struct actor *p1, *p2;

	p1 = spawn_filled("P1", SIZE, 1);
	p2 = spawn_filled("P2", SIZE, 1);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	/* P2's are to be the KSM pages. */
	if (lazy_free(p2, "a", 0, half)) {
		scan(2);
		lazy_free(p1, "a", half, half);
		observe("given up by one of two");
		reclaim();
		observe("swapped out all the same");
		verify(p1, "a", 0, ALL_PAGES);
		verify(p2, "a", 0, ALL_PAGES);
	}
	exit_actor(p1);
	exit_actor(p2);
	scan(2);
}

/*
 * A page that was swapped in and then written has a stale copy in its swap
 * slot, and only its pte knows that it is dirty.  ksmd cleans that pte when it
 * makes the page a KSM page (mm/ksm.c: write_protect_page), so it must tell the
 * page: otherwise reclaim drops it as a copy of what swap holds, and swap-in
 * brings the old bytes back.  So it was from 2.6.33 to 2.6.36.
 */
WORKLOAD(stale_swap, "P16", "what was written while its swap slot was kept, or given up by one of two, is swapped with its bytes")
{
	struct actor *p[2];

	property("P16");
	give_up_shared();
	p[0] = spawn_filled("P1", SIZE, 1000);
	p[1] = spawn_filled("P2", SIZE, 2000);
	reclaim();
	observe("swapped out");
	for (int i = 0; i < 2; i++)
		read_pages(p[i], "a", 0, ALL_PAGES);
	for (int i = 0; i < 2; i++) {
		write_pages(p[i], "a", 0, ALL_PAGES, 3000, 1);
		mergeable(p[i], "a", 0, ALL_PAGES);
	}
	observe("back and written");
	scan(3);
	observe("merged");
	reclaim();
	observe("swapped out again");
	for (int i = 0; i < 2; i++)
		verify(p[i], "a", 0, ALL_PAGES);
	observe("back again");
}

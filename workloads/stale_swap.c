// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * A page that was swapped in and then written has a stale copy in its swap
 * slot, and only its pte knows that it is dirty.  ksmd cleans that pte when it
 * makes the page a KSM page (mm/ksm.c: write_protect_page), so it must tell the
 * page: otherwise reclaim drops it as a copy of what swap holds, and swap-in
 * brings the old bytes back.  So it was from 2.6.33 to 2.6.36.
 */
WORKLOAD(stale_swap, "P16", "a page written while its swap slot was kept is merged and swapped with its new bytes")
{
	const size_t size = 128 << 10;
	struct actor *p[2];

	property("P16");
	p[0] = spawn_filled("P1", size, 1000);
	p[1] = spawn_filled("P2", size, 2000);
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

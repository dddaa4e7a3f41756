// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * The stable tree keeps nodes whose page has gone until ksmd meets them.  A
 * search that walks over such a node takes it out, which may turn the tree, and
 * has to start again (mm/ksm.c: stable_tree_search): it must still find the
 * page's own node below.  P0 is scanned before those whose pages have gone, so
 * it is P0's searches that meet the stale nodes.
 */
WORKLOAD(stale_nodes, "P14", "a search that meets stale nodes still finds the page's own node")
{
	const size_t n = pages(256 << 10);
	struct actor *p[3];

	property("P14");
	p[0] = spawn_filled("P0", n * page_size(), 9000);
	mergeable(p[0], "a", 0, ALL_PAGES);
	for (int i = 1; i < 3; i++) {
		p[i] = spawn_filled(i == 1 ? "P1" : "P2", n * page_size(), 1000);
		mergeable(p[i], "a", 0, ALL_PAGES);
	}
	scan(3);
	observe("merged");
	/* What stays and what goes alternates. */
	for (int i = 1; i < 3; i++)
		for (size_t page = 0; page < n; page += 2)
			unmap_pages(p[i], "a", page, 1);
	write_pages(p[0], "a", 0, ALL_PAGES, 1000, 1);
	scan(1);
	observe("scanned once: merged with what had stayed");
	scan(2);
	observe("scanned again");
	verify(p[0], "a", 0, ALL_PAGES);
}

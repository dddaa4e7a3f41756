// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <stdio.h>

#define MOST 17

static struct actor *sharers[MOST];

static void spawn_sharers(int count, size_t npages, uint64_t step)
{
	char name[8];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "S%d", i);
		sharers[i] = spawn(name);
		map_area(sharers[i], "a", npages * page_size());
		fill(sharers[i], "a", 0, ALL_PAGES, 1, step);
		mergeable(sharers[i], "a", 0, ALL_PAGES);
	}
}

/* Merge, fork the first and the last, reclaim all, and take it all down. */
static void share(int count, size_t npages, uint64_t step)
{
	struct actor *first, *last;

	spawn_sharers(count, npages, step);
	scan(2);
	observe("merged");
	first = fork_actor(sharers[0], "C");
	last = fork_actor(sharers[count - 1], "D");
	reclaim();
	observe("reclaimed");
	verify(first, "a", 0, ALL_PAGES);
	verify(last, "a", 0, ALL_PAGES);
	for (int i = 0; i < count; i++)
		exit_actor(sharers[i]);
	exit_actor(first);
	exit_actor(last);
	scan(2);
	observe("all gone");
}

/*
 * Many rmap_items on one page: of 2, 3 and 17 processes, and of 256 ptes that
 * sit 16 to a process.  pages_shared counts the pages, pages_sharing the items
 * beyond each page's first; the mapcount is the number of ptes; and a walk
 * reaches every one.
 */
WORKLOAD(many_items, "P14", "many rmap_items on one page are counted and walked")
{
	property("P14");
	share(2, 4, 1);
	share(3, 4, 1);
	share(17, 2, 1);
	share(16, 16, 0);
}

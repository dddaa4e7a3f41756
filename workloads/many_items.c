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

/* Equal but for their last bytes: not merged, whichever ksmd meets first. */
static void share_almost(void)
{
	const size_t n = 4;
	struct actor *p[3];

	for (int i = 0; i < 3; i++) {
		p[i] = spawn(i ? i == 1 ? "P" : "Q" : "O");
		map_area(p[i], "a", 2 * n * page_size());
		fill(p[i], "a", 0, n, i == 1 ? 1 : ALMOST + 1, 1);
		fill(p[i], "a", n, n, i == 1 ? 100 : ALMOST + 100 + i, 1);
		mergeable(p[i], "a", 0, ALL_PAGES);
	}
	scan(3);
	observe("equal pages are merged, almost equal ones are not");
	write_pages(p[1], "a", n, n, ALMOST + 200, 1);
	scan(1);
	write_pages(p[1], "a", n, n, 200, 1);
	scan(1);
	observe("a page that changes in its last byte waits");
	for (int i = 0; i < 3; i++) {
		verify(p[i], "a", 0, ALL_PAGES);
		exit_actor(p[i]);
	}
	scan(1);
}

/* With smart_scan what has not merged for long is left out of more and more scans. */
static void leave_out_old(void)
{
	struct actor *p1, *p2;

	if (!ksm_has("smart_scan"))
		return;
	ksm_set("smart_scan", "1");
	p1 = spawn_filled("P1", 4 * page_size(), 1);
	mergeable(p1, "a", 0, ALL_PAGES);
	scan(4);
	observe("met four times");
	for (int i = 0; i < 3; i++) {
		scan(1);
		observe("left out by turns");
	}
	scan(12);
	observe("left out for longer");
	scan_freely(256);	/* an rmap_item's age has 8 bits */
	observe("as old as can be told");
	unmap_pages(p1, "a", 3, 1);
	scan(1);
	observe("one is gone");
	p2 = spawn_filled("P2", 2 * page_size(), 1);
	mergeable(p2, "a", 0, ALL_PAGES);
	scan(9);
	observe("when they are met in the same scan they are merged");
	verify(p1, "a", 0, 3);
	exit_actor(p1);
	exit_actor(p2);
	scan(1);
	observe("all gone");
	merge_pair(&p1, &p2, 2 * page_size());
	observe("merged while they are new");
	scan(12);
	observe("what is merged is met each time");
	exit_actor(p1);
	exit_actor(p2);
	scan(1);
	ksm_set("smart_scan", "0");
}

/*
 * Many rmap_items on one page: of 2, 3 and 17 processes, and of 256 ptes that
 * sit 16 to a process.  pages_shared counts the pages, pages_sharing the items
 * beyond each page's first; the mapcount is the number of ptes; and a walk
 * reaches every one.  Only pages that are equal to the last byte come together;
 * and smart_scan leaves alone what finds no equal.
 */
WORKLOAD(many_items, "P14", "many rmap_items on one page are counted and walked")
{
	property("P14");
	share(2, 4, 1);
	share(3, 4, 1);
	share(17, 2, 1);
	share(16, 16, 0);
	share_almost();
	leave_out_old();
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * Ageing asks all ptes of a page whether they were used, and those that fork
 * copied before ksmd came by count like the others.  All ptes are made old,
 * then the forks of both sharers touch some of the pages: idle page tracking
 * must notice, and the walk for references must return the exact number.
 * Reclaim gives such pages a second look before it unmaps them.  A fork's own
 * ptes begin as old ones, however young those that they are copies of.  A page
 * that is moved is as idle and as old as it was; and a reference that idle page
 * tracking has taken note of is one for reclaim, too.
 */
WORKLOAD(fork_references, "P12", "a page that only a fork has used counts as used")
{
	const size_t part = pages(32 << 10);
	struct actor *p1, *p2, *child, *grandchild, *other, *late;

	property("P12");
	merge_pair(&p1, &p2, 6 * part * page_size());
	child = fork_actor(p1, "C");
	grandchild = fork_actor(child, "G");
	other = fork_actor(p2, "D");
	clear_refs(p1);
	clear_refs(p2);
	idle_set(p1, "a", 0, ALL_PAGES);
	touch_pages(child, "a", part, part);
	touch_pages(grandchild, "a", 2 * part, part);
	touch_pages(other, "a", 3 * part, 2 * part);
	idle_read(p2, "a", 0, ALL_PAGES);
	idle_read(p2, "a", 0, ALL_PAGES);
	if (has_node(1) && has_move_pages()) {
		idle_set(p1, "a", 0, ALL_PAGES);
		move_pages_to(child, "a", 0, ALL_PAGES, 1, true);
		/* Before 5.18 they wait in a pagevec, where none is idle, for lru_add_drain_all(). */
		scan(1);
		idle_read(p2, "a", 0, ALL_PAGES);
	}

	clear_refs(p1);
	touch_pages(child, "a", part, 3 * part);
	touch_pages(grandchild, "a", 2 * part, part);
	touch_pages(other, "a", 3 * part, part);
	touch_pages(p2, "a", 3 * part, 2 * part);
	touch_pages(other, "a", 5 * part, part);
	idle_set(p2, "a", 5 * part, part);
	late = fork_actor(p2, "E");
	watch(p2, "a", 0, ALL_PAGES);
	reclaim();
	observe("reclaimed");
	verify(grandchild, "a", 0, ALL_PAGES);
	verify(other, "a", 0, ALL_PAGES);
	verify(late, "a", 0, ALL_PAGES);
}

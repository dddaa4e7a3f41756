// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * F is registered first; P and its child C share each page.  All are merged,
 * swapped out and read again: P and C share a page once more, F has a copy, and
 * the stable nodes are stale.  ksmd meets F's page, takes the stale node away and
 * looks on; then it meets P's, which becomes the KSM page, with a new node.  Last
 * it meets C, which maps that page already: C's rmap_item must come to the new
 * node, so that P can go and C's ptes are found nevertheless.
 *
 * No kernel that was tried does so if the new node lies where the old one lay:
 * docs/findings.md.
 */
WORKLOAD_ON_REQUEST(stale_head, "P4", "a fork's rmap_item comes to the new node of the page that it maps")
{
	struct actor *first, *owner, *child;

	property("P4");
	first = spawn_filled("F", page_size(), 1);
	mergeable(first, "a", 0, ALL_PAGES);
	owner = spawn_filled("P", page_size(), 1);
	mergeable(owner, "a", 0, ALL_PAGES);
	child = fork_actor(owner, "C");
	scan(3);
	observe("merged");
	reclaim();
	observe("swapped out");
	read_pages(owner, "a", 0, ALL_PAGES);
	read_pages(child, "a", 0, ALL_PAGES);
	read_pages(first, "a", 0, ALL_PAGES);
	observe("read");
	scan(3);
	observe("merged again");
	exit_actor(owner);
	scan(1);
	observe("the owner is gone");
	reclaim();
	observe("swapped out again");
	verify(child, "a", 0, ALL_PAGES);
	verify(first, "a", 0, ALL_PAGES);
}

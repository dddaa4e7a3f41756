// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define SIZE (256ul << 10)

/*
 * A parent that is not mergeable, its child that becomes so, and somebody else
 * with the same contents, scanned before the child or after it.
 */
static struct actor *merge_through_child(struct actor **parent,
					 struct actor **other, bool child_last)
{
	struct actor *child;

	*parent = spawn_filled("P", SIZE, 1);
	child = fork_actor(*parent, "C");
	*other = spawn_filled("O", SIZE, 1);
	mergeable(child_last ? *other : child, "a", 0, ALL_PAGES);
	mergeable(child_last ? child : *other, "a", 0, ALL_PAGES);
	observe("before ksmd");
	scan(2);
	observe("merged through the child");
	return child;
}

/*
 * A child's pages that its parent still maps may become KSM pages, and then no
 * rmap_item leads to the parent: an item holds the child's anon_vma, which does
 * not know of the parent since 2.6.34.  Reclaim takes them from all others and
 * leaves the parent's ptes, a known limit.  Nothing else may go wrong: bytes
 * stay, a write is a copy, and when the parent is gone the page is free.  If the
 * other one is met last its page is the KSM page, the parent keeps an ordinary
 * one, and all can go.
 */
WORKLOAD(blind_spot, "P22", "a child's pages merged while the parent maps them: the parent's stay, and only those")
{
	const size_t part = pages(SIZE) / 4;
	struct actor *parent, *other, *child;

	property("P22");
	child = merge_through_child(&parent, &other, true);
	keep(parent, "a", 0, ALL_PAGES);
	reclaim();
	observe("reclaimed");
	verify(child, "a", 0, ALL_PAGES);
	observe("the child is back");
	verify(other, "a", 0, part);
	verify(parent, "a", 0, ALL_PAGES);
	write_pages(parent, "a", part, part, 5000, 1);
	observe("the parent wrote");
	verify(child, "a", 0, ALL_PAGES);
	verify(other, "a", 0, ALL_PAGES);
	scan(2);
	observe("met again");
	exit_actor(child);
	exit_actor(other);
	scan(1);
	observe("the parent alone");
	ksm_try("max_page_sharing", "100");
	exit_actor(parent);
	scan(1);
	ksm_try("max_page_sharing", "100");
	observe("all gone");

	child = merge_through_child(&parent, &other, false);
	reclaim();
	observe("reclaimed");
	verify(parent, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(other, "a", 0, ALL_PAGES);
	observe("back");
}

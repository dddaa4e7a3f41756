// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

static const size_t size = 256 << 10;

static void take_down(struct actor *p1, struct actor *p2, struct actor *child)
{
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(2);
	observe("all gone");
}

/*
 * Migration has to find every pte of a page twice: to replace it by a migration
 * entry, and to put the new frame there.  Soft offline moves P1's KSM pages,
 * which P2 shares and a child has copied before ksmd met it: all three then map
 * the same new frames, still KSM, no counter has changed, and the old frames are
 * out of use.  The stable nodes have followed (folio_migrate_ksm): another
 * process with the same contents is merged with the moved pages, the child gets
 * its items, and reclaim swaps all of it out, but for what is locked: that moves
 * as well, and stays locked.
 */
WORKLOAD(soft_offlined, "P19", "a KSM page is moved to another frame with all its mappers")
{
	struct actor *p1, *p2, *p3, *child;
	const size_t n = pages(size);

	property("P19");
	merge_pair(&p1, &p2, size);
	scan(1);	/* brings ksmd's own references to an end (lru_add_drain_all) */
	child = fork_actor(p1, "C");
	observe("forked");
	soft_offline(p1, "a", 0, n / 2);
	soft_offline(child, "a", n / 2, n - n / 2);
	observe("moved");
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);

	p3 = spawn_filled("P3", size, 1);
	mergeable(p3, "a", 0, ALL_PAGES);
	scan(2);
	observe("scanned");
	lock_pages(p3, "a", 1, 2, true);
	lock_pages(p2, "a", 2, 1, true);
	soft_offline_frames(p3, "a", 0, 4);
	observe("moved again, by frame number, some that are locked");
	keep(p3, "a", 1, 2);
	keep(p2, "a", 1, 2);
	keep(p1, "a", 1, 2);
	keep(child, "a", 1, 2);
	reclaim();
	observe("locked ones are left");
	unlock_pages(p2, "a", 2, 1);
	observe("one lock is left");
	unlock_pages(p3, "a", 1, 2);
	reclaim();
	observe("reclaimed");
	verify(p3, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	observe("swapped in");
	exit_actor(p3);
	take_down(p1, p2, child);
}

/*
 * A page with a reference that migration cannot account for (it lies in a pipe)
 * stays where it is, for all its mappers, and is as it was; drained, it goes.
 */
WORKLOAD(migration_refused, "P19", "a migration that fails leaves all mappers as they were")
{
	struct actor *p1, *p2, *child;

	property("P19");
	merge_pair(&p1, &p2, size);
	scan(1);
	child = fork_actor(p2, "C");
	pin(p1, "a", 0, 2);
	observe("pinned");
	soft_offline(p1, "a", 0, 4);
	observe("two moved, two pinned");
	verify(child, "a", 0, ALL_PAGES);
	scan(1);
	observe("scanned");
	unpin(p1);
	soft_offline(p2, "a", 0, 2);
	observe("moved");
	reclaim();
	observe("reclaimed");
	verify(child, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	take_down(p1, p2, child);
}

/*
 * Of P2's pages, which nobody else maps, reclaim has taken the ptes, but a pipe
 * keeps the pages in the swap cache.  A child gets swap entries only; P2 reads,
 * and has the KSM pages back.  So one pte of two is swapped when the pages are
 * moved: the swap cache and the stable nodes must lead the child to the new
 * frames.
 */
WORKLOAD(migration_swapcache, "P19", "a KSM page is moved while some of its ptes are swapped")
{
	struct actor *p1, *p2, *child;
	const size_t some = 4 * page_size();

	property("P19");
	merge_pair(&p1, &p2, some);
	exit_actor(p1);
	scan(2);
	pin(p2, "a", 0, ALL_PAGES);
	pageout(p2, "a", 0, ALL_PAGES);
	child = fork_actor(p2, "C");
	read_pages(p2, "a", 0, ALL_PAGES);
	observe("back in P2, swapped in C");
	unpin(p2);
	soft_offline(p2, "a", 0, ALL_PAGES);
	observe("moved");
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	observe("back in C");
	reclaim();
	observe("reclaimed");
	verify(child, "a", 0, ALL_PAGES);
	exit_actor(p2);
	exit_actor(child);
	scan(2);
	observe("all gone");
}

/*
 * Compaction promises of no page that it moves, but if it does, then for all its
 * mappers, and the stable node goes along.
 */
WORKLOAD(compacted, "P19", "compaction moves KSM pages for all their mappers, or not at all")
{
	struct actor *p1, *p2, *child;

	property("P19");
	merge_pair(&p1, &p2, 4 * size);
	child = fork_actor(p1, "C");
	observe("forked");
	compact();
	observe("compacted");
	verify(child, "a", 0, ALL_PAGES);
	scan(1);
	observe("scanned");
	compact();
	observe("compacted again");
	reclaim();
	observe("reclaimed");
	verify(p2, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
	take_down(p1, p2, child);
}

/*
 * move_pages(2) to another NUMA node and back, asked for by one mapper: with
 * MPOL_MF_MOVE_ALL all go along, those that ksmd has not met too; with
 * MPOL_MF_MOVE a page that others map stays where it is.
 */
WORKLOAD(moved_between_nodes, "P19", "move_pages takes all mappers of a KSM page to another node")
{
	struct actor *p1, *p2, *child;
	const size_t n = pages(size);

	property("P19");
	if (!has_node(1))
		skip("one NUMA node only");
	if (!has_move_pages())
		skip("no move_pages (CONFIG_NUMA_MIGRATION)");
	merge_pair(&p1, &p2, size);
	child = fork_actor(p1, "C");
	observe("forked");
	move_pages_to(p1, "a", 0, n / 2, 1, true);
	move_pages_to(p2, "a", n / 2, n - n / 2, 1, false);
	observe("half moved");
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	scan(1);
	observe("scanned");
	move_pages_to(child, "a", 0, ALL_PAGES, 1, true);
	observe("all moved");
	pin(p2, "a", 0, 1);
	move_pages_to(p2, "a", 0, ALL_PAGES, 0, true);
	observe("back, but for a pinned one");
	unpin(p2);
	reclaim();
	observe("reclaimed");
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	take_down(p1, p2, child);
}

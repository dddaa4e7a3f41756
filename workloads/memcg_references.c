// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

static struct actor *p1, *p2, *forks[2];

/*
 * Of the first fifth nobody takes notice; the second one is used by P1, the
 * third by P1 and its fork, the fourth by P2 and its fork, the last by all.
 */
static void use(size_t part)
{
	struct actor *all[] = { p1, p2, forks[0], forks[1] };

	for (int i = 0; i < 4; i++)
		clear_refs(all[i]);
	touch_pages(p1, "a", part, 2 * part);
	touch_pages(forks[0], "a", 2 * part, part);
	touch_pages(p2, "a", 3 * part, part);
	touch_pages(forks[1], "a", 3 * part, part);
	for (int i = 0; i < 4; i++)
		touch_pages(all[i], "a", 4 * part, part);
	watch(p2, "a", 0, ALL_PAGES);
}

static void merge_again(void)
{
	verify(p1, "a", 0, ALL_PAGES);
	verify(forks[0], "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(forks[1], "a", 0, ALL_PAGES);
	scan(2);
}

/*
 * The vmas that an anon_vma leads to come in the order in which they were
 * forked, as they begin at the same vm_pgoff (interval_tree_generic.h: equal
 * keys go to the right).  So a fork in another memcg comes before one that
 * counts: it is to be passed over, and not to end the walk.
 */
static void pass_over_forks(size_t part)
{
	struct actor *foreign[2], *own[2];

	merge_pair(&p1, &p2, 5 * part * page_size());
	foreign[0] = fork_actor(p1, "F1");
	foreign[1] = fork_actor(p2, "F2");
	move_actor(foreign[0], "u");
	move_actor(foreign[1], "u");
	own[0] = fork_actor(p1, "C1");
	own[1] = fork_actor(p2, "C2");
	clear_refs(p1);
	clear_refs(p2);
	touch_pages(own[0], "a", part, part);
	touch_pages(own[1], "a", 2 * part, part);
	touch_pages(own[0], "a", 3 * part, part);
	touch_pages(own[1], "a", 3 * part, part);
	touch_pages(foreign[0], "a", 3 * part, 2 * part);
	touch_pages(foreign[1], "a", 4 * part, part);
	watch(p2, "a", 0, ALL_PAGES);
	reclaim();
	observe("forks in u before forks in t");
	verify(own[1], "a", 0, ALL_PAGES);
	verify(foreign[0], "a", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	for (int i = 0; i < 2; i++) {
		exit_actor(foreign[i]);
		exit_actor(own[i]);
	}
	scan(1);
}

/*
 * Reclaim on behalf of a memcg does not count the references of other memcgs,
 * but it unmaps their ptes all the same.  The pages are charged to "t".  With
 * all sharers in it all count; then P1 moves to "u", and its fork; then P2's
 * fork alone is there.  In the end the pages are charged to "u", and "t" is the
 * one that does not count.  Before that, forks in "u" stand in the way of
 * others.
 */
WORKLOAD(memcg_references, "P13", "references from other memcgs do not count, and their ptes are unmapped")
{
	const size_t part = pages(16 << 10);

	property("P13");
	second_memcg();
	merge_pair(&p1, &p2, 5 * part * page_size());
	forks[0] = fork_actor(p1, "C1");
	forks[1] = fork_actor(p2, "C2");
	use(part);
	reclaim();
	observe("all in t");

	merge_again();
	move_actor(p1, "u");
	move_actor(forks[0], "u");
	use(part);
	reclaim();
	observe("P1 and its fork in u");

	merge_again();
	move_actor(p1, "t");
	move_actor(forks[0], "t");
	move_actor(forks[1], "u");
	use(part);
	reclaim();
	observe("a fork in u");
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(forks[0]);
	exit_actor(forks[1]);
	scan(1);

	pass_over_forks(part);

	p1 = spawn_filled("P1", 5 * part * page_size(), 1);
	p2 = spawn_in("P2", "u");
	map_filled(p2, "a", 5 * part * page_size(), 1);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	scan(2);
	forks[0] = fork_actor(p1, "C1");
	forks[1] = fork_actor(p2, "C2");
	use(part);
	reclaim_memcg("u");
	observe("charged to u");
	verify(p1, "a", 0, ALL_PAGES);
	verify(forks[1], "a", 0, ALL_PAGES);
}

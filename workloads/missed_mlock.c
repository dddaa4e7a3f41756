// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

static const size_t size = 128 << 10;

/*
 * Both lock, then the count of locks is lost: soft offlining isolates the pages
 * and fails, as they are pinned, and what is put back on the unevictable list
 * starts at zero (mm/swap.c: lru_add_fn).  So when the second one unlocks, it is
 * taken for the last: PG_mlocked goes, though P1's vma is VM_LOCKED.
 */
static void lose_mlock(struct actor *p1, struct actor *p2)
{
	lock_pages(p1, "a", 0, ALL_PAGES, true);
	lock_pages(p2, "a", 0, ALL_PAGES, true);
	pin(p1, "a", 0, ALL_PAGES);
	putback(p1, "a", 0, ALL_PAGES);
	unpin(p1);
	observe("locked twice, put back");
	unlock_pages(p2, "a", 0, ALL_PAGES);
	observe("the lock is forgotten");
}

static void unlock_and_reclaim(struct actor *p1, struct actor *p2, struct actor *child)
{
	unlock_pages(p1, "a", 0, ALL_PAGES);
	reclaim();
	observe("unlocked and reclaimed");
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
}

/*
 * Three share the pages, and the one that ksmd's list has in the middle has
 * locked them.  The refusal has to end the whole walk, in whichever direction
 * the list is walked: one of the others may be unmapped, not both.
 */
static void stop_in_the_middle(void)
{
	struct actor *p1, *p2, *p3, *forks[2];

	merge_pair(&p1, &p2, size);
	p3 = spawn_filled("P3", size, 1);
	mergeable(p3, "a", 0, ALL_PAGES);
	scan(2);
	lose_mlock(p2, p1);
	forks[0] = fork_actor(p1, "C");
	forks[1] = fork_actor(p3, "D");
	move_actor(p2, "u");
	keep(p1, "a", 0, ALL_PAGES);
	keep(p2, "a", 0, ALL_PAGES);
	keep(forks[0], "a", 0, ALL_PAGES);
	keep(forks[1], "a", 0, ALL_PAGES);
	watch(p2, "a", 0, ALL_PAGES);
	reclaim();
	observe("reclaimed up to the lock in the middle");
	exit_actor(p3);
	exit_actor(forks[1]);
	unlock_and_reclaim(p2, p1, forks[0]);
}

/*
 * Reclaim looks at a page that is locked without being marked so.  The walk for
 * references meets the VM_LOCKED vma, sets PG_mlocked again, and has the page
 * kept in all its mappers.  What it found used on the way is not idle any more,
 * which such a page is still there to tell.  That walk leaves out the vmas of
 * other memcgs, so where the locked mapper is in another one the walk that unmaps
 * is the first to meet it: it has to stop there, set PG_mlocked, and leave that
 * pte alone.
 */
WORKLOAD(missed_mlock, "P10", "a lock that PG_mlocked tells nothing of is found by reclaim's walks")
{
	struct actor *p1, *p2, *child;
	bool idle = has_idle_tracking();

	property("P10");
	merge_pair(&p1, &p2, size);
	lose_mlock(p1, p2);
	scan(1);	/* drains the pagevecs: what waits there is not called idle */
	child = fork_actor(p2, "C");
	if (idle)
		idle_set(p1, "a", 0, ALL_PAGES);
	touch_pages(p2, "a", 0, pages(size / 2));
	keep(p1, "a", 0, ALL_PAGES);
	keep(p2, "a", 0, ALL_PAGES);
	keep(child, "a", 0, ALL_PAGES);
	watch(p2, "a", 0, ALL_PAGES);
	reclaim();
	if (idle)
		idle_read(p1, "a", 0, ALL_PAGES);
	observe("reclaimed in vain");
	unlock_and_reclaim(p1, p2, child);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(1);

	second_memcg();
	merge_pair(&p1, &p2, size);
	lose_mlock(p1, p2);
	child = fork_actor(p1, "C");
	move_actor(p1, "u");
	keep(p1, "a", 0, ALL_PAGES);
	keep(child, "a", 0, ALL_PAGES);
	watch(p2, "a", 0, ALL_PAGES);
	reclaim();
	observe("reclaimed up to the lock");
	unlock_and_reclaim(p1, p2, child);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(1);
	stop_in_the_middle();
}

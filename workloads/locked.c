// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

static const size_t size = 256 << 10;

static void reclaim_in_vain(struct actor *p1, struct actor *p2,
			    struct actor *child)
{
	for (int i = 0; i < 2; i++) {
		keep(p1, "a", 0, ALL_PAGES);
		keep(p2, "a", 0, ALL_PAGES);
		keep(child, "a", 0, ALL_PAGES);
		reclaim();
	}
}

/*
 * What lies in the swap cache, as it is pinned, is mapped again by one who has locked
 * these addresses meanwhile.
 */
static void lock_what_comes_back(void)
{
	struct actor *p1, *p2;

	merge_pair(&p1, &p2, size / 4);
	pin(p1, "a", 0, ALL_PAGES);
	reclaim();
	lock_pages(p2, "a", 0, ALL_PAGES, true);
	read_pages(p2, "a", 0, ALL_PAGES);
	observe("locked as it was mapped again");
	unlock_pages(p2, "a", 0, ALL_PAGES);
	observe("unlocked");
	exit_actor(p1);
	exit_actor(p2);
	scan(1);
}

/*
 * One locked mapping keeps a page for all its mappers.  Locked after the merge
 * it has to be with MLOCK_ONFAULT, as a plain mlock() of a writable area
 * populates it by writing, which breaks the KSM pages; or locked first and
 * merged after.  fork does not hand VM_LOCKED on.  Unlocked, all goes.
 */
WORKLOAD(locked, "P9", "a page that is locked in one of its mappers stays, in all of them")
{
	struct actor *p1, *p2, *child;

	property("P9");
	merge_pair(&p1, &p2, size);
	lock_pages(p1, "a", 0, ALL_PAGES, true);
	child = fork_actor(p1, "C");
	observe("locked after the merge");
	reclaim_in_vain(p1, p2, child);
	observe("reclaimed in vain");
	unlock_pages(p1, "a", 0, ALL_PAGES);
	reclaim();
	observe("unlocked and reclaimed");
	verify(p2, "a", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(1);

	p1 = spawn_filled("P1", size, 1);
	p2 = spawn_filled("P2", size, 1);
	lock_pages(p1, "a", 0, ALL_PAGES, false);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	scan(2);
	child = fork_actor(p2, "C");
	observe("locked before the merge");
	reclaim_in_vain(p1, p2, child);
	observe("reclaimed in vain");
	unlock_pages(p1, "a", 0, ALL_PAGES);

	lock_pages(p2, "a", 0, ALL_PAGES, false);
	observe("a plain mlock breaks KSM pages");
	unlock_pages(p2, "a", 0, ALL_PAGES);
	reclaim();
	observe("unlocked and reclaimed");
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(2);
	lock_what_comes_back();
}

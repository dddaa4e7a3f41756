// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/* Before 3.9 nothing but the end of its page takes a stable node away, and a page with an error is never freed. */
#define CONTENTS_OF_ITS_OWN 7000001

/*
 * A memory error in a page takes it from everyone who maps it: whoever touches
 * it after that gets SIGBUS, and with early kill on all are told at once.  First
 * in ordinary memory that a child shares.  Then in KSM pages of P1 and P2, with
 * a child that ksmd has not met: before 6.4 the kernel cannot handle these, and
 * must leave all mappers alone; since then it has to find all of them.
 */
WORKLOAD(poisoned, "P21", "a memory error in a KSM page reaches all its mappers, or none")
{
	struct actor *p1, *p2, *child, *later;
	const size_t size = 8 * page_size();

	property("P21");
	p1 = spawn_filled("P1", size, CONTENTS_OF_ITS_OWN);
	p2 = spawn_filled("P2", size, CONTENTS_OF_ITS_OWN);
	map_filled(p1, "b", 4 * page_size(), 1001);
	mergeable(p1, "a", 0, ALL_PAGES);
	mergeable(p2, "a", 0, ALL_PAGES);
	scan(3);
	child = fork_actor(p1, "C");
	observe("forked");

	hwpoison(p1, "b", 0, false);
	hwpoison(child, "b", 1, true);
	observe("errors in ordinary memory");
	verify(child, "b", 0, ALL_PAGES);
	verify(p1, "b", 0, ALL_PAGES);

	hwpoison(p1, "a", 0, false);
	observe("an error in a KSM page");
	hwpoison(child, "a", 1, true);
	hwpoison(p2, "a", 2, true);
	observe("two more, with early kill");
	verify(p2, "a", 0, ALL_PAGES);
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);

	later = fork_actor(child, "D");
	observe("forked again");
	scan(1);
	observe("scanned");
	verify(later, "a", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	exit_actor(later);
	scan(2);
	observe("all gone");
}

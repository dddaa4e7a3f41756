// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * A KSM page is never written: whoever writes gets a copy, even the last one to
 * map it, and everybody else keeps the old bytes; before the page was swapped,
 * while it is, and after; although mprotect() has just allowed it, and although
 * it is done by force, or by the kernel itself.
 */
WORKLOAD(cow, "P17", "a write to a merged page is seen by the writer only")
{
	const size_t n = pages(256 << 10), part = n / 4;
	struct actor *p1, *p2, *child;

	property("P17");
	merge_pair(&p1, &p2, n * page_size());
	child = fork_actor(p1, "C");
	observe("forked");

	write_pages(child, "a", 0, part, 5000, 1);
	observe("the fork wrote");
	grab_pages(p2, "a", 0, part / 2);
	observe("the kernel held P2's as if to write");
	protect(p1, "a", 0, part, "r");
	protect(p1, "a", 0, part, "rw");
	write_pages(p1, "a", 0, part, 6000, 1);
	observe("its parent wrote the same pages");
	protect(p2, "a", 3 * part, part / 2, "r");
	protect(p2, "a", 3 * part + part / 2, part - part / 2, "none");
	force_pages(p2, "a", 3 * part, part, 6500, 1);
	protect(p2, "a", 3 * part, part, "rw");
	observe("somebody wrote to P2's by force");

	reclaim();
	observe("reclaimed");
	write_pages(p2, "a", part, part, 7000, 1);
	observe("P2 wrote swapped pages");
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	write_pages(child, "a", 2 * part, part, 8000, 1);
	observe("the fork wrote swapped-in pages");
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);

	scan(2);
	observe("merged again");
	exit_actor(p2);
	exit_actor(child);
	observe("one mapper left");
	write_pages(p1, "a", 2 * part, 2 * part, 9000, 1);
	observe("the last mapper wrote");
	verify(p1, "a", 0, ALL_PAGES);
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define N 8
#define MANY 260	/* an item keeps 8 bits of the number of the scan that put it into the unstable tree */

static struct actor *p[3];
static const char *const names[] = { "P1", "P2", "P3" };

/* Three processes with the same pages, merged; then ksmd stops half way through P2. */
static void stop_in_the_middle(void)
{
	for (int i = 0; i < 3; i++) {
		p[i] = spawn_filled(names[i], N * page_size(), 1);
		mergeable(p[i], "a", 0, ALL_PAGES);
	}
	scan(2);
	observe_slab("merged");
	scan_pages(N + N / 2);
	observe("half scanned");
}

static void clean_up(void)
{
	for (int i = 0; i < 3; i++)
		if (p[i])
			exit_actor(p[i]);
	scan(2);
	observe_slab("all gone");
}

static void lose(int i)
{
	exit_actor(p[i]);
	p[i] = NULL;
}

/* New processes come right behind the cursor: ksmd meets them last. */
static void fork_at_the_cursor(void)
{
	struct actor *forks[3], *late;

	stop_in_the_middle();
	forks[0] = fork_actor(p[0], "C1");
	forks[1] = fork_actor(p[1], "C2");
	forks[2] = fork_actor(p[2], "C3");
	late = spawn_filled("L", N * page_size(), 1);
	mergeable(late, "a", 0, ALL_PAGES);
	scan_pages(N + N / 2);
	observe("P2 and P3 met");
	scan(1);
	observe("the scan's end");
	scan(2);
	observe("newcomers met");
	scan_pages(4 * N + N / 2);
	exit_actor(late);
	exit_actor(forks[1]);
	scan_pages(N / 2);
	observe("some gone again");
	exit_actor(forks[0]);
	exit_actor(forks[2]);
	clean_up();
}

/* The process at the cursor is ksmd's to clean up, others may go at once. */
static void exit_at_the_cursor(void)
{
	struct actor *bare;

	stop_in_the_middle();
	lose(1);
	observe_slab("P2 gone from under ksmd");
	scan_pages(N / 2);
	observe_slab("ksmd went on to P3");
	scan(1);
	observe("the scan's end");
	clean_up();

	stop_in_the_middle();
	bare = spawn("B");
	map_area(bare, "a", page_size());
	mergeable(bare, "a", 0, ALL_PAGES);
	lose(0);
	lose(2);
	exit_actor(bare);
	observe_slab("all but P2 gone");
	scan_pages(N / 2);
	observe_slab("P2 met to its end");
	scan(1);
	observe_slab("the scan's end");
	clean_up();

	stop_in_the_middle();
	exec_actor(p[1]);
	map_filled(p[1], "b", N * page_size(), 1);
	mergeable(p[1], "b", 0, ALL_PAGES);
	scan(1);
	observe("another program at the scan's end");
	scan(2);
	observe("and merged");
	clean_up();
}

/* Pages go that ksmd has met in this scan, and others that it has not. */
static void unmap_at_the_cursor(void)
{
	stop_in_the_middle();
	unmap_pages(p[1], "a", N / 4, N / 2);
	unmap_pages(p[0], "a", 0, 1);
	unmap_pages(p[2], "a", N - 1, 1);
	scan_pages(N / 4);
	observe("P2 met to its end");
	scan(1);
	observe("the scan's end");
	scan(1);
	observe("items dropped");
	clean_up();

	stop_in_the_middle();
	unmap_pages(p[1], "a", 0, ALL_PAGES);
	scan_pages(1);
	observe("nothing left to meet in P2");
	scan(1);
	observe("the scan's end");
	scan(1);
	observe("P2 forgotten");
	clean_up();
}

static void unmerge_at_the_cursor(void)
{
	struct actor *child;

	stop_in_the_middle();
	unmergeable(p[1], "a", 0, ALL_PAGES);
	observe("P2 unmerged");
	child = fork_actor(p[1], "C");
	scan(1);
	observe("the scan's end");
	verify(child, "a", 0, ALL_PAGES);
	scan(1);
	observe("P2 forgotten");
	mergeable(p[1], "a", 0, ALL_PAGES);
	scan(2);
	observe("P2 merged again");
	exit_actor(child);
	clean_up();

	stop_in_the_middle();
	child = fork_actor(p[1], "C");
	ksm_run(2);
	observe("all unmerged");
	ksm_run(1);
	scan_pages(N);
	scan(1);
	observe("met again, from the beginning");
	scan(1);
	observe("merged again");
	verify(child, "a", 0, ALL_PAGES);
	exit_actor(child);
	clean_up();

	stop_in_the_middle();
	lose(1);
	lose(2);
	ksm_run(2);
	observe_slab("all unmerged, and P2 gone from under ksmd");
	ksm_run(1);
	scan(1);
	observe_slab("P1 met again");
	clean_up();
}

/*
 * Nobody is merged with a page of which MADV_MERGEABLE was taken back meanwhile.
 * The other one waits on, scan after scan.
 */
static void unmerge_what_waits(void)
{
	for (int i = 0; i < 2; i++) {
		p[i] = spawn_filled(names[i], page_size(), 1);
		mergeable(p[i], "a", 0, ALL_PAGES);
	}
	p[2] = NULL;
	scan(1);
	scan_pages(1);
	observe("P1's page waits for its like");
	unmergeable(p[0], "a", 0, ALL_PAGES);
	scan(1);
	observe("the scan's end: nothing merged");
	scan(1);
	observe("P1 forgotten");
	scan_freely(MANY);
	observe("scanned many times");
	clean_up();
}

/* What waits for its like leaves the unstable tree with its process. */
static void exit_while_waiting(void)
{
	for (int i = 0; i < 2; i++) {
		p[i] = spawn_filled(names[i], N / 2 * page_size(), 1 + 100 * i);
		mergeable(p[i], "a", 0, ALL_PAGES);
	}
	p[2] = NULL;
	scan(1);
	scan_pages(N / 2);
	observe("P1's pages wait for their likes");
	lose(0);
	scan(1);
	observe("the scan's end");
	clean_up();
}

/* What is swapped out is passed over, and its items with it. */
static void reclaim_at_the_cursor(void)
{
	stop_in_the_middle();
	reclaim();
	observe("reclaimed");
	scan(1);
	observe("the scan's end");
	for (int i = 0; i < 3; i++)
		verify(p[i], "a", 0, ALL_PAGES);
	scan(2);
	observe("merged again");
	clean_up();
}

/*
 * With no process left ksmd waits for the first that registers, which wakes it for
 * a scan at once.
 */
static void come_first(void)
{
	if (!weigh_anchor())
		return;
	p[0] = spawn_filled(names[0], N * page_size(), 1);
	p[1] = p[2] = NULL;
	scan_by_first(p[0], "a", 0, ALL_PAGES);
	drop_anchor();
	observe("the first of all was met");
	p[1] = spawn_filled(names[1], N * page_size(), 1);
	mergeable(p[1], "a", 0, ALL_PAGES);
	scan(2);
	observe_slab("and merged with another");
	clean_up();
}

/*
 * ksmd scans in batches and sleeps in between, with its cursor in the middle of
 * a process.  What happens meanwhile must leave the cursor something to stand
 * on, and the rest of the scan as it was: forks and newcomers wait for the next
 * one; the process at the cursor exits, executes, unmaps or is unmerged.  And
 * who comes when there is nobody wakes it.
 */
WORKLOAD(half_scanned, "P14", "processes come, go and change at ksmd's cursor, in the middle of a scan")
{
	property("P14");
	fork_at_the_cursor();
	exit_at_the_cursor();
	unmap_at_the_cursor();
	unmerge_at_the_cursor();
	unmerge_what_waits();
	exit_while_waiting();
	reclaim_at_the_cursor();
	come_first();
}

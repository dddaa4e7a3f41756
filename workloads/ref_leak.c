// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <stdio.h>

/* Each area has an anon_vma of its own: many areas show a leak, not many pages. */
#define AREAS 4

/*
 * The ways by which an item leaves the stable tree.  As long as somebody else
 * maps the page each item is dropped by itself (remove_rmap_item_from_tree);
 * when the page has gone its node is stale, and takes all of its items along
 * (remove_node_from_stable_tree).
 */
enum path { UNMERGE, EXIT, WRITE, FORK, STALE, SWAP, FAILED_MERGE, PATHS };

static const char *const path_name[PATHS] = {
	"unmerge", "exit", "write", "fork", "stale", "swap", "failed merge",
};

static struct actor *spawn_sharer(const char *name)
{
	struct actor *a = spawn(name);
	char area[8];

	for (int i = 0; i < AREAS; i++) {
		snprintf(area, sizeof(area), "a%d", i);
		map_filled(a, area, 2 * page_size(), 1 + 2 * i);
	}
	return a;
}

static void for_areas(struct actor *a,
		      void (*what)(struct actor *, const char *, size_t, size_t))
{
	char area[8];

	for (int i = 0; i < AREAS; i++) {
		snprintf(area, sizeof(area), "a%d", i);
		what(a, area, 0, ALL_PAGES);
	}
}

static void rewrite(struct actor *a, const char *area, size_t first, size_t count)
{
	write_pages(a, area, first, count, 1000, 1);
}

/* From merging to nothing, through one of the paths that drop a reference. */
static void cycle(enum path path)
{
	struct actor *p1 = spawn_sharer("P1"), *p2 = spawn_sharer("P2");
	struct actor *child;

	if (path == FAILED_MERGE)
		for_areas(p1, pin);
	for_areas(p1, mergeable);
	for_areas(p2, mergeable);
	scan(2);
	switch (path) {
	case UNMERGE:
		for_areas(p1, unmergeable);
		scan(1);
		break;
	case EXIT:
		exit_actor(p1);
		scan(1);
		p1 = NULL;
		break;
	case WRITE:
		for_areas(p1, rewrite);
		scan(1);
		break;
	case FORK:
		child = fork_actor(p1, "C");
		scan(1);
		exit_actor(child);
		scan(1);
		break;
	case SWAP:
		reclaim();
		scan(1);
		break;
	case FAILED_MERGE:
		scan(1);
		break;
	case STALE:
	case PATHS:
		break;
	}
	if (p1)
		exit_actor(p1);
	exit_actor(p2);
	scan(2);
}

/*
 * For each item that leaves the stable tree its anon_vma must get its reference
 * back; else the anon_vma is never freed.  Each path by which items leave has a
 * batch of cycles of its own, and between the batches, when no process of the
 * test is left, the slab cache must have as many objects as at the start.
 * "cycles" makes it a soak.
 */
WORKLOAD(ref_leak, "P6", "each reference that an rmap_item takes on an anon_vma is given back")
{
	long cycles = arg_number("cycles", 2);

	property("P6");
	cycle(STALE);	/* what is allocated once and for all */
	observe_slab("start");
	for (enum path path = 0; path < PATHS; path++) {
		for (long i = 0; i < cycles; i++)
			cycle(path);
		observe_slab(path_name[path]);
	}
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <stdio.h>

#define SIZE (128ul << 10)

static struct actor *sharers[6];

/* Three on each node, in turns. */
static void spawn_sharers(void)
{
	char name[8];

	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "%c%d", i & 1 ? 'B' : 'A', i);
		sharers[i] = spawn(name);
		map_area(sharers[i], "a", SIZE);
		bind_pages(sharers[i], "a", 0, ALL_PAGES, i & 1);
		fill(sharers[i], "a", 0, ALL_PAGES, 1, 1);
		mergeable(sharers[i], "a", 0, ALL_PAGES);
	}
}

/*
 * Afterwards one content is on both nodes, and another twice on the second one,
 * whose pages meet in the unstable tree either way.
 */
static void share(void)
{
	struct actor *child;

	spawn_sharers();
	scan(2);
	observe("merged");
	child = fork_actor(sharers[1], "C");
	reclaim();
	observe("reclaimed");
	verify(child, "a", 0, ALL_PAGES);
	for (int i = 0; i < 6; i++)
		verify(sharers[i], "a", 0, ALL_PAGES);
	observe("back");
	scan(2);
	observe("merged again");
	write_pages(sharers[2], "a", 0, ALL_PAGES, 1000, 1);
	write_pages(sharers[5], "a", 0, ALL_PAGES, 1000, 1);
	write_pages(sharers[1], "a", 0, ALL_PAGES, 2000, 1);
	write_pages(sharers[3], "a", 0, ALL_PAGES, 2000, 1);
	scan(2);
	observe("other contents merged");
	for (int i = 0; i < 6; i++)
		exit_actor(sharers[i]);
	exit_actor(child);
	scan(2);
	observe("all gone");
}

/*
 * With merge_across_nodes=0 there is a stable and an unstable tree for each NUMA
 * node, and a content has a page on each node that has it; with 1 one page
 * serves all.
 */
WORKLOAD(numa_nodes, "P20", "merge_across_nodes: one page for each node and content, or one for all")
{
	property("P20");
	if (memory_nodes() < 2)
		skip("the guest has one NUMA node");
	share();
	ksm_set("merge_across_nodes", "0");
	share();
	ksm_set("stable_node_chains_prune_millisecs", "0");
	ksm_set("max_page_sharing", "2");
	share();
	ksm_set("merge_across_nodes", "1");
}

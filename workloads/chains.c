// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <stdio.h>

#define MOST 8

static struct actor *sharers[MOST];

static void spawn_sharers(int count, size_t npages)
{
	char name[8];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "S%d", i);
		sharers[i] = spawn_filled(name, npages * page_size(), 1);
		mergeable(sharers[i], "a", 0, ALL_PAGES);
	}
}

static void exit_sharers(int count)
{
	for (int i = 0; i < count; i++)
		if (sharers[i])
			exit_actor(sharers[i]);
	scan(2);
	observe_slab("all gone");
}

static void lose_sharer(int i)
{
	exit_actor(sharers[i]);
	sharers[i] = NULL;
}

/* Five sharers where two are allowed to a page: chains, and forks beyond them. */
static void share_in_chains(size_t npages)
{
	struct actor *child, *forks[2];

	spawn_sharers(5, npages);
	scan(2);
	observe_slab("two pages, and one that waits");
	child = fork_actor(sharers[1], "C");
	scan(1);
	observe("a fork goes beyond the limit");
	ksm_try("max_page_sharing", "3");
	ksm_try("merge_across_nodes", "0");
	forks[0] = fork_actor(sharers[1], "D1");
	forks[1] = fork_actor(sharers[3], "D2");
	reclaim();
	observe("reclaimed, with forks that ksmd has not met");
	exit_actor(forks[0]);
	exit_actor(forks[1]);
	scan(1);
	observe("chains without pages");
	for (int i = 0; i < 5; i++)
		verify(sharers[i], "a", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	scan(3);
	observe("merged again");
	exit_actor(child);
	exit_sharers(5);
}

/* One content, so that no other search meets the chain: all counts are exact. */
static void lose_owners(void)
{
	struct actor *late;

	spawn_sharers(7, 1);
	scan(2);
	observe("three pages, and one that waits");
	lose_sharer(2);
	lose_sharer(3);
	scan(1);
	observe("the page in the middle is gone");
	lose_sharer(0);
	scan(1);
	observe("one page has room for the one that waits");
	lose_sharer(1);
	lose_sharer(6);
	lose_sharer(5);
	scan(2);
	observe("one item left, and a page without");
	late = spawn_filled("L", page_size(), 1);
	mergeable(late, "a", 0, ALL_PAGES);
	scan(2);
	observe("the chain is no more");
	verify(late, "a", 0, ALL_PAGES);
	exit_actor(late);
	exit_sharers(7);
}

/* Which of several pages gets the next sharer: the fullest that has room. */
static void choose_page(void)
{
	struct actor *late;

	ksm_set("max_page_sharing", "4");
	spawn_sharers(8, 1);
	scan(2);
	observe("two pages of four");
	lose_sharer(0);
	lose_sharer(4);
	lose_sharer(5);
	scan(1);
	observe("one has three items, one has two");
	late = spawn_filled("L", page_size(), 1);
	mergeable(late, "a", 0, ALL_PAGES);
	scan(2);
	observe("the fullest has got another");
	reclaim();
	observe("reclaimed");
	verify(late, "a", 0, ALL_PAGES);
	exit_actor(late);
	exit_sharers(8);
}

/*
 * A KSM page that no item leads to is still somebody's: Q's, which was never
 * mergeable, and whose fork has let ksmd have its page.  The tree cannot be
 * emptied then.
 */
static void stay_for_a_stranger(void)
{
	struct actor *q, *p, *child;

	q = spawn_filled("Q", page_size(), 1);
	p = spawn_filled("P", page_size(), 1);
	mergeable(p, "a", 0, ALL_PAGES);
	child = fork_actor(q, "C");
	mergeable(child, "a", 0, ALL_PAGES);
	scan(2);
	observe("merged, with Q's page");
	exit_actor(p);
	exit_actor(child);
	scan(1);
	observe("only Q has it");
	ksm_try("max_page_sharing", "5");
	ksm_try("merge_across_nodes", "0");
	ksm_run(2);
	ksm_try("max_page_sharing", "5");
	observe("unmerged, and Q still has it");
	ksm_run(1);
	verify(q, "a", 0, ALL_PAGES);
	exit_actor(q);
	ksm_try("max_page_sharing", "5");
	observe("nobody has it");
}

/*
 * max_page_sharing limits the items of one KSM page, so that walks stay short:
 * a content that more share gets several pages, in a chain.  Forks go beyond
 * the limit.  Chains are pruned when a search passes them, and a chain of one
 * page is made a plain node again.  The limit can only be set while nothing is
 * merged and no KSM page is mapped.
 */
WORKLOAD(chains, "P20", "max_page_sharing: chains of pages with one content, their growth, pruning and reclaim")
{
	property("P20");
	ksm_set("stable_node_chains_prune_millisecs", "0");
	ksm_try("max_page_sharing", "1");
	ksm_try("merge_across_nodes", "2");
	ksm_try("max_page_sharing", "2");
	share_in_chains(pages(128 << 10));
	ksm_try("max_page_sharing", "3");	/* takes away chains without pages */
	ksm_try("max_page_sharing", "2");
	share_in_chains(1);
	lose_owners();
	choose_page();
	stay_for_a_stranger();

	/* As most kernels have it: nothing is pruned for a while, here for long. */
	ksm_set("stable_node_chains_prune_millisecs", "1000000000");
	ksm_set("max_page_sharing", "2");
	lose_owners();
}

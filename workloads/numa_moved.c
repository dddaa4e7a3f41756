// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define MOST 5

/*
 * A process with one content in some pages of two areas: a's begin on node 0,
 * b's on node 1.  ksmd comes to them in this order.
 */
static struct actor *p;

static void place(const char *area, size_t count, int node)
{
	map_area(p, area, MOST * page_size());
	bind_pages(p, area, 0, ALL_PAGES, node);
	fill(p, area, 0, count, 1, 0);
	mergeable(p, area, 0, ALL_PAGES);
}

static void begin(size_t na, size_t nb)
{
	p = spawn("P");
	place("a", na, 0);
	place("b", nb, 1);
	scan(2);
}

static void end(void)
{
	exit_actor(p);
	scan(1);
}

static void add(const char *area, size_t page)
{
	fill(p, area, page, 1, 1, 0);
}

static void drop(const char *area, size_t page)
{
	unmap_pages(p, area, page, 1);
}

static void move_to_node(const char *area, size_t page, int node)
{
	move_pages_to(p, area, page, 1, node, true);
}

static void scan_and_observe(const char *label)
{
	scan(1);
	observe(label);
}

/* Pages of area a that no walk finds are left. */
static void reclaim_and_verify(bool all_of_a, size_t na, size_t nb)
{
	if (!all_of_a)
		keep(p, "a", 0, ALL_PAGES);
	reclaim();
	observe("reclaimed");
	verify(p, "a", 0, na);
	verify(p, "b", 0, nb);
}

/*
 * The content is new on the other node: the page's stable node goes into the
 * tree there with all its items, and who comes later on that node shares it.
 * On the node that it left, the content gets another page.  Several contents,
 * and more than one process.
 */
static void move_to_new_place(void)
{
	const size_t size = 8 * page_size();
	struct actor *p1, *p2, *child;

	merge_pair(&p1, &p2, size);
	child = fork_actor(p1, "C");
	move_pages_to(p2, "a", 0, ALL_PAGES, 1, true);
	observe("moved");
	scan_and_observe("in the other tree");
	map_area(p1, "b", size);
	bind_pages(p1, "b", 0, ALL_PAGES, 1);
	fill(p1, "b", 0, ALL_PAGES, 1, 1);
	mergeable(p1, "b", 0, ALL_PAGES);
	for (int i = 0; i < 2; i++) {
		map_filled(p2, i ? "d" : "c", size, 1);
		mergeable(p2, i ? "d" : "c", 0, ALL_PAGES);
	}
	scan(2);
	observe("later ones merged, on each node for itself");
	move_pages_to(p1, "b", 0, ALL_PAGES, 0, true);
	scan_and_observe("back, beside the other page");
	reclaim();
	observe("reclaimed");
	verify(child, "a", 0, ALL_PAGES);
	verify(p1, "b", 0, ALL_PAGES);
	verify(p2, "c", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(2);
	observe("all gone");
}

/*
 * The other node has the content already.  A page with several ptes hangs in a
 * chain with the one that is there.
 */
static void move_to_counterpart(void)
{
	begin(2, 2);
	move_to_node("a", 0, 1);
	scan_and_observe("in a chain");
	scan(1);
	add("b", 2);
	scan(2);
	observe("another has come");
	reclaim_and_verify(true, 2, 3);
	end();
}

/*
 * A page with one pte is to be merged with the one that is there.  But a KSM
 * page cannot be (write_protect_page finds no anon_vma), and so its stable node
 * loses its item and waits on migrate_nodes: no walk finds the page any more.
 */
static void lose_item(void)
{
	begin(2, 2);
	drop("a", 1);
	move_to_node("a", 0, 1);
	scan_and_observe("not merged on the other node");
}

static void wait_for_place(void)
{
	lose_item();
	scan_and_observe("and so it stays");
	move_to_node("a", 0, 0);
	reclaim_and_verify(false, 1, 2);
	scan_and_observe("its place is free, and taken");
	scan_and_observe("merged again");
	end();

	lose_item();
	drop("a", 0);
	scan(1);
	observe_slab("gone while it waited");
	end();

	lose_item();
	ksm_run(2);
	observe_slab("unmerged while it waited");
	ksm_run(1);
	end();
}

/*
 * The same in a fork.  Its items were made for KSM pages and never had a
 * checksum, so that one that is lost is not put into the unstable tree at once.
 */
static void wait_in_fork(void)
{
	struct actor *child;

	begin(2, 2);
	child = fork_actor(p, "C");
	scan(1);
	exit_actor(p);
	p = child;
	drop("a", 1);
	move_to_node("a", 0, 1);
	scan_and_observe("not merged on the other node");
	drop("b", 0);
	drop("b", 1);
	scan_and_observe("its place is free, and taken");
	scan_and_observe("it has its item again");
	end();
}

/* A page that waits keeps the trees as they are, though nothing is shared. */
static void refuse_other_trees(void)
{
	lose_item();
	scan_pages(1);
	drop("b", 0);
	drop("b", 1);
	scan_and_observe("only the page that waits is left");
	ksm_try("merge_across_nodes", "1");
	drop("a", 0);
	ksm_try("merge_across_nodes", "1");
	observe_slab("one tree for all");
	ksm_try("merge_across_nodes", "0");
	end();
}

/*
 * Two pages change places.  ksmd meets the one with one pte first, while the
 * other's stable node still is in the tree of the node that it has left: its
 * place is taken, and it finds another in the other tree.
 */
static void change_places(bool waiting)
{
	if (waiting) {
		lose_item();
	} else {
		begin(2, 2);
		drop("a", 1);
		scan(1);
		move_to_node("a", 0, 1);
	}
	move_to_node("b", 0, 0);
	scan_and_observe("places changed");
	scan(1);
	add("a", 2);
	add("b", 2);
	scan(2);
	observe("later ones merged");
	move_to_node("a", 0, 0);
	move_to_node("b", 0, 1);
	scan_and_observe("changed again");
	if (!waiting)
		reclaim_and_verify(true, 1, 3);
	end();
}

/* The other is gone before it has found its place. */
static void leave_halfway(void)
{
	begin(2, 2);
	drop("a", 1);
	scan(1);
	move_to_node("a", 0, 1);
	move_to_node("b", 0, 0);
	scan_pages(1);
	observe("one has taken the other's place");
	drop("b", 0);
	drop("b", 1);
	scan(1);
	observe_slab("the other is gone");
	end();
}

/* The same, but it is an ordinary page that looks for its content. */
static void meet_displaced(void)
{
	begin(1, 2);
	move_to_node("a", 0, 1);
	move_to_node("b", 0, 0);
	scan_and_observe("each on its own node");
	add("a", 1);
	scan(2);
	observe("one has come to the page that was displaced");
	end();
}

/*
 * The same in a chain of two pages, of which one has room and has left for the
 * other node.
 */
static void change_places_in_chain(bool waiting)
{
	begin(2, 4);
	drop("a", 1);
	drop("b", 3);
	scan_and_observe("one pte left here, room there");
	move_to_node("a", 0, 1);
	if (waiting)
		scan_and_observe("not merged on the other node");
	move_to_node("b", 2, 0);
	scan_and_observe("places changed");
	scan(1);
	add("b", 4);
	scan(2);
	observe("one more");
	move_to_node("a", 0, 0);
	scan_and_observe("back");
	end();
}

/* All pages of the chain are full: there is nothing to be merged with. */
static void find_chain_full(void)
{
	begin(2, 4);
	drop("a", 1);
	scan(1);
	move_to_node("a", 0, 1);
	scan_and_observe("no room");
	scan_and_observe("still none");
	drop("b", 2);
	scan(2);
	observe("room for one");
	end();
}

static void meet_displaced_in_chain(void)
{
	begin(1, 4);
	drop("b", 3);
	scan(1);
	move_to_node("a", 0, 1);
	move_to_node("b", 2, 0);
	scan_and_observe("each on its own node");
	end();
}

/*
 * Only one page of a chain is left, so that it takes the chain's place in the
 * tree when it is found: it gets a new chain, or has to leave for the other node.
 */
static void meet_last_of_chain(bool displaced)
{
	begin(2, 4);
	drop("b", 3);
	if (displaced)
		drop("a", 1);
	scan(1);
	drop("b", 0);
	drop("b", 1);
	move_to_node("a", 0, 1);
	if (displaced)
		move_to_node("b", 2, 0);
	scan_and_observe("the chain is no more, or is another");
	scan_and_observe("and so it stays");
	end();
}

/*
 * A page is moved while it waits in the unstable tree for its like: who meets it
 * there leaves it alone, and the next scan has each on its own node.
 */
static void move_out_of_unstable_tree(void)
{
	p = spawn("P");
	place("a", 3, 0);
	scan(1);
	scan_pages(1);
	move_to_node("a", 0, 1);
	scan_and_observe("two have met one that is on the other node");
	scan_and_observe("and merged without it");
	move_to_node("a", 0, 0);
	scan_and_observe("merged with it");
	end();
}

/*
 * With merge_across_nodes=0 there is a stable tree for each NUMA node, and a
 * KSM page that is moved to another node belongs into another tree.  ksmd sees
 * to that when it meets the page: its stable node leaves the one tree for the
 * list migrate_nodes, and looks for its place in the other.
 */
WORKLOAD(numa_moved, "P20", "merge_across_nodes=0: KSM pages that are moved to another node change trees")
{
	property("P20");
	if (memory_nodes() < 2)
		skip("the guest has one NUMA node");
	if (!has_move_pages())
		skip("no move_pages (CONFIG_NUMA_MIGRATION)");
	ksm_set("merge_across_nodes", "0");
	ksm_set("stable_node_chains_prune_millisecs", "0");
	observe_slab("nothing yet");
	move_out_of_unstable_tree();
	move_to_counterpart();
	wait_for_place();
	wait_in_fork();
	refuse_other_trees();
	change_places(false);
	change_places(true);
	leave_halfway();
	meet_displaced();
	ksm_set("max_page_sharing", "2");
	move_to_counterpart();
	change_places_in_chain(false);
	change_places_in_chain(true);
	find_chain_full();
	meet_displaced_in_chain();
	meet_last_of_chain(false);
	meet_last_of_chain(true);
	ksm_set("max_page_sharing", "256");
	move_to_new_place();
	ksm_set("merge_across_nodes", "1");
	observe_slab("nothing is left");
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#define SIZE (256ul << 10)

/* A merged area is moved, while a fork and ksmd's items know the old address. */
static void move_merged(void)
{
	struct actor *p1, *p2, *child;

	merge_pair(&p1, &p2, SIZE);
	child = fork_actor(p1, "C");
	move_to(p1, "a", 0, ALL_PAGES, "m");
	observe("moved");
	look_at_vmas(p1, "m");
	reclaim();
	observe("reclaimed with items at the old address");
	verify(p1, "m", 0, ALL_PAGES);
	verify(child, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	exit_actor(child);

	/* Here vm_pgoff is still that of the old address. */
	scan(2);
	observe("merged at the new address");
	child = fork_actor(p1, "C");
	move_to(child, "m", 0, pages(SIZE) / 2, "n");
	observe("half moved in the fork");
	reclaim();
	observe("reclaimed, found by address");
	verify(child, "m", pages(SIZE) / 2, ALL_PAGES);
	verify(child, "n", 0, ALL_PAGES);
	verify(p1, "m", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(2);
}

/* A merged area is moved, and other pages come to where it was, and stays. */
static void move_and_stay(void)
{
	struct actor *p1, *p2, *child;

	merge_pair(&p1, &p2, SIZE / 2);
	child = fork_actor(p1, "C");
	if (move_out(p1, "a", "m")) {
		observe("moved, and the old place is left");
		look_at_vmas(p1, "a");
		look_at_vmas(p1, "m");
		fill(p1, "a", 0, ALL_PAGES, 1, 1);
		scan(2);
		observe("merged in both places");
		reclaim();
		observe("reclaimed");
		verify(p1, "a", 0, ALL_PAGES);
		verify(p1, "m", 0, ALL_PAGES);
		verify(child, "a", 0, ALL_PAGES);
		verify(p2, "a", 0, ALL_PAGES);
	}
	exit_actor(p1);
	exit_actor(p2);
	exit_actor(child);
	scan(2);
}

/* Other pages come to where KSM pages were, before ksmd has noticed. */
static void move_over(void)
{
	const size_t n = pages(SIZE) / 2;
	struct actor *p[2];

	for (int i = 0; i < 2; i++) {
		p[i] = spawn_filled(i ? "P2" : "P1", n * page_size(), 1);
		map_filled(p[i], "b", n * page_size(), 1000);
		mergeable(p[i], "a", 0, ALL_PAGES);
		mergeable(p[i], "b", 0, ALL_PAGES);
	}
	scan(2);
	observe("two areas merged");
	move_to(p[0], "b", 0, ALL_PAGES, "a");
	observe("b over a");
	keep(p[0], "b", 0, ALL_PAGES);
	scan(1);
	observe("met by ksmd");
	verify(p[0], "a", 0, ALL_PAGES);

	/* Fresh memory where KSM pages were, in the middle of the vma. */
	renew_pages(p[0], "a", n / 4, n / 2);
	fill(p[0], "a", n / 4, n / 2, 1 + n / 4, 1);
	reclaim();
	observe("reclaimed with items at fresh memory");
	verify(p[0], "a", 0, ALL_PAGES);
	verify(p[1], "a", 0, ALL_PAGES);
	verify(p[1], "b", 0, ALL_PAGES);
	mergeable(p[0], "a", 0, ALL_PAGES);
	scan(2);
	observe("fresh memory merged");
	verify(p[0], "a", 0, ALL_PAGES);
	exit_actor(p[0]);
	exit_actor(p[1]);
	scan(2);
}

/* Areas grow and shrink where they are, and lose parts. */
static void resize_and_unmap(void)
{
	const size_t n = pages(SIZE);
	struct actor *p1, *p2, *child;

	merge_pair(&p1, &p2, SIZE);
	resize_area(p1, "a", 2 * SIZE);
	resize_area(p2, "a", 2 * SIZE);
	observe("grown");
	look_at_vmas(p1, "a");
	fill(p1, "a", n, n, 2000, 1);
	fill(p2, "a", n, n, 2000, 1);
	scan(2);
	observe("what was added is merged");
	child = fork_actor(p1, "C");
	resize_area(p1, "a", SIZE / 2);
	observe("shrunk in the parent");
	unmap_pages(p2, "a", n / 4, n / 2);
	unmap_pages(child, "a", 0, n / 4);
	unmap_pages(child, "a", n, n / 2);
	observe("parts unmapped");
	reclaim();
	observe("reclaimed");
	scan(1);
	observe("items dropped");
	verify(p1, "a", 0, ALL_PAGES);
	verify(child, "a", n / 4, n / 2);
	verify(p2, "a", 0, n / 4);
	unmap_pages(p2, "a", 0, ALL_PAGES);
	scan(2);
	observe("merged without P2");
	reclaim();
	observe("reclaimed again");
	verify(child, "a", n / 4, n / 2);
}

/*
 * mremap() breaks KSM pages before it moves them, for at the new address they
 * would belong to no rmap_item.  The items stay at the old address until ksmd
 * comes by; they still lead to a fork that stayed there, and must not be taken
 * for items of what has come there since.  A vma that was moved has the vm_pgoff
 * of its old address, so KSM pages in it are only found by address.  Growing,
 * shrinking and unmapping leave the other pages merged.
 */
WORKLOAD(remap, "P11", "mremap and munmap of merged areas: no page is lost, none is mistaken for another")
{
	property("P11");
	move_merged();
	move_and_stay();
	move_over();
	resize_and_unmap();
}

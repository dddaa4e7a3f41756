// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/* The ways in which an owner's last vma can go away. */
enum way { EXIT, MUNMAP, EXEC };

static void lose_owner(enum way way, unsigned int churns)
{
	const size_t size = 128 << 10;
	struct actor *p1, *p2;

	merge_pair(&p1, &p2, size);
	switch (way) {
	case EXIT:
		exit_actor(p1);
		break;
	case MUNMAP:
		unmap_pages(p1, "a", 0, ALL_PAGES);
		break;
	case EXEC:
		exec_actor(p1);
		break;
	}
	churn(churns);
	reclaim();
	observe("reclaimed");
	verify(p2, "a", 0, ALL_PAGES);
	scan(1);
	if (way != EXIT)
		exit_actor(p1);
	exit_actor(p2);
	scan(1);
}

/*
 * An rmap_item's reference alone keeps its anon_vma: the owner's last vma goes
 * away by exit, munmap or exec, and other processes take and give back as many
 * anon_vmas as they can, so that one that was freed too early is used again.
 * Then reclaim walks the items.  "rounds" and "churn" make it a soak.
 */
WORKLOAD(anon_vma_life, "P5", "an rmap_item keeps its anon_vma alive after the owner's last vma is gone")
{
	long rounds = arg_number("rounds", 1);
	long churns = arg_number("churn", 32);

	property("P5");
	for (long i = 0; i < rounds; i++) {
		lose_owner(EXIT, churns);
		lose_owner(MUNMAP, churns);
		lose_owner(EXEC, churns);
	}
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <time.h>

/* One roam, and then the judgement of what it left, while all stand still. */
static void round_of(unsigned int ms)
{
	roam(ms);
	leash();
	observe_census("roamed");
	crowd_verify();
	settle();
	observe_census("settled");
	crowd_mergeable();
	ksm_run(2);
	observe_census("unmerged");
	settle();
	observe_census("all mergeable");
	reclaim();
	observe_census("reclaimed");
	crowd_verify();
}

/*
 * Unrelated processes on private pages with few contents write, read, fork,
 * exit, unmap, move, lock, pin and (un)merge all at once, while ksmd runs free,
 * their pages are swapped out and migrated, and ksmd is stopped, started and
 * told to unmerge.  After each round all stand still, and every byte must be as
 * each one's book has it, every counter as the census of all ptes has it; with
 * all of them mergeable and scanned, reclaim must get everything.  When a crowd
 * has exited, nothing may be left of it: no item, no anon_vma, no page, no swap
 * slot.
 *
 * "seconds" is how long they roam in all, "ms" one round, "lives" how many of
 * them a crowd lives for, "processes" its size, "seed" what the dice start from.
 */
WORKLOAD_ON_REQUEST(soak, "P1 P5 P6 P14 P15 P16 P17 P18", "races: everything at once on free running CPUs, judged when all stand still")
{
	long ms = arg_number("ms", 1500), rounds = arg_number("lives", 3);
	long left = 1000 * arg_number("seconds", 20);
	struct crowd_plan plan = {
		.processes = arg_number("processes", 6),
		.bytes = arg_number("bytes", 512 << 10),
		.seed = arg_number("seed", time(NULL)),
	};

	note("seed=%llu", (unsigned long long)plan.seed);
	/* A first crowd for what is allocated once and for all. */
	gather_crowd(&plan);
	roam(ms / 4);
	crowd_exit();
	settle();
	observe_census("start");
	while (left > 0) {
		plan.seed = plan.seed * 6364136223846793005u + 1442695040888963407u;
		gather_crowd(&plan);
		for (long i = 0; i < rounds && left > 0; i++, left -= ms)
			round_of(ms);
		crowd_exit();
		settle();
		observe_census("all exited");
	}
}

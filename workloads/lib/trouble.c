// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * While the crowd roams: processes that have the kernel reclaim and migrate its
 * pages, and that turn ksmd's knobs.  What fails is left: all of it is allowed
 * to, at times.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"
#include "roam.h"

#define NODES "/sys/devices/system/node"
#define MOVE_PAGES 32
#define MPOL_MF_MOVE_ALL 4

const char *const trouble_names[TROUBLES] = {
	"reclaims", "compactions", "moves", "scan_rates", "stops", "unmerges",
	"limits",
};

static void count(enum trouble what)
{
	__atomic_fetch_add(&crowd->troubles[what], 1, __ATOMIC_RELAXED);
}

static void put(const char *path, unsigned int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	write_file(path, text);
}

static void reclaim_some(uint64_t *seed)
{
	memcg_reclaim(MEMCG_NAME, (64 << 10) << dice(seed, 8));
	count(RECLAIMS);
	usleep(1000 + dice(seed, 20000));
}

/* Pages of some roamer to some node, whoever else maps them. */
static void move_some(uint64_t *seed)
{
	struct roamer *r = &crowd->roamers[dice(seed, ROAMERS)];
	unsigned long addr = r->books[dice(seed, ROAM_AREAS)].addr;
	int nodes[MOVE_PAGES], status[MOVE_PAGES];
	void *where[MOVE_PAGES];
	int node = dice(seed, 2);

	if (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) != ROAMING || !r->pid)
		return;
	for (int i = 0; i < MOVE_PAGES; i++) {
		where[i] = (char *)addr + dice(seed, crowd->npages) * page_size();
		nodes[i] = node;
	}
	syscall(SYS_move_pages, r->pid, MOVE_PAGES, where, nodes, status,
		MPOL_MF_MOVE_ALL);
	count(MOVES);
}

static void migrate_some(uint64_t *seed)
{
	static int nodes;

	if (!nodes)
		nodes = access(NODES "/node1", F_OK) ? 1 : 2;
	if (nodes == 2 && dice(seed, 8)) {
		move_some(seed);
		usleep(dice(seed, 3000));
		return;
	}
	put("/proc/sys/vm/compact_memory", 1);
	count(COMPACTIONS);
	usleep(20000 + dice(seed, 100000));
}

static void set_scan_rate(uint64_t *seed)
{
	put(KSM_DIR "/pages_to_scan", 10 << dice(seed, 9));
	put(KSM_DIR "/sleep_millisecs", dice(seed, 6));
	count(SCAN_RATES);
}

/* max_page_sharing can be changed while nothing is shared, hence after run=2. */
static void turn_knobs(uint64_t *seed)
{
	static const unsigned int limits[] = { 2, 3, 8, 256 };

	switch (dice(seed, 8)) {
	case 0:
		put(KSM_DIR "/run", 0);
		count(STOPS);
		usleep(dice(seed, 20000));
		break;
	case 1:
		put(KSM_DIR "/run", 2);
		count(UNMERGES);
		if (dice(seed, 2)) {
			put(KSM_DIR "/max_page_sharing", limits[dice(seed, 4)]);
			count(LIMITS);
		}
		break;
	}
	set_scan_rate(seed);
	put(KSM_DIR "/run", 1);
	usleep(20000 + dice(seed, 200000));
}

pid_t start_troublemaker(int which, uint64_t seed)
{
	static void (*const makers[TROUBLEMAKERS])(uint64_t *) = {
		reclaim_some, migrate_some, turn_knobs,
	};
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!__atomic_load_n(&crowd->stop, __ATOMIC_ACQUIRE))
		makers[which](&seed);
	_exit(0);
}

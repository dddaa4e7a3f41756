// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Active pages, for kernels whose reclaim of a memcg leaves some of them alone:
 * those that had anonymous pages begin as active ones (before 5.9), and those that
 * go by counters which are never brought up to date.
 *
 * Active pages are only made inactive, and so reclaimed, where the memcg's
 * counters of its lruvec have fewer inactive than active ones (mm/vmscan.c:
 * inactive_is_low).  Before 5.15 each CPU keeps back up to MEMCG_CHARGE_BATCH (32)
 * pages of either counter (include/linux/memcontrol.h: __mod_lruvec_state) and
 * nothing makes it give them up, so that two dozen active pages of a memcg stay
 * for ever on a correct kernel.  And with counters that are right (4.4:
 * mem_cgroup_get_lru_size) inactive pages that nobody can free, as they are pinned
 * or as others map them, keep as many active ones from being looked at.  With more
 * active ones on each node than both counters can be wrong by, or than stay, they
 * go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"
#include "memcg.h"

#define BALLAST_PAGES 96	/* a node; three times what one CPU keeps back */
#define MPOL_INTERLEAVE 3	/* include/uapi/linux/mempolicy.h */

static char *ballast;		/* the actor's own */
static size_t ballast_bytes;

/*
 * An access through /proc/PID/mem counts as a use of the page, and the second
 * one makes it active (mm/gup.c: FOLL_TOUCH; mm/swap.c: mark_page_accessed).
 */
static long use_twice(const char *p, size_t bytes)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC), error = 0;
	char byte;

	if (fd < 0)
		return -1;
	for (int i = 0; i < 2; i++)
		for (size_t at = 0; at < bytes && !error; at += page_size())
			if (pread(fd, &byte, 1, (off_t)(p + at)) != 1)
				error = errno ? errno : EIO;
	close(fd);
	errno = error;
	return error ? -1 : 0;
}

static long do_ballast(struct slot *s)
{
	unsigned long nodes = s->more[0];

	if (ballast && munmap(ballast, ballast_bytes) < 0)
		return -1;
	ballast = NULL;
	if (!s->bytes)
		return 0;
	ballast = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ballast == MAP_FAILED) {
		ballast = NULL;
		return -1;
	}
	ballast_bytes = s->bytes;
	if (syscall(SYS_mbind, ballast, s->bytes, MPOL_INTERLEAVE, &nodes,
		    8 * sizeof(nodes), 0) < 0 && errno != ENOSYS)
		return -1;
	for (size_t at = 0; at < s->bytes; at += page_size())
		ballast[at] = 1;
	return use_twice(ballast, s->bytes);
}

static void have_ballast(struct actor *a, size_t count)
{
	a->slot->bytes = count * page_size();
	a->slot->more[0] = (1ul << memory_nodes()) - 1;
	if (ask_call(a, do_ballast) < 0)
		fail("ballast", a->slot->error, "%zu pages of %s", count, a->name);
}

void take_ballast(struct actor *a)
{
	have_ballast(a, BALLAST_PAGES * memory_nodes());
}

void drop_ballast(struct actor *a)
{
	have_ballast(a, 0);
}

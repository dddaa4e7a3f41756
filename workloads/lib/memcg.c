// SPDX-License-Identifier: GPL-2.0-or-later
/* Which memcg an actor is in, and the control that each memcg has. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"
#include "memcg.h"

int memcg_version(void)
{
	if (!access(MEMCG_ROOT "/cgroup.controllers", F_OK))
		return 2;
	return access(MEMCG_ROOT "/tasks", F_OK) ? 0 : 1;
}

/*
 * Who lowers the limit of cgroup v1 has the memcg reclaimed for as long as that
 * helps (mm/memcontrol.c: mem_cgroup_resize_limit), and fails with EBUSY if it has
 * come to an end before.  A limit of one page would be met by a page that stays, for
 * good.  Nobody is killed for it, and what succeeds is taken back, but not to
 * "unlimited": a limit that equals the one of memory and swap together keeps reclaim
 * from swapping (2.6.33: memsw_is_minimum).
 */
#define ROOM "1099511627776"
static int lower_limit(const char *memcg)
{
	char path[64];

	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/memory.limit_in_bytes", memcg);
	if (write_file(path, "0") < 0)
		return -1;
	return write_file(path, ROOM);
}

/*
 * Before 5.19 cgroup2 has no memory.reclaim.  Who lowers memory.high reclaims
 * what is above it before the write returns (mm/memcontrol.c: memory_high_write);
 * none of the memcg's own processes is stopped for it if the limit is gone again
 * before they run.
 */
static int lower_high(const char *memcg, unsigned int bytes)
{
	char path[64], text[24];
	long long current;
	int error = 0;

	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/memory.current", memcg);
	current = read_number(path, 0);
	snprintf(text, sizeof(text), "%lld", current > bytes ? current - bytes : 0);
	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/memory.high", memcg);
	if (write_file(path, text) < 0)
		error = errno;
	if (write_file(path, "max") < 0 && !error)
		error = errno;
	errno = error;
	return error ? -1 : 0;
}

/*
 * cgroup2 takes what it is asked for, at most.  memory.force_empty of the older
 * one goes on until nothing is left that can be reclaimed (mm/memcontrol-v1.c:
 * mem_cgroup_force_empty), however much was asked for.  Returns -1 with errno set.
 */
int memcg_reclaim(const char *memcg, unsigned int bytes)
{
	char path[64], text[16];
	int version = memcg_version();

	if (!version)
		return hog_memory();
	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/%s", memcg,
		 version == 1 ? "memory.force_empty" : "memory.reclaim");
	snprintf(text, sizeof(text), "%u", bytes);
	if (!write_file(path, text))
		return 0;
	if (version == 1)	/* before 3.16 not with processes in it */
		return errno == EBUSY ? lower_limit(memcg) : -1;
	return errno == ENOENT ? lower_high(memcg, bytes) : -1;
}

void memcg_reclaimed(void)
{
	release_hog();
}

void join_memcg(struct actor *a, const char *memcg)
{
	char path[64], text[16];

	/* cgroup.procs of the older one can only be read, before 3.0. */
	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/%s", memcg,
		 memcg_version() == 1 ? "tasks" : "cgroup.procs");
	snprintf(text, sizeof(text), "%d", a->pid);
	if (memcg_version() && write_file(path, text) < 0)
		fail("cgroup.procs", errno, "moving %s to %s", a->name, path);
	snprintf(a->memcg, sizeof(a->memcg), "%s", memcg);
}

void move_actor(struct actor *a, const char *memcg)
{
	op_begin("move");
	j_str("actor", a->name);
	j_str("memcg", memcg);
	op_go();
	join_memcg(a, memcg);
	op_done();
}

void add_control(const char *name, const char *memcg)
{
	struct actor *z = spawn_in(name, memcg);

	map_area(z, "z", 512 << 10);
	fill(z, "z", 0, ALL_PAGES, 1ul << 40, 1);
}

/* Z, and that of the second memcg. */
bool is_control(const struct actor *a)
{
	return a->name[0] == 'Z';
}

struct actor *control_of(const char *memcg)
{
	for (struct actor *a = actors; a < actors + nactors; a++)
		if (a->alive && is_control(a) && !strcmp(a->memcg, memcg))
			return a;
	fail("memcg", ENOENT, "no control in %s", memcg);
}

void second_memcg(void)
{
	if (!memcg_version())
		skip("no memory controller, so no second memcg");
	if (mkdir(OTHER_MEMCG, 0755) < 0)
		fail("mkdir", errno, OTHER_MEMCG);
	add_control("Z" OTHER_MEMCG_NAME, OTHER_MEMCG_NAME);
}

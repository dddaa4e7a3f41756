// SPDX-License-Identifier: GPL-2.0-or-later
/* Which memcg an actor is in, and the control that each memcg has. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "guest.h"
#include "memcg.h"

void join_memcg(struct actor *a, const char *memcg)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/cgroup.procs", memcg);
	snprintf(text, sizeof(text), "%d", a->pid);
	if (write_file(path, text) < 0)
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
	if (mkdir(OTHER_MEMCG, 0755) < 0)
		fail("mkdir", errno, OTHER_MEMCG);
	add_control("Z" OTHER_MEMCG_NAME, OTHER_MEMCG_NAME);
}

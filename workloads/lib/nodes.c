// SPDX-License-Identifier: GPL-2.0-or-later
/* NUMA nodes, and which of them pages come from. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"

#define MPOL_BIND 2	/* include/uapi/linux/mempolicy.h */

size_t memory_nodes(void)
{
	char text[64], *last;

	/* "0" or "0-1" */
	if (read_file("/sys/devices/system/node/has_memory", text, sizeof(text)) <= 0)
		return 1;
	last = text;
	for (char *p = text; *p; p++)
		if (*p == '-' || *p == ',')
			last = p + 1;
	return atoi(last) + 1;
}

static long do_bind(struct slot *s)
{
	unsigned long mask = 1ul << s->more[0];

	return syscall(SYS_mbind, s->addr, s->bytes, MPOL_BIND, &mask,
		       8 * sizeof(mask), 0);
}

void bind_pages(struct actor *a, const char *area, size_t first, size_t count,
		int node)
{
	op_begin("bind");
	aim(a, area, first, count);
	j_int("node", node);
	op_go();
	a->slot->more[0] = node;
	if (ask_call(a, do_bind) < 0)
		refused("mbind", a->slot->error, "in %s, node %d", a->name, node);
	op_done();
}

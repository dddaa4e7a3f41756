// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Moving pages to other frames: soft offline, move_pages(2), compaction, memory
 * offline.  What became of each page is told, whatever the kernel returned.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"
#include "observe.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#define MPOL_MF_MOVE 2
#define MPOL_MF_MOVE_ALL 4

#define SOFT_OFFLINE "/sys/devices/system/memory/soft_offline_page"

/* What soft offline did to one page. */
struct outcome {
	int error;
	bool poisoned;		/* its old frame is out of use */
};

static void j_outcomes(const struct outcome *o, size_t count)
{
	j_open("outcomes", '[');
	for (size_t i = 0, n; i < count; i += n) {
		for (n = 1; i + n < count && o[i + n].error == o[i].error &&
		     o[i + n].poisoned == o[i].poisoned; n++)
			;
		j_open(NULL, '[');
		j_int(NULL, n);
		j_str(NULL, errno_name(o[i].error));
		j_bool(NULL, o[i].poisoned);
		j_close(']');
	}
	j_close(']');
}

static int offline_frame(uint64_t pfn)
{
	char text[32];

	snprintf(text, sizeof(text), "%#llx",
		 (unsigned long long)pfn * page_size());
	return write_file(SOFT_OFFLINE, text) < 0 ? errno : 0;
}

static void soft_offline_by(const char *via, struct actor *a, const char *name,
			    size_t first, size_t count)
{
	struct area *area = find_area(a, name);
	uint64_t *entries = need(area->npages, sizeof(*entries));
	struct outcome *outcomes;

	op_begin("soft_offline");
	count = aim(a, name, first, count);
	j_str("via", via);
	op_go();
	outcomes = need(count, sizeof(*outcomes));
	read_pagemap(a, area, entries);
	for (size_t i = 0; i < count; i++) {
		uint64_t entry = entries[first + i], pfn = entry & PM_VALUE;
		struct outcome *o = &outcomes[i];

		if (!strcmp(via, "sysfs")) {
			o->error = entry & PM_PRESENT ? offline_frame(pfn) : ENOENT;
		} else {
			a->slot->addr = area->addr + (first + i) * page_size();
			a->slot->bytes = page_size();
			a->slot->advice = MADV_SOFT_OFFLINE;
			o->error = ask(a, REQ_MADVISE) < 0 ? a->slot->error : 0;
		}
		o->poisoned = (entry & PM_PRESENT) &&
			(page_flags(pfn) >> KPF_HWPOISON & 1);
	}
	if (count && (outcomes[0].error == EINVAL || outcomes[0].error == ENOSYS))
		skip("this kernel has no soft offline (MEMORY_FAILURE)");
	ret_begin(0, 0);
	j_outcomes(outcomes, count);
	ret_end();
	free(outcomes);
	free(entries);
}

void soft_offline(struct actor *a, const char *area, size_t first, size_t count)
{
	soft_offline_by("madvise", a, area, first, count);
}

void soft_offline_frames(struct actor *a, const char *area, size_t first,
			 size_t count)
{
	soft_offline_by("sysfs", a, area, first, count);
}

/* Runs [count, number]. */
static void j_numbers(const char *key, const int *numbers, size_t count)
{
	j_open(key, '[');
	for (size_t i = 0, n; i < count; i += n) {
		for (n = 1; i + n < count && numbers[i + n] == numbers[i]; n++)
			;
		j_open(NULL, '[');
		j_int(NULL, n);
		j_int(NULL, numbers[i] < 0 ? -1 : numbers[i]);
		j_close(']');
	}
	j_close(']');
}

/* The node of each page, negative where there is none. */
static void find_nodes(const struct actor *a, void **addresses, size_t count,
		       int *nodes)
{
	if (syscall(SYS_move_pages, a->pid, count, addresses, NULL, nodes, 0) < 0)
		fail("move_pages", errno, "asking for the nodes of %s", a->name);
}

/* 7.2 has an option of its own for it, CONFIG_NUMA_MIGRATION (mm/migrate.c). */
bool has_move_pages(void)
{
	return !syscall(SYS_move_pages, 0, 0, NULL, NULL, NULL, 0) || errno != ENOSYS;
}

bool has_node(int node)
{
	char path[64], text[16];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist",
		 node);
	return read_file(path, text, sizeof(text)) >= 0;
}

void move_pages_to(struct actor *a, const char *name, size_t first, size_t count,
		   int node, bool all)
{
	struct area *area = find_area(a, name);
	int *nodes, *before, *after;
	void **addresses;
	long rc;
	int error;

	op_begin("move_pages");
	count = aim(a, name, first, count);
	j_int("node", node);
	j_bool("all", all);
	op_go();
	addresses = need(count, sizeof(*addresses));
	nodes = need(count, sizeof(*nodes));
	before = need(count, sizeof(*before));
	after = need(count, sizeof(*after));
	for (size_t i = 0; i < count; i++) {
		addresses[i] = (void *)(area->addr + (first + i) * page_size());
		nodes[i] = node;
	}
	find_nodes(a, addresses, count, before);
	rc = syscall(SYS_move_pages, a->pid, count, addresses, nodes, after,
		     all ? MPOL_MF_MOVE_ALL : MPOL_MF_MOVE);
	error = rc < 0 ? errno : 0;
	find_nodes(a, addresses, count, after);
	ret_begin(0, 0);
	j_int("result", rc);
	j_str("error", errno_name(error));
	j_numbers("before", before, count);
	j_numbers("after", after, count);
	ret_end();
	free(addresses);
	free(nodes);
	free(before);
	free(after);
}

void compact(void)
{
	op_begin("compact");
	op_go();
	if (write_file("/proc/sys/vm/compact_memory", "1") < 0) {
		if (errno == ENOENT)
			skip("no /proc/sys/vm/compact_memory");
		fail("compact_memory", errno, "writing 1");
	}
	op_done();
}

// SPDX-License-Identifier: GPL-2.0-or-later
/* A memory error that is injected: MADV_HWPOISON, and who hears of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "observe.h"

#ifndef MADV_HWPOISON
#define MADV_HWPOISON 100
#endif

#define EARLY_KILL "/proc/sys/vm/memory_failure_early_kill"

static void set_early_kill(bool early)
{
	if (access(EARLY_KILL, F_OK))
		skip("this kernel has no memory_failure_early_kill (MEMORY_FAILURE)");
	if (write_file(EARLY_KILL, early ? "1" : "0") < 0)
		fail("memory_failure_early_kill", errno, "setting it");
}

/* One address that SIGBUS named, as the area and page that it lies in, and where in the page, unless at its beginning. */
static void j_signal(const struct actor *a, const struct bus_signal *s)
{
	const size_t offset = s->addr % page_size();
	const char *area_name = "?";
	size_t page = 0;

	for (size_t i = 0; i < a->nareas; i++) {
		const struct area *area = &a->areas[i];

		if (s->addr - area->addr >= area->npages * page_size())
			continue;
		area_name = area->name;
		page = (s->addr - area->addr) / page_size();
	}
	j_open(NULL, '[');
	j_str(NULL, area_name);
	j_int(NULL, page);
	j_str(NULL, s->required ? "AR" : "AO");
	if (offset)
		j_int(NULL, offset);
	j_close(']');
}

static void j_signals(void)
{
	j_open("signals", '{');
	for (struct actor *a = actors; a < actors + nactors; a++) {
		if (!a->alive || !a->slot->nsignals)
			continue;
		j_open(a->name, '[');
		for (size_t i = 0; i < a->slot->nsignals && i < MAX_SIGNALS; i++)
			j_signal(a, &a->slot->signals[i]);
		j_close(']');
	}
	j_close('}');
}

void hwpoison(struct actor *a, const char *name, size_t page, bool early)
{
	struct area *area = find_area(a, name);
	uint64_t *entries = need(area->npages, sizeof(*entries));
	bool poisoned;
	int error;

	op_begin("hwpoison");
	aim(a, name, page, 1);
	j_bool("early", early);
	op_go();
	set_early_kill(early);
	read_pagemap(a, area, entries);
	for (struct actor *b = actors; b < actors + nactors; b++)
		if (b->alive)
			b->slot->nsignals = 0;
	a->slot->advice = MADV_HWPOISON;
	error = ask(a, REQ_MADVISE) < 0 ? a->slot->error : 0;
	set_early_kill(false);
	if (error == EINVAL)
		skip("this kernel has no MADV_HWPOISON (MEMORY_FAILURE)");
	/* A round trip: a signal that was sent has been handled after it. */
	for (struct actor *b = actors; b < actors + nactors; b++)
		if (b->alive)
			must(b, REQ_NONE, "hwpoison");
	poisoned = (entries[page] & PM_PRESENT) &&
		(page_flags(entries[page] & PM_VALUE) >> KPF_HWPOISON & 1);
	ret_begin(0, 0);
	j_str("error", errno_name(error));
	j_bool("poisoned", poisoned);
	j_signals();
	ret_end();
	free(entries);
}

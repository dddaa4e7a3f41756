// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the walks for references return.  Reclaim calls folio_referenced() for
 * each page that it considers (mm/vmscan.c: shrink_active_list,
 * folio_check_references).  A kprobe at its entry and one at its return give
 * the exact number of ptes which had been used; a page is known by its index
 * (of a KSM page: where it lay when it was an ordinary one), and a KSM page by
 * the low bits of its mapping.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "observe.h"
#include "walks.h"

#define TRACING "/sys/kernel/tracing"
#define EVENTS TRACING "/events/ksmh"
/*
 * struct folio and, before 5.16, struct page: flags, lru, mapping, index,
 * private, _mapcount, which is one less than there are ptes.
 */
#define MAPPING 24
#define INDEX 32
#define MAPCOUNT 48
#define MAPPING_BITS 3		/* PAGE_MAPPING_KSM has both */

/* One page's walks: what the first returned, the sum of the later ones. */
struct walk {
	int first, later;
	unsigned int walks;
};

static struct {
	struct actor *actor;
	struct area *area;
	size_t first, count;
	unsigned long index;	/* of the first page */
	struct walk *walks;
	bool broken;		/* events were lost */
	struct walk *current;	/* that folio_referenced() is at work on */
	int pipe;
} watched = { .pipe = -1 };

/* The function's name and its first argument's differ between kernels. */
static bool define_events(void)
{
	static const char *const functions[] = { "folio_referenced", "page_referenced" };
	static const char *const arguments[] = { "$arg1", "%gpr3" };
	char text[256];

	if (!access(EVENTS "/walked", F_OK))
		return true;
	for (int i = 0; i < 4; i++) {
		const char *function = functions[i / 2], *arg = arguments[i % 2];

		snprintf(text, sizeof(text),
			 "p:ksmh/walk %s mapping=+%d(%s):x64 mapcount=+%d(%s):s32 index=+%d(%s):x64",
			 function, MAPPING, arg, MAPCOUNT, arg, INDEX, arg);
		if (write_file(TRACING "/kprobe_events", text) < 0)
			continue;
		snprintf(text, sizeof(text), "r:ksmh/walked %s ret=$retval:s32",
			 function);
		return !write_file(TRACING "/kprobe_events", text);
	}
	return false;
}

void watch(struct actor *a, const char *name, size_t first, size_t count)
{
	struct area *area = find_area(a, name);

	if (!define_events()) {
		note("no kprobe at folio_referenced: references are not counted");
		return;
	}
	if (count == ALL_PAGES)
		count = area->npages - first;
	watched.actor = a;
	watched.area = area;
	watched.first = first;
	watched.count = count;
	watched.index = area->addr / page_size() + first;
	watched.walks = need(count, sizeof(*watched.walks));
}

void j_watched(void)
{
	if (!watched.walks)
		return;
	j_open("watch", '[');
	j_str(NULL, watched.actor->name);
	j_str(NULL, watched.area->name);
	j_int(NULL, watched.first);
	j_int(NULL, watched.count);
	j_close(']');
}

static void tracing(const char *file, const char *text)
{
	if (write_file(file, text) < 0)
		fail("tracing", errno, "writing %s to %s", text, file);
}

/* Only what this very process does: it is the one that has the memcg reclaimed. */
void walks_begin(void)
{
	char filter[32];
	int fd;

	if (!watched.walks)
		return;
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	tracing(EVENTS "/walk/filter", filter);
	tracing(EVENTS "/walked/filter", filter);
	fd = open(TRACING "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC);
	close(fd);
	watched.pipe = open(TRACING "/trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || watched.pipe < 0)
		fail("tracing", errno, "opening the trace");
	tracing(EVENTS "/enable", "1");
}

/* A KSM page that something maps: for others no walk is made. */
static bool is_walk(const char *line)
{
	const char *mapping = strstr(line, " mapping=0x");
	const char *mapcount = strstr(line, " mapcount=");

	return mapping && mapcount && atoi(mapcount + 10) >= 0 &&
		(strtoull(mapping + 9, NULL, 16) & MAPPING_BITS) == MAPPING_BITS;
}

static void note_walk(const char *line)
{
	char *text;

	if (strstr(line, "LOST"))
		watched.broken = true;
	if ((text = strstr(line, " index=0x"))) {
		unsigned long index = strtoul(text + 7, NULL, 16) - watched.index;

		watched.current = is_walk(line) && index < watched.count ?
			&watched.walks[index] : NULL;
	} else if ((text = strstr(line, " ret=")) && watched.current) {
		int ret = atoi(text + 5);

		/* Negative: a lock was contended, and the walk not made. */
		if (ret >= 0 && !watched.current->walks++)
			watched.current->first = ret;
		else if (ret >= 0)
			watched.current->later += ret;
		watched.current = NULL;
	}
}

void walks_collect(void)
{
	static char text[1 << 16];
	size_t len = 0;
	ssize_t n;

	if (!watched.walks)
		return;
	while ((n = read(watched.pipe, text + len, sizeof(text) - 1 - len)) > 0) {
		char *line = text, *end;

		len += n;
		text[len] = '\0';
		while ((end = strchr(line, '\n'))) {
			*end = '\0';
			note_walk(line);
			line = end + 1;
		}
		len -= line - text;
		memmove(text, line, len);
	}
}

bool walks_complete(void)
{
	uint64_t *entries;
	bool complete = true;

	if (!watched.walks)
		return true;
	entries = need(watched.area->npages, sizeof(*entries));
	read_pagemap(watched.actor, watched.area, entries);
	for (size_t i = 0; i < watched.count; i++)
		complete &= watched.walks[i].walks ||
			!(entries[watched.first + i] & PM_PRESENT);
	free(entries);
	return complete;
}

static unsigned int at_most_two(unsigned int walks)
{
	return walks < 2 ? walks : 2;
}

static bool same_walk(const struct walk *a, const struct walk *b)
{
	return a->first == b->first && a->later == b->later &&
		at_most_two(a->walks) == at_most_two(b->walks);
}

void j_walks(void)
{
	const struct walk *w = watched.walks;

	if (!w)
		return;
	tracing(EVENTS "/enable", "0");
	close(watched.pipe);
	j_open("references", '[');
	for (size_t i = 0; i < watched.count && !watched.broken;) {
		size_t n = 1;

		while (i + n < watched.count && same_walk(&w[i], &w[i + n]))
			n++;
		j_open(NULL, '[');
		j_int(NULL, n);
		j_int(NULL, w[i].first);
		j_int(NULL, w[i].later);
		j_int(NULL, at_most_two(w[i].walks));
		j_close(']');
		i += n;
	}
	j_close(']');
	free(watched.walks);
	watched.walks = NULL;
	watched.broken = false;
}

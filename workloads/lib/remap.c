// SPDX-License-Identifier: GPL-2.0-or-later
/* Mappings that move, grow, shrink, and are replaced. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "actor.h"
#include "guest.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static bool has_area(const struct actor *a, const char *name)
{
	for (size_t i = 0; i < a->nareas; i++)
		if (!strcmp(a->areas[i].name, name))
			return true;
	return false;
}

static long do_move(struct slot *s)
{
	void *to = (void *)s->more[0];

	return mremap((void *)s->addr, s->bytes, s->bytes,
		      MREMAP_MAYMOVE | MREMAP_FIXED | (int)s->more[1], to) == to ? 0 : -1;
}

static long do_resize(struct slot *s)
{
	void *at = (void *)s->addr;

	return mremap(at, s->bytes, s->more[0], 0) == at ? 0 : -1;
}

static long do_renew(struct slot *s)
{
	void *at = (void *)s->addr;

	return mmap(at, s->bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at ? 0 : -1;
}

static void must_call(struct actor *a, long (*call)(struct slot *),
		      const char *what)
{
	if (ask_call(a, call) < 0)
		refused(what, a->slot->error, "in %s", a->name);
	op_done();
}

static void move(struct actor *a, const char *name, size_t first, size_t count,
		 const char *to, int flags)
{
	struct area *target;

	if (count == ALL_PAGES)
		count = find_area(a, name)->npages - first;
	target = has_area(a, to) ? find_area(a, to) : new_area(a, to, count);
	op_begin("mremap");
	aim(a, name, first, count);
	j_str("to", to);
	j_hex("addr", target->addr);
	if (flags & MREMAP_DONTUNMAP)
		j_bool("stays", true);
	op_go();
	a->slot->more[0] = target->addr;
	a->slot->more[1] = flags;
	must_call(a, do_move, "mremap");
}

void move_to(struct actor *a, const char *name, size_t first, size_t count,
	     const char *to)
{
	move(a, name, first, count, to, 0);
}

bool move_out(struct actor *a, const char *name, const char *to)
{
	const size_t size = page_size();
	void *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *moved;

	if (page == MAP_FAILED)
		fail("mmap", errno, "a page to move");
	moved = mremap(page, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	munmap(page, size);
	if (moved == MAP_FAILED) {
		note("no MREMAP_DONTUNMAP here (kernel before 5.7)");
		return false;
	}
	munmap(moved, size);
	move(a, name, 0, ALL_PAGES, to, MREMAP_DONTUNMAP);
	return true;
}

void resize_area(struct actor *a, const char *name, size_t bytes)
{
	struct area *area = find_area(a, name);
	size_t npages = pages(bytes);

	op_begin("resize");
	j_str("actor", a->name);
	j_str("area", name);
	j_int("bytes", npages * page_size());
	op_go();
	a->slot->addr = area->addr;
	a->slot->bytes = area->npages * page_size();
	a->slot->more[0] = npages * page_size();
	area->keep = realloc(area->keep, npages);
	if (!area->keep)
		fail("realloc", ENOMEM, "%zu pages", npages);
	memset(area->keep, 0, npages);
	area->npages = npages;
	must_call(a, do_resize, "mremap");
}

void renew_pages(struct actor *a, const char *area, size_t first, size_t count)
{
	op_begin("renew");
	aim(a, area, first, count);
	op_go();
	must_call(a, do_renew, "mmap");
}

// SPDX-License-Identifier: GPL-2.0-or-later
/* What pages hold: a number each, of which every byte depends. */
#include <errno.h>

#include "actor.h"

/*
 * Contents.  Word j of a page with content "tag" is (tag + j) * ODD: all words
 * differ from those of every other tag, and the first word gives the tag back.
 */
#define ODD 0x9e3779b97f4a7c15ull

/* Contents that are none: no tag's bytes, and none at all. */
#define NO_TAG (-1)
#define SIGBUS_TAG (-2)

static uint64_t odd_inverse(void)
{
	uint64_t x = ODD;	/* correct to 3 bits; each step doubles them */

	for (int i = 0; i < 6; i++)
		x *= 2 - ODD * x;
	return x;
}

void fill_page(uint64_t *word, uint64_t tag)
{
	for (size_t j = 0; j < page_size() / 8; j++)
		word[j] = tag ? (tag + j) * ODD : 0;
}

static int64_t page_content(const uint64_t *word)
{
	uint64_t tag = word[0] ? word[0] * odd_inverse() : 0;

	for (size_t j = 0; j < page_size() / 8; j++)
		if (word[j] != (tag ? (tag + j) * ODD : 0))
			return NO_TAG;
	return (int64_t)tag < 0 ? NO_TAG : (int64_t)tag;
}

/* The same, of a page that may be poisoned. */
static int64_t touched_content(const uint64_t *word)
{
	if (sigsetjmp(bus_return, 0))
		return SIGBUS_TAG;
	return page_content(word);
}

void verify_pages(struct slot *s)
{
	s->nruns = 0;
	for (size_t at = 0; at < s->bytes; at += page_size()) {
		int64_t tag = touched_content((uint64_t *)(s->addr + at));
		struct content_run *run = s->nruns ? &s->runs[s->nruns - 1] : NULL;

		if (run && tag >= 0 && run->tag >= 0 && run->count == 1)
			run->step = tag - run->tag;
		if (run && (tag < 0 ? tag == run->tag : run->tag >= 0) &&
		    (tag < 0 || tag == run->tag + run->step * (int64_t)run->count)) {
			run->count++;
			continue;
		}
		if (run && run->count == 1)
			run->step = 0;
		if (s->nruns == MAX_RUNS) {
			errno = EOVERFLOW;
			s->rc = -1;
			return;
		}
		s->runs[s->nruns++] = (struct content_run){ 1, tag, 0 };
	}
}

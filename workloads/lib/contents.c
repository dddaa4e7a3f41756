// SPDX-License-Identifier: GPL-2.0-or-later
/* What pages hold: a number each, of which every byte depends. */
#define _DEFAULT_SOURCE
#include <endian.h>
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

/*
 * Contents from LIKE_ZEROS on are pages of zeros but for two words, chosen so
 * that ksmd's checksum (lib/xxhash.c: xxh64) does not see them: the hash keeps
 * four sums, of which each takes every fourth word, and the second word here
 * takes out of the first sum what the first word put in.
 */
#define PRIME_1 0x9e3779b185ebca87ull
#define PRIME_2 0xc2b2ae3d27d4eb4full

static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;	/* correct to 3 bits; each step doubles them */

	for (int i = 0; i < 6; i++)
		x *= 2 - odd * x;
	return x;
}

static uint64_t xxh64_round(uint64_t sum, uint64_t word)
{
	sum += word * PRIME_2;
	return (sum << 31 | sum >> 33) * PRIME_1;
}

/* The word at index j of such a page, as this machine reads it. */
static uint64_t like_zeros(uint64_t tag, size_t j)
{
	const uint64_t start = PRIME_1 + PRIME_2, word = tag - LIKE_ZEROS + 1;
	uint64_t value = 0;

	if (j == 0)
		value = word;
	else if (j == 4)
		value = (xxh64_round(start, 0) - xxh64_round(start, word)) *
			inverse(PRIME_2);
	return htole64(value);
}

static bool is_like_zeros(uint64_t tag)
{
	return tag >= LIKE_ZEROS && tag < 2 * LIKE_ZEROS;
}

/* Contents from ALMOST on are those of the tag less ALMOST, but for the last byte. */
static uint64_t last_word(uint64_t value, bool almost)
{
	return almost ? value ^ htobe64(1) : value;
}

void fill_page(uint64_t *word, uint64_t tag)
{
	const uint64_t *end = word + page_size() / 8;
	const bool almost = tag >= ALMOST && tag < LIKE_ZEROS;
	const uint64_t base = almost ? tag - ALMOST : tag, step = base ? ODD : 0;
	uint64_t value = base * ODD;

	if (is_like_zeros(tag)) {
		for (size_t j = 0; word < end; j++)
			*word++ = like_zeros(tag, j);
		return;
	}
	for (; word < end - 1; value += step)
		*word++ = value;
	*word = last_word(value, almost);
}

static int64_t content_like_zeros(const uint64_t *word)
{
	uint64_t tag = LIKE_ZEROS + le64toh(word[0]) - 1;
	const size_t words = page_size() / 8;

	for (size_t j = 0; j < words; j++)
		if (word[j] != like_zeros(tag, j))
			return NO_TAG;
	return tag;
}

int64_t page_content(const uint64_t *word)
{
	uint64_t tag = word[0] ? word[0] * inverse(ODD) : 0;
	const uint64_t *end = word + page_size() / 8;
	const uint64_t step = tag ? ODD : 0;
	uint64_t value = tag * ODD;

	/* No other content that is used begins with so small a number. */
	if (word[0] && le64toh(word[0]) < (1ul << 20))
		return content_like_zeros(word);
	for (; word < end - 1; value += step)
		if (*word++ != value)
			return NO_TAG;
	if (*word == last_word(value, true) && tag < ALMOST)
		return ALMOST + tag;
	return *word != value || (int64_t)tag < 0 ? NO_TAG : (int64_t)tag;
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

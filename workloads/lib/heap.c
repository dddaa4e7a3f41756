// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The heap, for a C library that would map more and more pieces of memory: each
 * has an anon_vma, in the director and in whatever it forks, and their number is
 * judged.  Here all lies in one piece.  Blocks are of powers of two, a header
 * before each, and what is freed is used again for the same size.
 */
#include <features.h>

#ifndef __GLIBC__
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BYTES (64ul << 20)	/* untouched pages cost nothing */
#define SMALLEST 5			/* 32 bytes, header included */
#define LARGEST 26

struct block {
	size_t class;
	struct block *next;	/* while it is free */
};

#define HEADER sizeof(struct block)

static char arena[ARENA_BYTES] __attribute__((aligned(4096)));
static size_t used;
static struct block *freed[LARGEST + 1];

/* Not malloc() itself, whose use in calloc() the compiler would take for calloc(). */
static void *take(size_t size)
{
	size_t class = SMALLEST;
	struct block *block;

	while (class <= LARGEST && (1ul << class) - HEADER < size)
		class++;
	if (class > LARGEST || (!freed[class] && used + (1ul << class) > ARENA_BYTES)) {
		errno = ENOMEM;
		return NULL;
	}
	block = freed[class];
	if (block) {
		freed[class] = block->next;
	} else {
		block = (struct block *)(arena + used);
		used += 1ul << class;
		block->class = class;
	}
	return (char *)block + HEADER;
}

void *malloc(size_t size)
{
	return take(size);
}

void free(void *p)
{
	struct block *block = (struct block *)((char *)p - HEADER);

	if (!p)
		return;
	block->next = freed[block->class];
	freed[block->class] = block;
}

void *calloc(size_t count, size_t size)
{
	void *p;

	if (size && count > SIZE_MAX / size) {
		errno = ENOMEM;
		return NULL;
	}
	p = take(count * size);
	return p ? memset(p, 0, count * size) : NULL;
}

void *realloc(void *p, size_t size)
{
	struct block *block = (struct block *)((char *)p - HEADER);
	size_t room;
	void *q;

	if (!p)
		return take(size);
	room = (1ul << block->class) - HEADER;
	if (size <= room)
		return p;
	q = take(size);
	if (q) {
		memcpy(q, p, room);
		free(p);
	}
	return q;
}

/* Nothing here wants more than a header's alignment. */
void *aligned_alloc(size_t alignment, size_t size)
{
	if (alignment <= HEADER)
		return take(size);
	errno = EINVAL;
	return NULL;
}
#endif

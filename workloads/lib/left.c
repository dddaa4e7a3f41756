// SPDX-License-Identifier: GPL-2.0-or-later
/* Page frames that actors had and have no more: is each of them free, or another page's? */
#include <stdlib.h>
#include <string.h>

#include "observe.h"

#define BIT(n) (1ull << (n))

/* Parts of a huge page are freed together; a page with a memory error is never. */
#define NOT_ASKED (BIT(KPF_COMPOUND_HEAD) | BIT(KPF_COMPOUND_TAIL) |	\
		   BIT(KPF_THP) | BIT(KPF_HWPOISON))

/* Those that an earlier observation found mapped, and which it may be that nobody has freed. */
static uint64_t *known;
static size_t nknown;

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Ascending, each once; returns how many are left. */
static size_t sort(uint64_t *pfns, size_t count)
{
	size_t n = 0;

	qsort(pfns, count, sizeof(*pfns), compare);
	for (size_t i = 0; i < count; i++)
		if (!n || pfns[n - 1] != pfns[i])
			pfns[n++] = pfns[i];
	return n;
}

/*
 * Freed pages are no anonymous pages any more (mm/page_alloc.c: free_pages_prepare).
 * What is in the swap cache may be written still, and is asked for again later.
 */
size_t frames_left(uint64_t *mapped, size_t count)
{
	uint64_t *gone = need(nknown, sizeof(*gone)), *next;
	uint64_t *flags = need(nknown, sizeof(*flags));
	size_t ngone = 0, left = 0, n;

	count = sort(mapped, count);
	for (size_t i = 0, k = 0; i < nknown; i++) {
		while (k < count && mapped[k] < known[i])
			k++;
		if (k == count || mapped[k] != known[i])
			gone[ngone++] = known[i];
	}
	frames_flags(gone, ngone, flags);
	next = need(count + ngone, sizeof(*next));
	memcpy(next, mapped, count * sizeof(*next));
	n = count;
	for (size_t i = 0; i < ngone; i++) {
		if (!(flags[i] & BIT(KPF_ANON)) || flags[i] & (NOT_ASKED | BIT(KPF_MMAP)))
			continue;
		next[n++] = gone[i];
		left += !(flags[i] & BIT(KPF_SWAPCACHE));
	}
	free(known);
	free(gone);
	free(flags);
	known = next;
	nknown = sort(known, n);
	return left;
}

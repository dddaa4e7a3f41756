// SPDX-License-Identifier: GPL-2.0-or-later
/* Observations: every page of every area of every actor, and the counters. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "observe.h"

#define MAX_READS 20
#define MAX_FRAMES 512		/* that are asked for at once */

/* What is known of one page at one moment. */
struct page {
	uint64_t entry, flags, mapcount;
};

/* All of it: the pages of all areas one after another, then ksm's counters. */
struct reading {
	struct page *pages;
	size_t npages;
	char counters[512];
};

static int open_proc(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail("open", errno, "%s", path);
	return fd;
}

/* A 64-bit word for each of so many page frames; 0 for one that the file does not have. */
static void frame_words(const char *path, int *fd, uint64_t pfn, uint64_t *words,
			size_t count)
{
	ssize_t n;

	if (*fd < 0)
		*fd = open_proc(path);
	n = pread(*fd, words, count * 8, pfn * 8);
	for (size_t i = n > 0 ? n / 8 : 0; i < count; i++)
		words[i] = 0;
}

static void all_flags(uint64_t pfn, uint64_t *words, size_t count)
{
	static int fd = -1;

	frame_words("/proc/kpageflags", &fd, pfn, words, count);
}

static void all_counts(uint64_t pfn, uint64_t *words, size_t count)
{
	static int fd = -1;

	frame_words("/proc/kpagecount", &fd, pfn, words, count);
}

uint64_t page_flags(uint64_t pfn)
{
	uint64_t flags;

	all_flags(pfn, &flags, 1);
	return flags;
}

void read_pagemap(const struct actor *a, const struct area *area,
		  uint64_t *entries)
{
	char path[64];
	int fd;
	size_t size = area->npages * 8;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", a->pid);
	fd = open_proc(path);
	n = pread(fd, entries, size, area->addr / page_size() * 8);
	if (n != (ssize_t)size)
		fail("pagemap", n < 0 ? errno : EIO, "%s.%s", a->name, area->name);
	close(fd);
}

static void read_counters(struct reading *r)
{
	static const char *const files[] = {
		"pages_shared", "pages_sharing", "pages_unshared",
		"pages_volatile", "full_scans",
	};
	char path[128], text[64];
	size_t len = 0;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), KSM_DIR "/%s", files[i]);
		if (read_attribute(AT_FDCWD, path, text, sizeof(text)) < 0)
			text[0] = '\0';
		len += snprintf(r->counters + len, sizeof(r->counters) - len,
				"%s", text);
	}
}

/* From first to last, with some that nobody has asked for in between. */
struct frames {
	uint64_t first, last;
};

/* Whether n page frames with this one among them are still worth one question. */
static bool stretch(struct frames *f, uint64_t pfn, size_t n)
{
	uint64_t first = pfn < f->first ? pfn : f->first;
	uint64_t last = pfn > f->last ? pfn : f->last;

	if (last - first >= MAX_FRAMES || last - first > 4 * n + 8)
		return false;
	*f = (struct frames){ first, last };
	return true;
}

void frames_flags(const uint64_t *pfns, size_t count, uint64_t *flags)
{
	static uint64_t words[MAX_FRAMES];
	size_t n;

	for (size_t k = 0; k < count; k += n) {
		struct frames f = { pfns[k], pfns[k] };

		for (n = 1; k + n < count && stretch(&f, pfns[k + n], n + 1); n++)
			;
		all_flags(f.first, words, f.last - f.first + 1);
		for (size_t i = k; i < k + n; i++)
			flags[i] = words[pfns[i] - f.first];
	}
}

/*
 * What the kernel says of the frames of the first pages here, as many as lie close
 * together: a system call costs more than some frames in vain.  Returns how many.
 */
static size_t take_close(const uint64_t *entries, size_t left, struct page *pages)
{
	static uint64_t flags[MAX_FRAMES], counts[MAX_FRAMES];
	struct frames f = { entries[0] & PM_VALUE, entries[0] & PM_VALUE };
	size_t n = 1;

	while (n < left && (entries[n] & PM_PRESENT) &&
	       stretch(&f, entries[n] & PM_VALUE, n + 1))
		n++;
	all_flags(f.first, flags, f.last - f.first + 1);
	all_counts(f.first, counts, f.last - f.first + 1);
	for (size_t i = 0; i < n; i++) {
		uint64_t at = (entries[i] & PM_VALUE) - f.first;

		pages[i].flags = flags[at] & KPF_TOLD;
		pages[i].mapcount = counts[at];
	}
	return n;
}

static void take_pages(const uint64_t *entries, size_t count, struct page *pages)
{
	for (size_t k = 0; k < count; k++) {
		pages[k].entry = entries[k] & (PM_PRESENT | PM_SWAP | PM_VALUE);
		pages[k].flags = pages[k].mapcount = 0;
	}
	for (size_t k = 0; k < count;)
		k += entries[k] & PM_PRESENT ?
			take_close(entries + k, count - k, pages + k) : 1;
}

static void take(struct reading *r)
{
	static uint64_t *entries;
	static size_t room;
	size_t at = 0;

	for (struct actor *a = actors; a < actors + nactors; a++)
		for (size_t i = 0; a->alive && i < a->nareas; i++) {
			struct area *area = &a->areas[i];

			if (area->npages > room) {
				room = area->npages;
				entries = realloc(entries, room * 8);
				if (!entries)
					fail("realloc", ENOMEM, "%zu pages", room);
			}
			read_pagemap(a, area, entries);
			take_pages(entries, area->npages, &r->pages[at]);
			at += area->npages;
		}
	read_counters(r);
}

static size_t count_pages(void)
{
	size_t n = 0;

	for (struct actor *a = actors; a < actors + nactors; a++)
		for (size_t i = 0; a->alive && i < a->nareas; i++)
			n += a->areas[i].npages;
	return n;
}

static int64_t stride(const struct page *p)
{
	return (int64_t)(p[1].entry & PM_VALUE) - (int64_t)(p[0].entry & PM_VALUE);
}

char entry_state(uint64_t entry)
{
	if (entry & PM_PRESENT)
		return 'P';
	if (!(entry & PM_SWAP))
		return 'N';
	return SWAP_TYPE(entry) >= FIRST_SPECIAL_TYPE ? 'X' : 'S';
}

static bool goes_on(const struct page *p, const struct page *q)
{
	return entry_state(p->entry) == entry_state(q->entry) &&
		p->flags == q->flags && p->mapcount == q->mapcount;
}

/* Consecutive pages whose fields go on in the same way, as one RUN. */
static size_t j_run(const struct page *p, size_t left)
{
	size_t n = 1;
	int64_t step = 0;
	char letter = entry_state(p->entry);
	bool mapped = letter != 'N';

	if (left > 1 && goes_on(p, p + 1)) {
		step = mapped ? stride(p) : 0;
		while (n < left && goes_on(p, p + n) &&
		       (!mapped || stride(p + n - 1) == step))
			n++;
	}
	j_open(NULL, '[');
	j_int(NULL, n);
	j_strn(NULL, &letter, 1);
	if (mapped) {
		j_int(NULL, p->entry & PM_VALUE);
		j_int(NULL, step);
	}
	if (p->entry & PM_PRESENT) {
		j_hex(NULL, p->flags);
		j_int(NULL, p->mapcount);
	}
	j_close(']');
	return n;
}

static void j_proc(const char *key, pid_t pid, const char *file,
		   const char *const *keys)
{
	char path[64], text[8192];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	if (read_file(path, text, sizeof(text)) < 0)
		return;
	j_open(key, '{');
	j_lines(text, keys, true);
	j_close('}');
}

static void j_actor(const struct actor *a, const struct page **at)
{
	static const char *const status[] = {
		"RssAnon", "VmSwap", "VmLck", NULL,
	};
	char path[64];
	long long merging;

	j_open(a->name, '{');
	j_int("pid", a->pid);
	j_open("areas", '{');
	for (size_t i = 0; i < a->nareas; i++) {
		size_t left = a->areas[i].npages;

		j_open(a->areas[i].name, '[');
		while (left) {
			size_t n = j_run(*at, left);

			*at += n;
			left -= n;
		}
		j_close(']');
	}
	j_close('}');
	snprintf(path, sizeof(path), "/proc/%d/ksm_merging_pages", a->pid);
	merging = read_number(path, -1);
	if (merging < 0)
		j_null("merging");
	else
		j_int("merging", merging);
	j_proc("stat", a->pid, "ksm_stat", NULL);
	j_proc("status", a->pid, "status", status);
	j_close('}');
}

static bool same(const struct reading *a, const struct reading *b)
{
	return !memcmp(a->pages, b->pages, a->npages * sizeof(*a->pages)) &&
		!strcmp(a->counters, b->counters);
}

/*
 * All page frames there are: those of KSM, and anonymous ones that nobody maps.
 * A page that lost a reference too few is still among them when nobody has it.
 */
static void j_frames(void)
{
	static uint64_t flags[8192];
	long long ksm = 0, cached = 0, unmapped = 0;
	int fd = open_proc("/proc/kpageflags");
	ssize_t n;

	while ((n = read(fd, flags, sizeof(flags))) > 0)
		for (ssize_t i = 0; i < n / 8; i++) {
			bool in_cache = flags[i] >> KPF_SWAPCACHE & 1;

			unmapped += (flags[i] >> KPF_ANON & 1) && !(flags[i] >> KPF_MMAP & 1);
			if (flags[i] >> KPF_KSM & 1)
				*(in_cache ? &cached : &ksm) += 1;
		}
	close(fd);
	j_open("frames", '{');
	j_int("ksm", ksm);
	j_int("ksm_swapcache", cached);
	j_int("unmapped", unmapped);
	j_close('}');
}

/* Page frames that a reading before found with actors, and which nobody has freed. */
static size_t count_left(const struct reading *r)
{
	uint64_t *mapped = need(r->npages, sizeof(*mapped));
	size_t n = 0, left;

	for (const struct page *p = r->pages; p < r->pages + r->npages; p++)
		if (p->entry & PM_PRESENT)
			mapped[n++] = p->entry & PM_VALUE;
	left = frames_left(mapped, n);
	free(mapped);
	return left;
}

/* A cache that was merged with others of its size tells nothing, and is null. */
static void j_slab(const char *cache)
{
	if (slab_is_shared(cache))
		j_null(cache);
	else
		j_int(cache, slab_objects(cache));
}

enum extent { PAGES_ONLY, WITH_SLAB, WITH_CENSUS };

static void observe_all(const char *label, enum extent extent)
{
	struct reading r[2];
	const struct page *at;
	unsigned int reads = 1;

	for (int i = 0; i < 2; i++) {
		r[i].npages = count_pages();
		r[i].pages = need(r[i].npages, sizeof(struct page));
	}
	take(&r[0]);
	do {
		take(&r[reads & 1]);
		reads++;
	} while (!same(&r[0], &r[1]) && reads < MAX_READS);

	j_begin("obs");
	j_str("label", label);
	j_bool("stable", same(&r[0], &r[1]));
	j_int("reads", reads);
	j_ksm_files();
	j_system_files(false);
	if (extent != PAGES_ONLY) {
		j_open("slab", '{');
		j_int("anon_vma", slab_objects("anon_vma"));
		j_slab("mm_struct");
		j_slab("ksm_rmap_item");
		j_slab("ksm_stable_node");
		j_slab("ksm_mm_slot");
		j_close('}');
	}
	if (extent == WITH_CENSUS)
		j_frames();
	j_int("left", count_left(&r[(reads - 1) & 1]));
	j_open("procs", '{');
	at = r[(reads - 1) & 1].pages;
	for (struct actor *a = actors; a < actors + nactors; a++)
		if (a->alive)
			j_actor(a, &at);
	j_close('}');
	observations++;
	free(r[0].pages);
	free(r[1].pages);
	wait_for_host(WAITS_AFTER_OBS, j_end());
}

void observe(const char *label)
{
	observe_all(label, PAGES_ONLY);
}

void observe_slab(const char *label)
{
	observe_all(label, WITH_SLAB);
}

void observe_census(const char *label)
{
	observe_all(label, WITH_CENSUS);
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reclaim of a memcg, by cgroup2's memory.reclaim or memory.high (memcg_reclaim).
 *
 * Its return code says nothing: -EAGAIN is normal.  The page tables are looked
 * at after each attempt.  The statistics which memcg reclaim goes by
 * (inactive_is_low) may be seconds old: mem_cgroup_flush_stats() leaves them
 * alone until enough has changed, and since 6.8 reclaim itself waits for the
 * periodic flush.  With stale ones pages stayed for up to 5.1 s although nothing
 * was wrong.  Reading cpu.stat brings them up to date whatever has changed
 * (cgroup_base_stat_cputime_show, to cgroup_rstat_flush_locked, which flushes all
 * controllers of the cgroup), so that is done before each attempt.  Since 6.16 it
 * flushes no controller (css_rstat_flush of the cgroup's own css), and nothing
 * else does unless more than a batch per CPU has changed (mm/memcontrol.c:
 * memcg_vmstats_needs_flush): there the memory that is stirred after an attempt in
 * vain, and a read of memory.stat, do it; so in cgroup v1, which has no such file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failing.h"
#include "guest.h"
#include "memcg.h"
#include "observe.h"
#include "walks.h"

#define DEADLINE_MS 20000
#define QUIET_MS 2000		/* nothing changed any more, in spite of */
#define QUIET_ATTEMPTS 20	/* as many attempts, though Z is out */
#define LINGER_MS 3000
#define REST_US 5000		/* between two looks at what kswapd may be at work on */
#define REST_LOOKS 100
#define STIR_PAGES 192		/* twice the batch of memcg_rstat_updated, and more */

/* The page tables of all areas, one after another. */
struct picture {
	uint64_t *entries;
	size_t count;
};

static long long now_ms(void)
{
	return monotonic_seconds() * 1000;
}

#define for_each_area(a, area)						\
	for (struct actor *a = actors; a < actors + nactors; a++)	\
		for (struct area *area = a->areas;			\
		     a->alive && area < a->areas + a->nareas; area++)

static struct picture new_picture(void)
{
	struct picture p = { .count = 0 };

	for_each_area(a, area)
		p.count += area->npages;
	p.entries = need(p.count, sizeof(*p.entries));
	return p;
}

static void take(struct picture *p)
{
	size_t at = 0;

	for_each_area(a, area) {
		read_pagemap(a, area, p->entries + at);
		at += area->npages;
	}
}

static bool same_states(const struct picture *a, const struct picture *b)
{
	for (size_t i = 0; i < a->count; i++)
		if (entry_state(a->entries[i]) != entry_state(b->entries[i]))
			return false;
	return true;
}

/* Is nothing left that is waited for?  And is the control out? */
static bool all_gone(const struct picture *p, const struct actor *z, bool *control)
{
	bool gone = true;
	size_t at = 0;

	*control = true;
	for_each_area(a, area)
		for (size_t i = 0; i < area->npages; i++, at++) {
			if (!(p->entries[at] & PM_PRESENT))
				continue;
			if (a == z)
				*control = false;
			if (!area->keep[i])
				gone = false;
		}
	return gone;
}

/*
 * Page frames that were mapped before, are not now, and still are KSM pages.
 * One that something maps has been freed and taken by another process: where
 * KPF_KSM stands on every anonymous page (6.12) it looks like a KSM page still.
 */
static size_t count_lingering(const struct picture *before,
			      const struct picture *now, bool *written)
{
	size_t lingering = 0;

	*written = true;
	for (size_t i = 0; i < before->count; i++) {
		uint64_t pfn = before->entries[i] & PM_VALUE, flags;
		bool mapped = false, counted = false;

		if (!(before->entries[i] & PM_PRESENT) ||
		    (now->entries[i] & PM_PRESENT))
			continue;
		flags = page_flags(pfn);
		if (!(flags >> KPF_KSM & 1) || (flags >> KPF_MMAP & 1))
			continue;
		for (size_t k = 0; k < now->count && !mapped; k++)
			mapped = (now->entries[k] & PM_PRESENT) &&
				(now->entries[k] & PM_VALUE) == pfn;
		for (size_t k = 0; k < i && !counted; k++)
			counted = (before->entries[k] & PM_PRESENT) &&
				(before->entries[k] & PM_VALUE) == pfn;
		lingering += !mapped && !counted;
		if (flags >> KPF_WRITEBACK & 1)
			*written = false;
	}
	return lingering;
}

/* So many frames stay, whatever the swap device has done. */
static size_t pinned_pages(void)
{
	size_t pinned = 0;

	for (struct actor *a = actors; a < actors + nactors; a++)
		if (a->alive)
			pinned += a->pinned;
	return pinned;
}

static void j_states(const struct picture *p)
{
	const struct actor *last = NULL;
	size_t at = 0;

	j_open("states", '{');
	for_each_area(a, area) {
		if (a != last) {
			if (last)
				j_close('}');
			j_open(a->name, '{');
			last = a;
		}
		j_open(area->name, '[');
		for (size_t i = 0; i < area->npages;) {
			char kind[2] = { entry_state(p->entries[at]) };
			size_t n = 0;

			while (i < area->npages &&
			       entry_state(p->entries[at]) == kind[0]) {
				n++;
				i++;
				at++;
			}
			j_open(NULL, '[');
			j_int(NULL, n);
			j_str(NULL, kind);
			j_close(']');
		}
		j_close(']');
	}
	if (last)
		j_close('}');
	j_close('}');
}

/* Attempts with the same outcome are told once. */
struct attempt {
	int error;
	long long ms;
	unsigned int times;
};

static void j_attempt(const struct attempt *attempt, const struct picture *p)
{
	j_open(NULL, '{');
	j_int("rc", attempt->error ? -1 : 0);
	j_str("errno", errno_name(attempt->error));
	j_int("ms", attempt->ms);
	j_int("times", attempt->times);
	j_states(p);
	j_close('}');
}

/* ballast.c.  For what came with memory.reclaim, in 5.19, there is a file in either hierarchy's kernels. */
static bool needs_ballast(void)
{
	return memcg_version() && access("/proc/self/ksm_merging_pages", F_OK) != 0;
}

static int try_once(const char *memcg, struct actor *z)
{
	char path[64], text[1024];

	for (int i = 0; i < 2; i++) {	/* see above */
		snprintf(path, sizeof(path), MEMCG_ROOT "/%s/%s", memcg,
			 i ? "memory.stat" : "cpu.stat");
		read_file(path, text, sizeof(text));
	}
	if (needs_ballast())
		take_ballast(z);
	/* More than the memcg can hold, so that it tries all. */
	if (!memcg_reclaim(memcg, 512u << 20))
		return 0;
	if (errno == ENOENT)
		skip("neither memory.reclaim nor memory.high in cgroup2: no precise way to reclaim");
	if (errno != EAGAIN && errno != EINTR && errno != EBUSY)
		fail("reclaim", errno, "of memcg %s", memcg);
	return errno;
}

static void stir(struct actor *z)
{
	z->slot->bytes = STIR_PAGES * page_size();
	must(z, REQ_STIR, "stirring the memcg's statistics");
}

void keep(struct actor *a, const char *name, size_t first, size_t count)
{
	struct area *area = find_area(a, name);

	for (size_t i = first; i < area->npages && i - first < count; i++)
		area->keep[i] = 1;
}

/* The controls of other memcgs are not waited for. */
static void keep_controls(const char *memcg)
{
	for (struct actor *a = actors; a < actors + nactors; a++)
		if (a->alive && is_control(a) && strcmp(a->memcg, memcg))
			keep(a, "z", 0, ALL_PAGES);
}

static void j_keep(void)
{
	j_open("keep", '[');
	for_each_area(a, area)
		for (size_t i = 0; i < area->npages;) {
			size_t first = i;

			while (i < area->npages && area->keep[i])
				i++;
			if (i > first) {
				j_open(NULL, '[');
				j_str(NULL, a->name);
				j_str(NULL, area->name);
				j_int(NULL, first);
				j_int(NULL, i - first);
				j_close(']');
			}
			i += i == first;
		}
	j_close(']');
}

/* The first attempt of the next reclaim gets no page without waiting for it. */
static bool short_of_pages;

static int try_short_of_pages(const char *memcg, struct actor *z,
			      unsigned int *failures)
{
	int error;

	refuse_all();
	error = try_once(memcg, z);
	*failures = allow_all();
	return error;
}

void reclaim(void)
{
	reclaim_memcg(MEMCG_NAME);
}

void reclaim_failing(void)
{
	short_of_pages = true;
	reclaim();
}

/* What a reclaim has come to.  Times are in ms. */
struct progress {
	struct actor *z;
	struct picture before, last, now, again;
	struct attempt attempt;		/* not told yet: the next may be like it */
	long long start, changed, gone_at;
	size_t unchanged, lingering;	/* attempts, page frames */
	bool control_gone;
};

/*
 * What kswapd does for the whole machine it does while the page tables are read, one
 * after another, so that the first may be older than the last.  It only takes pages
 * away: what is the same twice was so all between.
 */
static void take_at_rest(struct picture *now, struct picture *again)
{
	take(now);
	for (int i = 0; i < REST_LOOKS; i++) {
		usleep(REST_US);
		take(again);
		if (same_states(now, again))
			return;
		memcpy(now->entries, again->entries, now->count * 8);
	}
}

static void note_attempt(struct progress *p, int error)
{
	if (memcg_version())
		take(&p->now);
	else
		take_at_rest(&p->now, &p->again);
	if (p->attempt.times && same_states(&p->last, &p->now)) {
		p->attempt.times++;
		p->unchanged++;
	} else {
		if (p->attempt.times)
			j_attempt(&p->attempt, &p->last);
		p->attempt = (struct attempt){ error, now_ms() - p->start, 1 };
		p->changed = now_ms();
		p->unchanged = 0;
	}
	memcpy(p->last.entries, p->now.entries, p->now.count * 8);
}

/* Why a further attempt would be of no use; NULL as long as it may be. */
static const char *why_over(struct progress *p)
{
	bool gone = all_gone(&p->now, p->z, &p->control_gone) && walks_complete();
	bool written;

	/* The frames themselves go when the swap device is done. */
	if (gone) {
		p->gone_at = p->gone_at ? p->gone_at : now_ms();
		p->lingering = count_lingering(&p->before, &p->now, &written);
		if ((written && p->lingering <= pinned_pages()) ||
		    now_ms() > p->gone_at + patient(LINGER_MS))
			return "done";
	} else if (p->control_gone && p->unchanged >= QUIET_ATTEMPTS &&
		   now_ms() > p->changed + patient(QUIET_MS)) {
		p->lingering = count_lingering(&p->before, &p->now, &written);
		return "quiet";
	}
	return NULL;
}

/* Attempts until it is over; gives why it is, and how many allocations were made to fail. */
static const char *try_all(struct progress *p, const char *memcg,
			   unsigned int *failures)
{
	while (now_ms() < p->start + patient(DEADLINE_MS)) {
		int error = short_of_pages ? try_short_of_pages(memcg, p->z, failures) :
			try_once(memcg, p->z);
		const char *why;

		short_of_pages = false;
		walks_collect();
		note_attempt(p, error);
		why = why_over(p);
		if (why)
			return why;
		if (p->unchanged)
			stir(p->z);
		usleep(p->unchanged < 5 ? 2000 : 50000);
	}
	return "deadline";
}

void reclaim_memcg(const char *memcg)
{
	struct actor *z = control_of(memcg);
	struct progress p = {
		.z = z, .before = new_picture(), .last = new_picture(),
		.now = new_picture(), .again = new_picture(), .start = now_ms(),
	};
	bool failing = short_of_pages;
	unsigned int failures = 0;
	const char *why;

	/* A control that is out already would prove nothing: bring it back. */
	read_pages(z, "z", 0, ALL_PAGES);
	keep_controls(memcg);
	op_begin("reclaim");
	j_str("memcg", memcg);
	j_keep();
	j_watched();
	if (failing)
		j_failing(ATOMIC_PAGES, 0);
	op_go();
	take(&p.before);
	walks_begin();
	ret_begin(0, 0);
	j_open("attempts", '[');
	why = try_all(&p, memcg, &failures);
	if (needs_ballast())
		drop_ballast(z);
	memcg_reclaimed();
	j_attempt(&p.attempt, &p.last);
	j_close(']');
	j_walks();
	if (failing)
		j_int("failed", failures);
	j_str("control", p.control_gone ? "gone" : "stuck");
	j_int("lingering", p.lingering);
	j_str("why", why);
	ret_end();
	for_each_area(a, area)
		memset(area->keep, 0, area->npages);
	free(p.before.entries);
	free(p.last.entries);
	free(p.now.entries);
	free(p.again.entries);
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The crowd, as the director sees it: gathered, let loose, called back, and
 * told of with its books.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "roam.h"

#define CALL_BACK_SECONDS 40
#define MAX_DEATHS 8

static struct actor *members[ROAMERS];
static pid_t troublemakers[TROUBLEMAKERS];
static uint64_t seed;

/* Processes that died and should not have. */
static struct death {
	const char *who;
	int status;
} deaths[MAX_DEATHS];
static unsigned int ndeaths;

static const char *const area_names[ROAM_AREAS] = { "a", "b" };

static void make_crowd(void)
{
	char name[8];

	crowd = mmap(NULL, sizeof(*crowd), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (crowd == MAP_FAILED)
		fail("mmap", errno, "the crowd's books");
	for (int i = 0; i < ROAMERS; i++) {
		snprintf(name, sizeof(name), "W%d", i);
		members[i] = new_actor(name);
		members[i]->alive = false;
		crowd->roamers[i].slot = members[i]->slot;
	}
}

static void enroll(int i, size_t bytes)
{
	struct actor *a = members[i];
	struct roamer *r = &crowd->roamers[i];

	a->alive = true;
	a->slot->asked = a->slot->answered = 0;
	start_actor(a, MEMCG_NAME);
	for (int k = 0; k < ROAM_AREAS; k++) {
		map_area(a, area_names[k], bytes);
		memset(&r->books[k], 0, sizeof(r->books[k]));
		r->books[k].addr = a->areas[k].addr;
	}
	r->pid = a->pid;
	r->begun = false;
	r->wrongs = 0;
	r->child_status = 0;
	r->state = ROAMING;
	crowd->population++;
}

void gather_crowd(const struct crowd_plan *plan)
{
	if (stepped_by_run)
		skip("ksmd cannot be stopped in the middle of its sleep (kernel before 5.0)");
	if (!crowd)
		make_crowd();
	seed = plan->seed ? plan->seed : 1;
	crowd->npages = pages(plan->bytes);
	if (plan->processes > ROAMERS || crowd->npages > ROAM_PAGES)
		fail("crowd", EINVAL, "at most %d processes with areas of %d pages",
		     ROAMERS, ROAM_PAGES);
	crowd->population = 0;
	crowd->least = plan->processes / 2 + 1;
	crowd->most = ROAMERS;
	for (unsigned int i = 0; i < plan->processes; i++)
		enroll(i, plan->bytes);
}

/* An actor whose process is gone; its place can be taken by a fork. */
static void forget(int i)
{
	struct actor *a = members[i];

	for (size_t k = 0; k < a->nareas; k++)
		free(a->areas[k].keep);
	a->nareas = 0;
	a->alive = false;
	a->pid = 0;
	crowd->roamers[i].pid = 0;
	__atomic_store_n(&crowd->roamers[i].state, FREE, __ATOMIC_RELEASE);
}

static void note_death(const char *who, int status)
{
	if (ndeaths < MAX_DEATHS)
		deaths[ndeaths] = (struct death){ who, status };
	ndeaths++;
}

static void bury(pid_t pid, int status)
{
	for (int i = 0; i < TROUBLEMAKERS; i++)
		if (troublemakers[i] == pid) {
			troublemakers[i] = 0;
			return;
		}
	for (int i = 0; i < ROAMERS; i++) {
		struct roamer *r = &crowd->roamers[i];
		uint32_t state = __atomic_load_n(&r->state, __ATOMIC_ACQUIRE);

		if (state == FREE || __atomic_load_n(&r->pid, __ATOMIC_ACQUIRE) != pid)
			continue;
		if (state != LEFT || status) {
			note_death(members[i]->name, status);
			__atomic_fetch_sub(&crowd->population, 1, __ATOMIC_RELAXED);
		}
		forget(i);
		return;
	}
	note_death("?", status);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		bury(pid, status);
}

/* A fork of the crowd's that goes on as one of us. */
static void adopt(int i)
{
	struct roamer *r = &crowd->roamers[i];
	struct actor *a = members[i];

	a->pid = r->pid;
	a->alive = true;
	a->base = r->books[0].addr;
	if (a->nareas)
		return;
	for (int k = 0; k < ROAM_AREAS; k++) {
		struct area *area = &a->areas[k];

		snprintf(area->name, sizeof(area->name), "%s", area_names[k]);
		area->addr = r->books[k].addr;
		area->npages = crowd->npages;
		area->keep = need(area->npages, 1);
	}
	a->nareas = ROAM_AREAS;
}

static bool rests(const struct roamer *r)
{
	return __atomic_load_n(&r->slot->answered, __ATOMIC_ACQUIRE) ==
		__atomic_load_n(&r->slot->asked, __ATOMIC_ACQUIRE);
}

/* Who has not come back: a name, and a pid where it has one already. */
struct missing {
	const char *name;
	pid_t pid;
};

static bool find_missing(struct missing *who)
{
	for (int i = 0; i < TROUBLEMAKERS; i++)
		if (troublemakers[i]) {
			*who = (struct missing){ "troublemaker", troublemakers[i] };
			return true;
		}
	for (int i = 0; i < ROAMERS; i++) {
		struct roamer *r = &crowd->roamers[i];
		uint32_t state = __atomic_load_n(&r->state, __ATOMIC_ACQUIRE);

		if (state == BORN || state == LEFT || (state == ROAMING && !rests(r))) {
			*who = (struct missing){ members[i]->name, r->pid };
			return true;
		}
	}
	return false;
}

/*
 * Whether one is missing still.  Who rests has no more children; but a child
 * may take a place that was found free, and its parent rest before it is looked
 * at: it is there at the next look.
 */
static bool some_missing(struct missing *who)
{
	uint32_t births = __atomic_load_n(&crowd->births, __ATOMIC_ACQUIRE);

	reap();
	*who = (struct missing){ "a child", 0 };
	return find_missing(who) ||
		__atomic_load_n(&crowd->births, __ATOMIC_ACQUIRE) != births;
}

static void call_back(void)
{
	double deadline = monotonic_seconds() + patient(CALL_BACK_SECONDS);
	struct missing who;

	__atomic_store_n(&crowd->stop, 1, __ATOMIC_RELEASE);
	while (some_missing(&who)) {
		if (monotonic_seconds() > deadline)
			stuck(who.name, who.pid);
		usleep(500);
	}
	for (int i = 0; i < ROAMERS; i++)
		if (crowd->roamers[i].state == ROAMING)
			adopt(i);
}

static void let_loose(void)
{
	crowd->stop = 0;
	ndeaths = 0;
	memset(crowd->deeds, 0, sizeof(crowd->deeds));
	memset(crowd->troubles, 0, sizeof(crowd->troubles));
	for (int i = 0; i < ROAMERS; i++) {
		crowd->roamers[i].wrongs = 0;
		crowd->roamers[i].child_status = 0;
		dice(&seed, 2);
		crowd->roamers[i].dice = seed;
	}
	for (int i = 0; i < TROUBLEMAKERS; i++) {
		dice(&seed, 2);
		troublemakers[i] = start_troublemaker(i, seed);
		if (troublemakers[i] < 0)
			fail("fork", errno, "a troublemaker");
	}
	for (int i = 0; i < ROAMERS; i++)
		if (members[i]->alive) {
			members[i]->slot->call = roam_here;
			wake(members[i], REQ_CALL);
		}
}

/* The same tag again and again, or one more each time. */
static void j_book(const struct book *b)
{
	j_open("book", '[');
	for (size_t i = 0; i < crowd->npages;) {
		size_t n = 1;

		while (i + n < crowd->npages && b->tag[i + n] == b->tag[i])
			n++;
		j_open(NULL, '[');
		j_int(NULL, n);
		j_int(NULL, b->tag[i]);
		j_int(NULL, 0);
		j_close(']');
		i += n;
	}
	j_close(']');
	j_open("mergeable", '[');
	for (size_t i = 0; i < crowd->npages;) {
		size_t n = 1;

		while (i + n < crowd->npages && b->mergeable[i + n] == b->mergeable[i])
			n++;
		j_open(NULL, '[');
		j_int(NULL, n);
		j_bool(NULL, b->mergeable[i]);
		j_close(']');
		i += n;
	}
	j_close(']');
}

static void j_population(void)
{
	j_open("population", '{');
	for (int i = 0; i < ROAMERS; i++) {
		if (!members[i]->alive)
			continue;
		j_open(members[i]->name, '{');
		j_int("pid", members[i]->pid);
		j_open("areas", '{');
		for (int k = 0; k < ROAM_AREAS; k++) {
			const struct book *b = &crowd->roamers[i].books[k];

			j_open(area_names[k], '{');
			j_hex("addr", b->addr);
			j_int("npages", crowd->npages);
			j_book(b);
			j_close('}');
		}
		j_close('}');
		j_close('}');
	}
	j_close('}');
}

static void j_wrong(void)
{
	j_open("wrong", '[');
	for (int i = 0; i < ROAMERS; i++) {
		const struct roamer *r = &crowd->roamers[i];

		for (uint32_t k = 0; k < r->wrongs && k < MAX_WRONG; k++) {
			const struct wrong *w = &r->wrong[k];

			j_open(NULL, '[');
			j_str(NULL, members[i]->name);
			j_str(NULL, area_names[w->area]);
			j_int(NULL, w->page);
			j_int(NULL, w->expected);
			j_int(NULL, w->found);
			j_close(']');
		}
	}
	j_close(']');
}

static void j_death(const char *who, int status)
{
	j_open(NULL, '[');
	j_str(NULL, who);
	j_int(NULL, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	j_int(NULL, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	j_close(']');
}

static void j_died(void)
{
	j_open("died", '[');
	for (unsigned int i = 0; i < ndeaths && i < MAX_DEATHS; i++)
		j_death(deaths[i].who, deaths[i].status);
	for (int i = 0; i < ROAMERS; i++)
		if (crowd->roamers[i].child_status)
			j_death(members[i]->name, crowd->roamers[i].child_status);
	j_close(']');
}

static void j_counts(const char *key, const char *const *names,
		     const uint32_t *counts, size_t n)
{
	j_open(key, '{');
	for (size_t i = 0; i < n; i++)
		j_int(names[i], counts[i]);
	j_close('}');
}

void roam(unsigned int ms)
{
	double end;

	op_begin("roam");
	j_int("ms", ms);
	j_hex("seed", seed);
	op_go();
	let_loose();
	end = monotonic_seconds() + ms / 1000.0;
	while (monotonic_seconds() < end) {
		reap();
		usleep(5000);
	}
	call_back();
	ret_begin(0, 0);
	j_counts("deeds", deed_names, crowd->deeds, DEEDS);
	j_counts("troubles", trouble_names, crowd->troubles, TROUBLES);
	j_wrong();
	j_died();
	j_population();
	ret_end();
}

static void for_crowd(void (*what)(struct actor *, const char *, size_t, size_t))
{
	for (int i = 0; i < ROAMERS; i++)
		for (int k = 0; k < ROAM_AREAS && members[i]->alive; k++)
			what(members[i], area_names[k], 0, ALL_PAGES);
}

void crowd_verify(void)
{
	for_crowd(verify);
}

void crowd_mergeable(void)
{
	for_crowd(mergeable);
	for (int i = 0; i < ROAMERS; i++)
		for (int k = 0; k < ROAM_AREAS; k++)
			memset(crowd->roamers[i].books[k].mergeable, true,
			       sizeof(crowd->roamers[i].books[k].mergeable));
}

void crowd_exit(void)
{
	for (int i = 0; i < ROAMERS; i++)
		if (members[i]->alive) {
			exit_actor(members[i]);
			forget(i);
		}
}

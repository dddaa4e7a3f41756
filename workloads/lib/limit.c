// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Faults for which there is no room.  The actor's memcg has its hard limit at 0,
 * may not swap, and nobody in it may be killed: what is charged to it is refused
 * (mm/memcontrol.c: try_charge_memcg).  The fault is taken by the director, who
 * is in another memcg, through /proc/PID/mem: it is charged to the actor's, and is
 * given up with EIO, where a process of its own would have to take it for ever.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"
#include "memcg.h"

#define PRINTK "/proc/sys/kernel/printk"
#define NO_WARNINGS "4"		/* the killer that finds nobody warns at length */
#define NEVER "-1000"		/* is killed */
#define MANY 16
#define ROUNDS 16		/* what is lost adds up over them, what only comes and goes does not */

static void must_write(const char *path, const char *value)
{
	if (write_file(path, value) < 0)
		fail("limit", errno, "writing %s to %s", value, path);
}

static void set(const char *memcg, const char *file, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/%s", memcg, file);
	must_write(path, value);
}

static void spare_all(const char *memcg, const char *score)
{
	char path[64], text[4096], *line, *save = NULL;

	snprintf(path, sizeof(path), MEMCG_ROOT "/%s/cgroup.procs", memcg);
	if (read_file(path, text, sizeof(text)) <= 0)
		fail("limit", errno, "reading %s", path);
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		snprintf(path, sizeof(path), "/proc/%s/oom_score_adj", line);
		must_write(path, score);
	}
}

static void leave_no_room(const char *memcg)
{
	spare_all(memcg, NEVER);
	set(memcg, "memory.swap.max", "0");
	set(memcg, "memory.max", "0");
}

static void make_room(const char *memcg)
{
	set(memcg, "memory.max", "max");
	set(memcg, "memory.swap.max", "max");
	spare_all(memcg, "0");
}

static void read_each(int mem, unsigned long addr, int *errors, size_t count)
{
	char byte;

	for (size_t i = 0; i < count; i++)
		errors[i] = pread(mem, &byte, 1, addr + i * page_size()) == 1 ? 0 : errno;
}

/*
 * Those that were refused again and again, MANY times: whatever each of them leaves
 * behind shows then.  Returns how often it was refused.
 */
static unsigned int read_again(int mem, unsigned long addr, const int *errors, size_t count)
{
	unsigned int refused = 0, before;
	int error;

	do {
		before = refused;
		for (size_t i = 0; i < count && refused < MANY; i++) {
			if (!errors[i])
				continue;
			read_each(mem, addr + i * page_size(), &error, 1);
			refused += error != 0;
		}
	} while (refused < MANY && refused > before);
	return refused;
}

/*
 * Pages that became less in all; false if nobody can tell.  Goes on for as long as
 * they may be of those that were refused: with KASAN some 40 come and go by themselves.
 */
static bool count_lost(int mem, unsigned long addr, const int *errors, size_t count,
		       unsigned int *refused, long long *lost)
{
	long long before = pages_known(), after;
	unsigned int again;

	if (before < 0)
		return false;
	for (int round = 0; round < ROUNDS; round++) {
		again = read_again(mem, addr, errors, count);
		after = pages_known();
		if (after < 0)
			return false;
		*refused += again;
		*lost = before - after;
		if (again < MANY || *lost < *refused / 2)
			break;
	}
	return true;
}

static void tell_runs(const int *errors, size_t count)
{
	size_t run;

	j_open("outcomes", '[');
	for (size_t i = 0; i < count; i += run) {
		for (run = 1; i + run < count && errors[i + run] == errors[i]; run++)
			;
		j_open(NULL, '[');
		j_int(NULL, run);
		j_str(NULL, errno_name(errors[i]));
		j_close(']');
	}
	j_close(']');
}

void read_without_room(struct actor *a, const char *area, size_t first, size_t count)
{
	char path[32], level[64];
	unsigned int again = 0;
	long long lost = 0;
	int mem, *errors;
	bool known;

	if (memcg_version() != 2) {
		note("no cgroup2, so no limit at which nobody is killed");
		return;
	}
	op_begin("read_without_room");
	count = aim(a, area, first, count);
	op_go();
	snprintf(path, sizeof(path), "/proc/%d/mem", a->pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	errors = calloc(count, sizeof(*errors));
	if (mem < 0 || !errors || read_file(PRINTK, level, sizeof(level)) <= 0)
		fail("limit", errno, "%s, " PRINTK, path);
	level[strcspn(level, " \t\n")] = '\0';
	must_write(PRINTK, NO_WARNINGS);
	leave_no_room(a->memcg);
	read_each(mem, a->slot->addr, errors, count);
	known = count_lost(mem, a->slot->addr, errors, count, &again, &lost);
	make_room(a->memcg);
	must_write(PRINTK, level);
	ret_begin(0, 0);
	tell_runs(errors, count);
	j_int("again", again);
	if (known)
		j_int("lost", lost);
	else
		j_null("lost");
	ret_end();
	free(errors);
	close(mem);
}

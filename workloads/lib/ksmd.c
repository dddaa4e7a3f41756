// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stepping ksmd.  It sleeps for ages; writing another value to sleep_millisecs
 * wakes it for one batch, and as pages_to_scan is huge and a batch ends with
 * the full scan (mm/ksm.c: ksm_do_scan), one poke is one full scan.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actor.h"
#include "failing.h"
#include "guest.h"
#include "ksmd.h"

#define ALL "100000000"		/* pages_to_scan: more than there are */
#define STUCK_SECONDS 30
/* A poke can be absorbed by a batch that is just ending: then poke again. */
#define REPOKE_SECONDS 1
#define IDLE_POKES 10		/* one that these do not stir will not scan */

void poke(void)
{
	long long value = read_number(KSM_DIR "/sleep_millisecs", 0);
	char text[24];

	/* Only a value that differs from the last one wakes ksmd. */
	snprintf(text, sizeof(text), "%d", value == 1000000 ? 1000001 : 1000000);
	if (write_file(KSM_DIR "/sleep_millisecs", text) < 0)
		refused("sleep_millisecs", errno, "poking ksmd");
}

/* By /proc/PID/stat, "PID (ksmd) S": before 2.6.33 there is no comm. */
pid_t find_ksmd(void)
{
	struct dirent *entry;
	char path[300], stat[256];
	DIR *proc = opendir("/proc");

	while (proc && (entry = readdir(proc))) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		if (read_file(path, stat, sizeof(stat)) > 0 &&
		    strstr(stat, " (ksmd) ")) {
			pid_t pid = atoi(entry->d_name);

			closedir(proc);
			return pid;
		}
	}
	if (proc)
		closedir(proc);
	return 0;
}

static pid_t ksmd;

/*
 * State S alone does not do with several CPUs: a task that is about to leave its
 * CPU has it too, and who wakes it then leaves the state as it is until that CPU
 * comes round (kernel/sched/core.c: try_to_wake_up, ttwu_queue_wakelist), so that
 * it looks asleep after a poke.  /proc/PID/syscall tells of tasks that are off
 * their CPUs only (lib/syscall.c: task_current_syscall), but of no kernel thread
 * on Power, where those have no registers to tell: nor of kthreadd then, which
 * sleeps.
 */
#define KTHREADD 2

static bool runs(pid_t pid)
{
	char path[32], text[64];

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	return read_file(path, text, sizeof(text)) > 0 && !strncmp(text, "running", 7);
}

static bool off_cpu(void)
{
	return !runs(ksmd) || runs(KTHREADD);
}

char ksmd_state(void)
{
	char path[32], text[256], *paren;

	if (!ksmd)
		ksmd = find_ksmd();
	snprintf(path, sizeof(path), "/proc/%d/stat", ksmd);
	if (read_file(path, text, sizeof(text)) <= 0)
		refused("ksmd", errno, "reading %s", path);
	paren = strrchr(text, ')');
	return paren && paren[1] ? paren[2] : '?';
}

bool asleep(void)
{
	return ksmd_state() == 'S' && off_cpu();
}

/*
 * While the director polls it must not have the CPU that ksmd needs: who yields has
 * it back as soon as others have had their share, and ksmd's is a quarter (nice 5).
 */
void stand_back(bool back)
{
	struct sched_param none = { .sched_priority = 0 };

	/* musl's function always fails. */
	if (syscall(SYS_sched_setscheduler, 0, back ? SCHED_IDLE : SCHED_OTHER, &none) < 0)
		fail("sched_setscheduler", errno, "standing %s", back ? "back" : "up");
}

/* Between two batches: a poke before ksmd sleeps again would be lost. */
void wait_asleep(void)
{
	double start = monotonic_seconds();

	while (!stepped_by_run && !asleep()) {
		if (monotonic_seconds() > start + patient(STUCK_SECONDS))
			stuck("ksmd", ksmd);
		sched_yield();
	}
}

/* Pages on their way to the LRU list are not merged; before 2.6.38 nobody but mlock drains them. */
static void drain_pagevecs(void)
{
	static char page[1];

	if (mlock(page, 1) < 0 || munlock(page, 1) < 0)
		refused("mlock", errno, "draining pagevecs");
}

static void write_run(const char *value)
{
	if (write_file(KSM_DIR "/run", value) < 0)
		refused("run", errno, "writing %s", value);
}

/*
 * ksmd waits for run=1, scans, and sleeps a while before the next scan.  When the
 * write of 0 has returned no scan is going on (ksm_thread_mutex); full_scans tells
 * how many there were, should that have come too late.
 */
static void run_for_one_scan(void)
{
	long long before = read_number(FULL_SCANS, -1);
	double start = monotonic_seconds();

	drain_pagevecs();
	write_run("1");
	while (read_number(FULL_SCANS, -1) == before) {
		if (monotonic_seconds() > start + patient(STUCK_SECONDS)) {
			if (asleep())
				refused("ksmd", ETIME, "asleep at run=1, without a full scan");
			stuck("ksmd", ksmd);
		}
		sched_yield();
	}
	write_run("0");
}

unsigned int one_scan(void)
{
	long long before = read_number(FULL_SCANS, -1);
	double start = monotonic_seconds(), poked = start;
	unsigned int pokes = 1;

	if (stepped_by_run) {
		run_for_one_scan();
		return 1;
	}
	poke();
	while (read_number(FULL_SCANS, -1) == before) {
		double now = monotonic_seconds();

		if (now > start + patient(STUCK_SECONDS))
			stuck("ksmd", find_ksmd());
		if (now > poked + patient(REPOKE_SECONDS)) {
			/* A starved one would be runnable, a blocked one in D. */
			if (pokes >= IDLE_POKES && asleep())
				refused("ksmd", ETIME, "asleep after %u pokes, without a full scan", pokes);
			poke();
			poked = now;
			pokes++;
		}
		sched_yield();
	}
	return pokes;
}

void ret_scans(long long from)
{
	long long to = read_number(FULL_SCANS, -1);

	ret_begin(0, 0);
	j_int("from", from);
	j_int("to", to);
}

void scan(unsigned int scans)
{
	unsigned int pokes = 0;
	long long from;

	op_begin("scan");
	j_int("scans", scans);
	op_go();
	from = read_number(FULL_SCANS, -1);
	stand_back(true);
	while (scans--) {
		pokes += one_scan();
		wait_asleep();	/* full_scans rises inside the batch */
	}
	stand_back(false);
	ret_scans(from);
	j_int("pokes", pokes);
	ret_end();
}

void scan_freely(unsigned int scans)
{
	double start = monotonic_seconds();
	long long from;

	if (stepped_by_run) {
		scan(1);
		return;
	}
	op_begin("scan");
	j_int("scans", scans);
	j_str("by", "itself");
	op_go();
	from = read_number(FULL_SCANS, -1);
	if (write_file(KSM_DIR "/sleep_millisecs", "0") < 0)
		refused("sleep_millisecs", errno, "letting ksmd go");
	while (read_number(FULL_SCANS, -1) < from + scans) {
		if (monotonic_seconds() > start + patient(STUCK_SECONDS))
			stuck("ksmd", find_ksmd());
		sched_yield();
	}
	poke();
	wait_asleep();
	ret_scans(from);
	j_int("pokes", 1);
	ret_end();
}

void await_scan(long long from, const char *after)
{
	double start = monotonic_seconds();

	while (read_number(FULL_SCANS, -1) == from) {
		if (monotonic_seconds() > start + patient(REPOKE_SECONDS) && asleep())
			refused("ksmd", ETIME, "asleep after %s", after);
		if (monotonic_seconds() > start + patient(STUCK_SECONDS))
			stuck("ksmd", ksmd);
		sched_yield();
	}
	wait_asleep();
}

void scan_by_run(void)
{
	long long from;

	if (stepped_by_run) {
		ksm_run(1);
		scan(1);
		return;
	}
	op_begin("scan");
	j_int("scans", 1);
	j_str("by", "run");
	op_go();
	from = read_number(FULL_SCANS, -1);
	stand_back(true);
	poke();		/* from its sleep between batches to where it waits for work */
	wait_asleep();
	write_run("1");
	await_scan(from, "run=1");
	stand_back(false);
	ret_scans(from);
	j_int("pokes", 0);
	ret_end();
}

static void set_batch(const char *pages)
{
	if (write_file(KSM_DIR "/pages_to_scan", pages) < 0)
		refused("pages_to_scan", errno, "writing %s", pages);
}

/*
 * One batch: ksmd sleeps when it is poked, so that the poke is not absorbed,
 * and when it sleeps again the batch is over.
 */
static void batch(unsigned int count, unsigned int failing)
{
	bool failed = false;
	long long from;
	char text[16];

	if (stepped_by_run)
		skip("ksmd cannot be woken for one batch (kernel before 5.0)");
	op_begin("batch");
	j_int("pages", count);
	if (failing)
		j_failing(KSM_OBJECTS, failing);
	op_go();
	from = read_number(FULL_SCANS, -1);
	snprintf(text, sizeof(text), "%u", count);
	wait_asleep();
	set_batch(text);
	if (failing)
		arm(ksmd, failing);
	stand_back(true);
	poke();
	wait_asleep();
	stand_back(false);
	if (failing)
		failed = disarm();
	set_batch(ALL);
	ret_scans(from);
	if (failing)
		j_bool("failed", failed);
	ret_end();
}

void scan_pages(unsigned int count)
{
	batch(count, 0);
}

void scan_failing(unsigned int n)
{
	choose_failing(KSM_OBJECTS);
	batch(atoi(ALL), n);
}

#define COUNTERS 4
#define SETTLE_SCANS 12

static const char *const counters[COUNTERS] = {
	"pages_shared", "pages_sharing", "pages_unshared", "pages_volatile",
};

static void read_counters(long long *values)
{
	char path[128];

	for (int i = 0; i < COUNTERS; i++) {
		snprintf(path, sizeof(path), KSM_DIR "/%s", counters[i]);
		values[i] = read_number(path, -1);
	}
}

/* Whatever ran free, ksmd sleeps for ages now, and is stepped from here on. */
static void put_on_leash(void)
{
	set_batch(ALL);
	if (stepped_by_run) {
		write_run("0");
		return;
	}
	if (write_file(KSM_DIR "/run", "1") < 0)
		refused("run", errno, "putting ksmd on its leash");
	poke();
	wait_asleep();
}

void leash(void)
{
	op_begin("leash");
	op_go();
	put_on_leash();
	op_done();
}

/* With smart_scan pages are left out of some scans for ever, and the counters never rest. */
static void set_smart_scan(bool on)
{
	if (write_file(KSM_DIR "/smart_scan", on ? "1" : "0") < 0)
		refused("smart_scan", errno, "writing %d", on);
}

void settle(void)
{
	bool smart = read_number(KSM_DIR "/smart_scan", 0) > 0;
	long long values[SETTLE_SCANS + 1][COUNTERS];
	bool settled = false;
	int scans = 0;

	op_begin("settle");
	op_go();
	put_on_leash();
	if (smart)
		set_smart_scan(false);
	read_counters(values[0]);
	stand_back(true);
	while (scans < SETTLE_SCANS && !settled) {
		one_scan();
		wait_asleep();
		read_counters(values[++scans]);
		/* The first one only ended a scan that had begun. */
		settled = scans > 3 &&
			!memcmp(values[scans], values[scans - 1], sizeof(values[0])) &&
			!memcmp(values[scans], values[scans - 2], sizeof(values[0]));
	}
	stand_back(false);
	if (smart)
		set_smart_scan(true);
	ret_begin(0, 0);
	j_int("scans", scans);
	j_bool("settled", settled);
	j_open("counters", '[');
	for (int i = 0; i <= scans; i++) {
		j_open(NULL, '[');
		for (int k = 0; k < COUNTERS; k++)
			j_int(NULL, values[i][k]);
		j_close(']');
	}
	j_close(']');
	ret_end();
}

/* run=1 means that ksmd may be stepped: where that is done by run, it is 0 meanwhile. */
static int tell_and_write(const char *op, const char *file, const char *value)
{
	bool kept = stepped_by_run && !strcmp(op, "run") && !strcmp(value, "1");
	char path[128];

	snprintf(path, sizeof(path), KSM_DIR "/%s", file);
	op_begin(op);
	if (strcmp(op, "run"))
		j_str("file", file);
	j_str("value", value);
	op_go();
	return write_file(path, kept ? "0" : value) < 0 ? errno : 0;
}

static void must_write(const char *op, const char *file, const char *value)
{
	int error;
	char why[128];

	if (!ksm_has(file)) {
		snprintf(why, sizeof(why), "this kernel's KSM has no %s", file);
		skip(why);
	}
	error = tell_and_write(op, file, value);
	if (error)
		refused(file, error, "writing %s", value);
	op_done();
}

void ksm_run(int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	must_write("run", "run", text);
}

void ksm_set(const char *file, const char *value)
{
	must_write("set", file, value);
}

bool ksm_has(const char *file)
{
	char path[128];

	snprintf(path, sizeof(path), KSM_DIR "/%s", file);
	return !access(path, F_OK);
}

bool ksm_try(const char *file, const char *value)
{
	int error = tell_and_write("set", file, value);

	ret_begin(error ? -1 : 0, error);
	ret_end();
	return !error;
}

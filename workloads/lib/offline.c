// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory blocks that go offline (mm/memory_hotplug.c: offline_pages).  Of all memory
 * only ZONE_MOVABLE is sure to be able to, which there is with movablecore= on the
 * kernel's command line (kconfigs/movable.config).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"
#include "ksmd.h"
#include "observe.h"

#define BLOCKS "/sys/devices/system/memory"
#define KSM_RUN_OFFLINE 4	/* in ksmd's run (mm/ksm.c) */
#define SECONDS 20
#define STEADY_MS 20		/* whoever waits so long is not only on its way */

size_t memory_block(void)
{
	char text[32];

	if (read_file(BLOCKS "/block_size_bytes", text, sizeof(text)) <= 0)
		skip("no memory that can go offline (CONFIG_MEMORY_HOTREMOVE)");
	return strtoull(text, NULL, 16);
}

static void find_block(char *path, size_t size, struct actor *a, const char *name, size_t page)
{
	struct area *area = find_area(a, name);
	uint64_t *entries = need(area->npages, sizeof(*entries));
	uint64_t frame;

	read_pagemap(a, area, entries);
	frame = entries[page] & PM_VALUE;
	free(entries);
	snprintf(path, size, BLOCKS "/memory%llu/state",
		 (unsigned long long)(frame * page_size() / memory_block()));
}

/* Somebody who writes it, and may be killed: his exit status is the error. */
static pid_t start_writer(const char *path)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(write_file(path, "offline") < 0 ? errno : 0);
	}
	if (pid < 0)
		fail("offline", errno, "no process to write %s", path);
	return pid;
}

/* The error he got, EINTR if he was killed in the middle of it. */
static int error_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int give_up(pid_t writer)
{
	int status = 0;

	kill(writer, SIGKILL);
	while (waitpid(writer, &status, 0) != writer)
		;
	return error_of(status);
}

static bool going_offline(void)
{
	return read_number(KSM_DIR "/run", 0) & KSM_RUN_OFFLINE;
}

/* Until KSM has been told; false, with his error, if the writer has ended before. */
static bool begins(pid_t writer, int *error)
{
	double start = monotonic_seconds();
	int status;

	while (!going_offline()) {
		if (waitpid(writer, &status, WNOHANG) == writer) {
			*error = error_of(status);
			return false;
		}
		if (monotonic_seconds() > start + patient(SECONDS)) {
			give_up(writer);
			refused("offline", ETIME, "KSM has not heard of it");
		}
		usleep(1000);
	}
	return true;
}

/* Poked, it does nothing but wait, and steadily. */
static bool ksmd_waits(long long from)
{
	double start = monotonic_seconds();
	int steady = 0;

	poke();
	while (steady < STEADY_MS) {
		if (read_number(FULL_SCANS, -1) != from)
			return false;
		if (monotonic_seconds() > start + patient(SECONDS))
			stuck("ksmd", find_ksmd());
		steady = ksmd_state() == 'D' ? steady + 1 : 0;
		usleep(1000);
	}
	return true;
}

static void begin_offline(char *path, size_t size, struct actor *a, const char *area,
			  size_t page, bool cancel)
{
	op_begin("offline");
	aim(a, area, page, 1);
	j_bool("cancel", cancel);
	op_go();
	find_block(path, size, a, area, page);
}

static void not_movable(int error)
{
	char why[96];

	snprintf(why, sizeof(why), "the block cannot go offline, %s: see --config movable",
		 errno_name(error));
	skip(why);
}

static void online(const char *path)
{
	if (write_file(path, "online") < 0)
		fail("online", errno, "%s", path);
}

void offline_cancelled(struct actor *a, const char *area, size_t page)
{
	bool waited = true, begun;
	char path[96];
	long long from;
	pid_t writer;
	int error;

	begin_offline(path, sizeof(path), a, area, page, true);
	if (stepped_by_run)
		skip("ksmd cannot be woken for one batch (kernel before 5.0)");
	from = read_number(FULL_SCANS, -1);
	writer = start_writer(path);
	begun = begins(writer, &error);
	if (!begun && error)
		not_movable(error);
	if (begun) {
		waited = ksmd_waits(from);
		error = give_up(writer);
		if (error && error != EINTR)	/* it had ended before: arm64 refuses boot memory, by a notifier as KSM's is */
			not_movable(error);
		stand_back(true);
		if (waited)
			await_scan(from, "memory did not go offline");
		wait_asleep();
		stand_back(false);
	}
	if (!error)
		online(path);
	ret_scans(from);
	j_bool("waited", waited);
	j_str("error", errno_name(error));
	ret_end();
}

void offline_and_online(struct actor *a, const char *area, size_t page)
{
	double start = monotonic_seconds();
	int status, error = 0;
	char path[96];
	pid_t writer;

	begin_offline(path, sizeof(path), a, area, page, false);
	writer = start_writer(path);
	while (waitpid(writer, &status, WNOHANG) != writer) {
		if (monotonic_seconds() > start + patient(SECONDS)) {
			give_up(writer);
			refused("offline", ETIME, "%s", path);
		}
		usleep(1000);
	}
	error = error_of(status);
	if (error)
		not_movable(error);
	online(path);
	op_done();
}

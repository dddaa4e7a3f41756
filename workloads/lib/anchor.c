// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The anchor: a process of init's with a mergeable area and no page in it.  As
 * long as one mm is registered ksmd stays in its timed sleep, and can be poked;
 * with none it waits for the first one to come (mm/ksm.c: ksmd_should_run,
 * __ksm_enter).  The anchor can be weighed, and dropped again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"
#include "ksmd.h"

#define ANCHOR_SECONDS 5

static pid_t anchor;
static int asks = -1, answers = -1;
static bool takes_advice;

static void serve_anchor(int asked, int answered)
{
	void *p = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int advice, error;

	while (read(asked, &advice, sizeof(advice)) == sizeof(advice)) {
		error = p == MAP_FAILED ? ENOMEM : 0;
		if (!error && madvise(p, page_size(), advice))
			error = errno;
		if (write(answered, &error, sizeof(error)) != sizeof(error))
			break;
	}
	_exit(1);
}

static int advise_anchor(int advice)
{
	struct pollfd answer = { .fd = answers, .events = POLLIN };
	int error;

	if (write(asks, &advice, sizeof(advice)) != sizeof(advice))
		return errno;
	if (!poll(&answer, 1, ANCHOR_SECONDS * 1000))
		return ETIMEDOUT;	/* it hangs there, and so will others */
	return read(answers, &error, sizeof(error)) == sizeof(error) ? error : ECHILD;
}

pid_t start_anchor(int *error)
{
	int ask[2], answer[2];

	*error = ECHILD;
	if (pipe2(ask, O_CLOEXEC) < 0 || pipe2(answer, O_CLOEXEC) < 0)
		return -1;
	anchor = fork();
	if (!anchor) {
		close(ask[1]);
		close(answer[0]);
		serve_anchor(ask[0], answer[1]);
	}
	close(ask[0]);
	close(answer[1]);
	asks = ask[1];
	answers = answer[0];
	if (anchor > 0)
		*error = advise_anchor(MADV_MERGEABLE);
	takes_advice = !*error;
	return anchor;
}

void restore_anchor(void)
{
	takes_advice = takes_advice && !advise_anchor(MADV_MERGEABLE);
}

static void advise(int advice)
{
	int error = advise_anchor(advice);

	if (error == ETIMEDOUT)
		stuck("anchor", anchor);
	if (error)
		refused("anchor", error, "advice %d", advice);
}

bool weigh_anchor(void)
{
	unsigned int pokes;
	long long from;

	if (stepped_by_run) {
		note("ksmd is stepped by run, and always waits for work");
		return false;
	}
	op_begin("anchor");
	j_bool("there", false);
	op_go();
	from = read_number(FULL_SCANS, -1);
	advise(MADV_UNMERGEABLE);
	stand_back(true);
	pokes = one_scan();
	wait_asleep();
	stand_back(false);
	ret_scans(from);
	j_int("pokes", pokes);
	ret_end();
	return true;
}

void drop_anchor(void)
{
	op_begin("anchor");
	j_bool("there", true);
	op_go();
	advise(MADV_MERGEABLE);
	op_done();
}

void scan_by_first(struct actor *a, const char *area, size_t first, size_t count)
{
	long long from = read_number(FULL_SCANS, -1);

	op_begin("scan");
	j_int("scans", 1);
	j_str("by", "first");
	aim(a, area, first, count);
	op_go();
	a->slot->advice = MADV_MERGEABLE;
	must(a, REQ_MADVISE, "mergeable");
	stand_back(true);
	await_scan(from, "the first mm that is registered");
	stand_back(false);
	ret_scans(from);
	j_int("pokes", 0);
	ret_end();
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SIGBUS, which memory_failure() sends: at once to those that asked for it
 * (BUS_MCEERR_AO, "action optional"), and to whoever touches a poisoned page
 * (BUS_MCEERR_AR, "action required").  Actors survive both and report them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "actor.h"

sigjmp_buf bus_return;
volatile sig_atomic_t bus_expected;

static struct slot *mine;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (mine->nsignals < MAX_SIGNALS)
		mine->signals[mine->nsignals] = (struct bus_signal){
			.addr = (unsigned long)info->si_addr,
			.required = info->si_code == BUS_MCEERR_AR,
		};
	mine->nsignals++;
	/* Since 6.11 MADV_HWPOISON sends it to its caller, which goes on. */
	if (info->si_code == BUS_MCEERR_AO || mine->request == REQ_MADVISE)
		return;
	if (bus_expected)
		siglongjmp(bus_return, 1);
	/* Not while a request was being done: die of it. */
	signal(number, SIG_DFL);
	raise(number);
}

void catch_sigbus(struct slot *s)
{
	/* Not blocked in its handler, which siglongjmp() leaves for good. */
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	mine = s;
	sigaction(SIGBUS, &action, NULL);
}

// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include <unistd.h>

#include "workload.h"

/* vfork's parent sleeps in the kernel, in state D, until the child is gone. */
WORKLOAD(fault_blocked, "P1", "the workload is blocked in the kernel for ever")
{
	property("P1");
	observe("before");
	if (!vfork())
		for (;;)
			__asm__ volatile("" ::: "memory");
}

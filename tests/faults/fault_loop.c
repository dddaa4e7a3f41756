// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

WORKLOAD(fault_loop, "P1", "the workload itself goes round for ever: not the kernel's fault")
{
	property("P1");
	observe("before");
	for (;;)
		__asm__ volatile("" ::: "memory");
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest.h"
#include "workload.h"

/* The kernel dies in the middle of an operation on P3. */
WORKLOAD(fault_panic, "P1 P3", "the kernel panics in a workload")
{
	property("P1");
	observe("before");
	property("P3");
	note("from here on P3 is shown");
	write_file("/proc/sys/kernel/panic_on_oops", "1");
	write_file("/proc/sysrq-trigger", "c");
}

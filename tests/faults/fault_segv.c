// SPDX-License-Identifier: GPL-2.0-or-later
#include <signal.h>

#include "workload.h"

WORKLOAD(fault_segv, "P1", "the workload dies of a signal")
{
	property("P1");
	observe("before");
	raise(SIGSEGV);
}

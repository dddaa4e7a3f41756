// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest.h"
#include "workload.h"

WORKLOAD(fault_missing, "P1", "a record is missing")
{
	property("P1");
	observe("before");
	journal.seq++;
	observe("after the gap");
}

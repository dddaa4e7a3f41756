// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest.h"
#include "workload.h"

WORKLOAD(fault_changed, "P1", "a record is not what its checksum says")
{
	property("P1");
	observe("before");
	journal.crc ^= 1;
	observe("changed");
	observe("after");
}

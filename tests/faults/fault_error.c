// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

WORKLOAD(fault_error, "P1", "a system call fails that should not")
{
	property("P1");
	map_area(spawn("P1"), "a", (size_t)1 << 60);
}

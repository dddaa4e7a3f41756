// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

WORKLOAD(fault_error, "P1", "a mistake of the workload's own")
{
	property("P1");
	read_pages(spawn("P1"), "a", 0, ALL_PAGES);
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

WORKLOAD(fault_refused, "P3", "a system call fails for which the kernel has no excuse")
{
	struct actor *p1 = spawn_filled("P1", 4 * page_size(), 1);

	property("P3");
	unmap_pages(p1, "a", 0, ALL_PAGES);
	resize_area(p1, "a", 8 * page_size());
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

WORKLOAD(fault_died, "P3", "a process dies of an access to its own memory")
{
	struct actor *p1 = spawn_filled("P1", 4 * page_size(), 1);

	property("P3");
	unmap_pages(p1, "a", 0, ALL_PAGES);
	read_pages(p1, "a", 0, ALL_PAGES);
}

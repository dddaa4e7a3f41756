// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

/*
 * A KSM page's index means nothing: its mappers have it at any address.  Who
 * puts the new frame into their ptes must not reckon with that index
 * (mm/migrate.c: remove_migration_pte), as it once did: each got another frame.
 */
WORKLOAD(moved_scattered, "P19", "a KSM page is moved though its mappers have it at different addresses")
{
	const size_t size = 128 << 10;
	struct actor *p1, *p2;

	property("P19");
	merge_pair(&p1, &p2, size);
	map_filled(p2, "b", size, 1);
	mergeable(p2, "b", 0, ALL_PAGES);
	scan(3);
	observe("merged at two addresses");
	soft_offline(p1, "a", 0, ALL_PAGES);
	observe("moved");
	verify(p1, "a", 0, ALL_PAGES);
	verify(p2, "a", 0, ALL_PAGES);
	verify(p2, "b", 0, ALL_PAGES);
}

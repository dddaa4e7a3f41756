// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pages of which the kernel's own statistics tell what they are for: free, on a list
 * for reclaim or isolated from it, of slab caches, page tables, kernel stacks.  What
 * becomes less while nothing but these is used has been lost.
 */
#include <stdio.h>
#include <string.h>

#include "actor.h"
#include "guest.h"

static const char *const kinds[] = {
	"nr_free_pages", "nr_zone_inactive_anon", "nr_zone_active_anon",
	"nr_zone_inactive_file", "nr_zone_active_file", "nr_zone_unevictable",
	"nr_isolated_anon", "nr_isolated_file", "nr_slab_reclaimable",
	"nr_slab_unreclaimable", "nr_page_table_pages",
};

/* Free pages that the CPUs hold (mm/vmstat.c: zoneinfo_show_print, "count:"). */
static long long held_by_cpus(void)
{
	static char text[1 << 16];
	long long held = 0;

	if (read_file("/proc/zoneinfo", text, sizeof(text)) <= 0)
		return -1;
	for (const char *at = text; (at = strstr(at, "count:")); at++)
		held += number_after(at, "count:");
	return held;
}

long long pages_known(void)
{
	static char text[1 << 16] = "\n";
	long long known = held_by_cpus(), value;
	char key[64];

	/* Otherwise each CPU counts some for itself (mm/vmstat.c: vmstat_refresh, 4.8). */
	if (known < 0 || write_file("/proc/sys/vm/stat_refresh", "1") < 0 ||
	    read_file("/proc/vmstat", text + 1, sizeof(text) - 1) <= 0)
		return -1;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		snprintf(key, sizeof(key), "\n%s ", kinds[i]);
		value = number_after(text, key);
		if (value < 0)
			return -1;
		known += value;
	}
	value = number_after(text, "\nnr_kernel_stack ");	/* kB */
	return value < 0 ? -1 : known + value * 1024 / (long long)page_size();
}

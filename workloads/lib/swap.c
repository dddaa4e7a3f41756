// SPDX-License-Identifier: GPL-2.0-or-later
/* The swap device is given up, and taken again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/swap.h>

#include "guest.h"
#include "actor.h"

/* The first one there is; all of /proc/swaps but its first line are devices. */
static bool find_swap(char *path, size_t size)
{
	char text[1024], *line;

	if (read_file("/proc/swaps", text, sizeof(text)) <= 0)
		return false;
	line = strchr(text, '\n');
	if (!line || !line[1])
		return false;
	line[1 + strcspn(line + 1, " \t\n") ] = '\0';
	snprintf(path, size, "%s", line + 1);
	return true;
}

void swap_off_and_on(void)
{
	char path[64];

	if (!find_swap(path, sizeof(path)))
		fail("swapoff", ENOENT, "no swap device");
	op_begin("swapoff");
	op_go();
	if (swapoff(path) < 0)
		refused("swapoff", errno, "%s", path);
	if (swapon(path, 0) < 0)
		refused("swapon", errno, "%s", path);
	op_done();
}

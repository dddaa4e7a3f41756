// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "workload.h"

/* "mib" of garbage on the console, then all goes on as if nothing had been. */
WORKLOAD(fault_flood, "P1", "the console is flooded")
{
	static char line[4096];
	long mib = arg_number("mib", 1);
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY);

	property("P1");
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	for (long i = 0; i < mib * 256; i++)
		if (write(fd, line, sizeof(line)) < 0)
			break;
	close(fd);
	observe("after the flood");
	reclaim();
	observe("reclaimed");
}

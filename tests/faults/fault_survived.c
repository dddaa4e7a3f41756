// SPDX-License-Identifier: GPL-2.0-or-later
#include "workload.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A kernel that complains while ksmd scans, and goes on: as the console shows it. */
static pid_t complain_later(void)
{
	static const char text[] = "<4>WARNING: CPU: 0 PID: 1 at mm/ksm.c:1 fault_survived\n";
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	usleep(20000);
	fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(1);
	_exit(0);
}

WORKLOAD(fault_survived, "P1 P14", "a report in the midst of an operation, after which all goes on")
{
	struct actor *p1, *p2;
	pid_t pid;

	property("P1");
	merge_pair(&p1, &p2, 16 * page_size());
	property("P14");
	pid = complain_later();
	scan(400);
	waitpid(pid, NULL, 0);
	property("P1");
	for (int i = 0; i < 20; i++)
		verify(p1, "a", 0, ALL_PAGES);
	reclaim();
	observe("reclaimed");
}

// SPDX-License-Identifier: GPL-2.0-or-later
/* The device nodes, and the one of them that leads to the host. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "init.h"

#define PORT_NAME "ksm.journal"

static void make_node(const char *dir, const char *name, mode_t kind)
{
	unsigned int major, minor;
	char path[600], text[32];

	snprintf(path, sizeof(path), "%s/%s/dev", dir, name);
	if (read_file(path, text, sizeof(text)) <= 0 ||
	    sscanf(text, "%u:%u", &major, &minor) != 2)
		return;
	snprintf(path, sizeof(path), "/dev/%s", name);
	if (mknod(path, kind | 0600, makedev(major, minor)) < 0 && errno != EEXIST)
		say_error(path);
}

/*
 * What devtmpfs (2.6.32, if it is configured) has made already: a node for each
 * device of ours that sysfs knows.
 */
void make_nodes(void)
{
	static const struct {
		const char *dir;
		mode_t kind;
	} classes[] = {
		{ "/sys/class/mem", S_IFCHR }, { "/sys/class/tty", S_IFCHR },
		{ "/sys/block", S_IFBLK },
	};

	if (!access("/dev/null", F_OK))
		return;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		struct dirent *entry;
		DIR *dir = opendir(classes[i].dir);

		while (dir && (entry = readdir(dir)))
			if (entry->d_name[0] != '.')
				make_node(classes[i].dir, entry->d_name, classes[i].kind);
		if (dir)
			closedir(dir);
	}
}

/* A serial line passes every byte as it is, both ways. */
static int open_line(const char *name)
{
	struct termios raw;
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || tcgetattr(fd, &raw) < 0)
		return -1;
	cfmakeraw(&raw);
	raw.c_cflag |= CLOCAL;
	cfsetspeed(&raw, B115200);
	return tcsetattr(fd, TCSANOW, &raw) < 0 ? -1 : fd;
}

/* The port is found by its name, whatever number it got. */
static int open_virtio_port(void)
{
	char path[300], name[64];
	struct dirent *entry;
	DIR *dir = opendir("/sys/class/virtio-ports");
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
			 entry->d_name);
		if (read_file(path, name, sizeof(name)) <= 0 ||
		    strcmp(name, PORT_NAME "\n"))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

int open_port(void)
{
	const char *line = setting("journal", NULL);

	return line ? open_line(line) : open_virtio_port();
}

// SPDX-License-Identifier: GPL-2.0-or-later
/* Small files of /proc and /sys, and the journal members made of them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

ssize_t read_file(const char *path, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while (len + 1 < size) {
		n = read(fd, buf + len, size - 1 - len);
		if (n <= 0)
			break;
		len += n;
	}
	if (n < 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	close(fd);
	buf[len] = '\0';
	return len;
}

ssize_t read_attribute(int dir, const char *path, char *buf, size_t size)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int error;

	if (fd < 0)
		return -1;
	n = read(fd, buf, size - 1);
	error = errno;
	close(fd);
	errno = error;
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

int write_file(const char *path, const char *text)
{
	ssize_t n;
	int error;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	error = errno;
	close(fd);
	errno = error;
	return n < 0 ? -1 : 0;
}

long long read_number(const char *path, long long fallback)
{
	char text[64];

	if (read_attribute(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return fallback;
	return strtoll(text, NULL, 10);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

void j_ksm_files(void)
{
	char names[64][64];
	char text[256];
	size_t count = 0;
	struct dirent *entry;
	DIR *dir = opendir(KSM_DIR);

	j_open("ksm", '{');
	while (dir && count < 64 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && strlen(entry->d_name) < 64)
			strcpy(names[count++], entry->d_name);
	qsort(names, count, sizeof(names[0]), by_name);
	for (size_t i = 0; i < count; i++) {
		ssize_t n = read_attribute(dirfd(dir), names[i], text, sizeof(text));

		while (n > 0 && text[n - 1] == '\n')
			n--;
		if (n >= 0)
			j_strn(names[i], text, n);
	}
	if (dir)
		closedir(dir);
	j_close('}');
}

static bool is_among(const char *const *keys, const char *line, size_t len)
{
	for (; *keys; keys++)
		if (**keys == *line && strlen(*keys) == len && !memcmp(*keys, line, len))
			return true;
	return false;
}

/* "Key:   123 kB" lines, the number as it stands (text) or as a number. */
void j_lines(char *text, const char *const *keys, bool numbers)
{
	char *next;

	for (char *line = text; *line; line = next) {
		size_t len = 0;
		char *value;

		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		while (line[len] && line[len] != ':' && line[len] != ' ' && line[len] != '\t')
			len++;
		if (!len || (keys && !is_among(keys, line, len)))
			continue;
		value = line + len + strspn(line + len, ": \t");
		line[len] = '\0';
		if (numbers && ((*value >= '0' && *value <= '9') || *value == '-'))
			j_int(line, strtoll(value, NULL, 10));
		else
			j_strn(line, value, strcspn(value, " \n"));
	}
}

static void j_system(const char *key, const char *path, const char *const *keys)
{
	static char text[32768];

	j_open(key, '{');
	if (read_file(path, text, sizeof(text)) > 0)
		j_lines(text, keys, false);
	j_close('}');
}

void j_system_files(bool whole)
{
	static const char *const events[] = {
		"cow_ksm", "ksm_swpin_copy", "pgmajfault", "pgmigrate_fail",
		"pgmigrate_success", "pswpin", "pswpout", "swap_ra", "swap_ra_hit",
		NULL,
	};
	static const char *const memory[] = {
		"AnonPages", "MemAvailable", "MemFree", "SwapCached", "SwapFree",
		"SwapTotal", NULL,
	};

	j_system("vmstat", "/proc/vmstat", whole ? NULL : events);
	j_system("meminfo", "/proc/meminfo", whole ? NULL : memory);
}

long long number_after(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoll(at + strlen(key), NULL, 10) : -1;
}

long long meminfo_kb(const char *key)
{
	char text[8192], *at;

	if (read_file("/proc/meminfo", text, sizeof(text)) <= 0)
		return -1;
	at = strstr(text, key);
	return at ? strtoll(at + strlen(key) + 1, NULL, 10) : -1;
}

bool slab_is_shared(const char *cache)
{
	char path[128], link[8];

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s", cache);
	return readlink(path, link, sizeof(link)) >= 0;
}

static long long count_objects(const char *cache)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", cache);
	if (write_file(path, "1") < 0)
		return -1;
	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/objects", cache);
	return read_number(path, -1);
}

bool slab_frees_late;

/*
 * An anon_vma that is freed after a grace period counts until then
 * (mm/slub.c: slab_free_after_rcu_debug).  Two counts that are the same, with
 * more than a grace period in between, are of all that is left.
 */
long long slab_objects(const char *cache)
{
	long long before, count = count_objects(cache);
	bool late = slab_frees_late && !strcmp(cache, "anon_vma");

	for (int i = 0; late && i < 20; i++) {
		before = count;
		usleep(100000);
		count = count_objects(cache);
		if (count == before)
			break;
	}
	return count;
}

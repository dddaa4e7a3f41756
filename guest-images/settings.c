// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What makes this guest another one than the usual: settings on the kernel's
 * command line, "harness.KEY=VALUE", as the configurations in kconfigs/ have
 * them ("guest: KEY=VALUE").  The kernel takes a word with a dot for a module's
 * parameter and leaves it alone.
 *
 * What became of them is read back from the kernel and told in hello: it is that
 * which the oracle goes by.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "init.h"

#define PREFIX "harness."

/* The value of a setting, the last one if there are several, or what it is without. */
const char *setting(const char *key, const char *fallback)
{
	static char line[4096];
	static bool known;
	static char value[64];
	const char *found = fallback;
	size_t len = strlen(key);

	if (!known && read_file("/proc/cmdline", line, sizeof(line)) <= 0)
		line[0] = '\0';
	known = true;
	for (char *p = line; (p = strstr(p, PREFIX)); ) {
		p += strlen(PREFIX);
		if (strncmp(p, key, len) || p[len] != '=')
			continue;
		snprintf(value, sizeof(value), "%.*s",
			 (int)strcspn(p + len + 1, " \n"), p + len + 1);
		found = value;
	}
	return found;
}

bool setting_is(const char *key, const char *value)
{
	return !strcmp(setting(key, ""), value);
}

/* The first thing that it lacks is why no workload can be run as was asked. */
void lacks(const char *format, ...)
{
	static char text[128];
	va_list args;

	if (*lacking)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	lacking = text;
	say(text);
}

/* A file's text without the newline, or null where there is no such file. */
static void j_file(const char *key, const char *path)
{
	char text[256];
	ssize_t n = read_file(path, text, sizeof(text));

	if (n < 0)
		j_null(key);
	else
		j_strn(key, text, n - (n && text[n - 1] == '\n'));
}

/* Is this word the one in brackets? */
static bool chosen(const char *path, const char *word)
{
	char text[256], want[32];

	snprintf(want, sizeof(want), "[%s]", word);
	return read_file(path, text, sizeof(text)) > 0 && strstr(text, want);
}

/*
 * Sizes, in kB, of the huge pages that memory gets which did not ask for them.
 * Before 6.8 there is one size, and no directory for it.
 */
static void j_huge_sizes(void)
{
	bool always = chosen(THP_DIR "/enabled", "always"), told = false;
	struct dirent *entry;
	char path[300];
	DIR *dir = opendir(THP_DIR);

	j_open("huge_kb", '[');
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "hugepages-", 10))
			continue;
		told = true;
		snprintf(path, sizeof(path), THP_DIR "/%s/enabled", entry->d_name);
		if (chosen(path, "always") || (always && chosen(path, "inherit")))
			j_int(NULL, atoi(entry->d_name + 10));
	}
	if (dir)
		closedir(dir);
	if (!told && always)
		j_int(NULL, read_number(THP_DIR "/hpage_pmd_size", 0) / 1024);
	j_close(']');
}

void j_settings(void)
{
	static const char *const files[][2] = {
		{ "swappiness", "/proc/sys/vm/swappiness" },
		{ "page_cluster", "/proc/sys/vm/page-cluster" },
		{ "numa_balancing", "/proc/sys/kernel/numa_balancing" },
		{ "thp", THP_DIR "/enabled" },
		{ "lru_gen", "/sys/kernel/mm/lru_gen/enabled" },
		{ "zswap", "/sys/module/zswap/parameters/enabled" },
		{ "smart_scan", KSM_DIR "/smart_scan" },
		{ "damon_stat", "/sys/module/damon_stat/parameters/enabled" },
	};

	j_open("settings", '{');
	j_str("swap", swap_device());
	j_int("memcg", memcg_version());
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		j_file(files[i][0], files[i][1]);
	j_huge_sizes();
	j_close('}');
}

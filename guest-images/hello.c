// SPDX-License-Identifier: GPL-2.0-or-later
/* What the guest and its kernel are, and what the kernel says. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "init.h"
#include "observe.h"

#define JOURNAL_VERSION 1

/* The guest's speed: how often a small loop runs in 10 ms. */
static long long measure_speed(void)
{
	struct timespec start, now;
	volatile unsigned int sum = 0;
	long long loops = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		for (int i = 0; i < 1000; i++)
			sum += i;
		loops++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - start.tv_sec) * 1000000000LL +
		 now.tv_nsec - start.tv_nsec < 10000000);
	return loops;
}

static void j_names(const char *key, const char *dir_path)
{
	struct dirent *entry;
	DIR *dir = opendir(dir_path);

	j_open(key, '[');
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			j_str(NULL, entry->d_name);
	if (dir)
		closedir(dir);
	j_close(']');
}

static void j_vmstat_keys(void)
{
	static char text[32768];
	char *line, *save = NULL;

	j_open("vmstat_keys", '[');
	if (read_file("/proc/vmstat", text, sizeof(text)) > 0)
		for (line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			if (strstr(line, "ksm"))
				j_strn(NULL, line, strcspn(line, " "));
	j_close(']');
}

/*
 * Does /proc/kpageflags call ordinary anonymous memory a KSM page?  6.12 does,
 * as it tests a page's mapping for PAGE_MAPPING_KSM, of which PAGE_MAPPING_ANON
 * is one bit (fs/proc/page.c: stable_page_flags).
 */
static bool kpf_ksm_on_anon(void)
{
	static char mine[1 << 17] __attribute__((aligned(1 << 16)));
	uint64_t entry = 0, flags = 0;
	int fd;

	mine[0] = 1;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (pread(fd, &entry, 8, (uintptr_t)mine / page_size() * 8) != 8)
			entry = 0;
		close(fd);
	}
	fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (pread(fd, &flags, 8, (entry & PM_VALUE) * 8) != 8)
			flags = 0;
		close(fd);
	}
	return flags >> KPF_KSM & 1;
}

/* sizeof(struct ksm_rmap_item), unless its cache is one with others of about this size. */
static void j_item_size(void)
{
	long long size = -1;

	if (!slab_is_shared("ksm_rmap_item"))
		size = read_number("/sys/kernel/slab/ksm_rmap_item/object_size", -1);
	if (size < 0)
		j_null("rmap_item_bytes");
	else
		j_int("rmap_item_bytes", size);
}

/* Which of anon_vmas' caches there are: what a kernel links them with. */
static void j_slabs(void)
{
	static const char *const names[] = { "anon_vma", "anon_vma_chain" };
	static char text[65536];
	char path[64], line[64];

	if (read_file("/proc/slabinfo", text, sizeof(text)) <= 0)
		text[0] = '\0';
	j_open("slabs", '[');
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s", names[i]);
		snprintf(line, sizeof(line), "\n%s ", names[i]);
		if (!access(path, F_OK) || strstr(text, line))
			j_str(NULL, names[i]);
	}
	j_close(']');
}

void say_hello(void)
{
	static const char *const proc_files[] = {
		"ksm_merging_pages", "ksm_stat",
	};
	struct utsname name;
	char text[4096], path[64];
	ssize_t n;

	uname(&name);
	j_begin("hello");
	j_int("v", JOURNAL_VERSION);
	j_str("release", name.release);
	j_str("machine", name.machine);
	j_int("page_size", page_size());
	j_str("endian", __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? "big" : "little");
	j_int("cpus", sysconf(_SC_NPROCESSORS_ONLN));
	j_int("mem_kb", meminfo_kb("MemTotal"));
	j_int("swap_kb", meminfo_kb("SwapTotal"));
	j_open("workloads", '[');
	for (const struct workload *w = __start_workloads; w < __stop_workloads; w++)
		j_str(NULL, w->name);
	j_close(']');
	j_names("ksm_files", KSM_DIR);
	j_names("thp_files", THP_DIR);
	j_vmstat_keys();
	j_open("proc_files", '[');
	for (size_t i = 0; i < sizeof(proc_files) / sizeof(proc_files[0]); i++) {
		snprintf(path, sizeof(path), "/proc/self/%s", proc_files[i]);
		if (!access(path, R_OK))
			j_str(NULL, proc_files[i]);
	}
	j_close(']');
	j_bool("kpf_ksm_on_anon", kpf_ksm_on_anon());
	snprintf(text, sizeof(text), "%llx", (unsigned long long)KPF_TOLD);
	j_str("page_flags", text);
	j_slabs();
	j_item_size();
	j_settings();
	j_int("loops", measure_speed());
	n = read_file("/proc/cmdline", text, sizeof(text));
	j_strn("cmdline", text, n > 0 ? n - (text[n - 1] == '\n') : 0);
	j_int("taint", read_number("/proc/sys/kernel/tainted", -1));
	j_clock();
	j_end();
}

#define CLOCK_LINE "ksm-init: clock"

static long long boottime_us(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
		clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* What the kernel stamped the newest line with, -1 if it is not ours. */
static long long stamp_of_ours(int kmsg)
{
	char line[8192], *body;
	long long us, ours = -1;
	ssize_t n;

	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		if (n < 0)	/* overwritten meanwhile */
			continue;
		line[n] = '\0';
		body = strchr(line, ';');
		if (body && !strncmp(body + 1, CLOCK_LINE, strlen(CLOCK_LINE)) &&
		    sscanf(line, "%*[^,],%*[^,],%lld", &us) == 1)
			ours = us;
	}
	return ours;
}

/*
 * The clock of the journal's records and the one that the kernel stamps its lines
 * with, by a line of debugging that no console shows: its time, and ours before
 * and after.  Null before 3.5, where nobody can write such a line and read it.
 */
void j_clock(void)
{
	int kmsg = open("/dev/kmsg", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	long long before = 0, after = 0, stamp = -1;

	if (kmsg >= 0) {
		lseek(kmsg, 0, SEEK_END);
		before = boottime_us();
		if (write(kmsg, "<7>" CLOCK_LINE "\n", strlen(CLOCK_LINE) + 4) > 0) {
			after = boottime_us();
			stamp = stamp_of_ours(kmsg);
		}
		close(kmsg);
	}
	if (stamp < 0) {
		j_null("clock");
		return;
	}
	j_open("clock", '[');
	j_int(NULL, before);
	j_int(NULL, after);
	j_int(NULL, stamp);
	j_close(']');
}

/* Its messages one by one, each a line of its own; -1 where they cannot be read so (before 3.5). */
static ssize_t read_kmsg(char *text, size_t size)
{
	static int kmsg = -1;
	size_t len = 0;

	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg < 0)
		return -1;
	while (len + 8192 < size) {
		char line[8192], *body;
		ssize_t n = read(kmsg, line, sizeof(line) - 1);
		unsigned long long us;

		if (n < 0 && errno == EPIPE)	/* overwritten meanwhile */
			continue;
		if (n < 0 && errno == EINVAL)
			return -1;
		if (n <= 0)
			break;
		line[n] = '\0';
		if (sscanf(line, "%*[^,],%*[^,],%llu", &us) != 1)
			continue;
		body = strchr(line, ';');
		if (body && !strncmp(body + 1, CLOCK_LINE, strlen(CLOCK_LINE)))
			continue;
		len += snprintf(text + len, size - len, "[%5llu.%06llu] %s",
				us / 1000000, us % 1000000, body ? body + 1 : line);
	}
	return len;
}

#define SYSLOG_ACTION_READ 2
#define SYSLOG_ACTION_SIZE_UNREAD 9

/* The same by syslog(2): text with "<6>" before each line, taken out of the log. */
static size_t read_syslog(char *text, size_t size)
{
	size_t len = 0;

	while (len + 8192 < size && klogctl(SYSLOG_ACTION_SIZE_UNREAD, NULL, 0) > 0) {
		int n = klogctl(SYSLOG_ACTION_READ, text + len, size - 1 - len);

		if (n <= 0)
			break;
		len += n;
	}
	return len;
}

/* What the kernel has said since the last time, as a record of its own. */
void send_dmesg(void)
{
	static char text[256 << 10];
	ssize_t len = read_kmsg(text, sizeof(text));

	if (len < 0)
		len = read_syslog(text, sizeof(text));
	j_begin("dmesg");
	j_strn("text", text, len);
	j_end();
}

// SPDX-License-Identifier: GPL-2.0-or-later
/* Mounts, the journal's port, swap, tunables, and the process that keeps ksmd on its leash. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init.h"

#define NUMA_DIR "/sys/kernel/debug/sched/numa_balancing"

/* To the console: milestones for whoever watches it. */
void say(const char *text)
{
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return;
	dprintf(fd, "ksm-init: %s\n", text);
	close(fd);
}

void say_error(const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
	say(text);
}

#define MODULES "/modules"

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

/*
 * Drivers that this kernel has as modules, under names that tell the order.  One
 * that does not load is told, and missed by whoever needs it.
 */
void load_modules(void)
{
	static char names[16][64];
	struct dirent *entry;
	size_t count = 0;
	DIR *dir = opendir(MODULES);

	while (dir && count < 16 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			snprintf(names[count++], sizeof(names[0]), "%.63s",
				 entry->d_name);
	qsort(names, count, sizeof(names[0]), by_name);
	for (size_t i = 0; i < count; i++) {
		int fd = openat(dirfd(dir), names[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			say_error(names[i]);
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
}

/*
 * The memory controller's older hierarchy is another file system (CONFIG_MEMCG_V1).
 * With memcg=auto it is what there is, if anything, and cgroup2 rather than v1.
 */
static void mount_memcg(void)
{
	bool v1 = setting_is("memcg", "1"), any = setting_is("memcg", "auto");

	mkdir(MEMCG_ROOT, 0755);
	if (setting_is("memcg", "none"))
		return;
	if (v1 && !mount("cgroup", MEMCG_ROOT, "cgroup", 0, "memory"))
		return;
	if (v1)
		lacks("no cgroup v1 with a memory controller: %s", strerror(errno));
	/*
	 * favordynmods (since 6.0): a process that is moved does not wait for a
	 * grace period (kernel/cgroup/cgroup.c: cgroup_favor_dynmods), and every
	 * actor is moved.
	 */
	if (mount("cgroup2", MEMCG_ROOT, "cgroup2", 0, "favordynmods") < 0 &&
	    mount("cgroup2", MEMCG_ROOT, "cgroup2", 0, NULL) < 0 && errno != EBUSY && !any)
		say_error(MEMCG_ROOT);
	if (!write_file(MEMCG_ROOT "/cgroup.subtree_control", "+memory"))
		return;
	if (!any) {
		say_error("cgroup.subtree_control");
		return;
	}
	umount(MEMCG_ROOT);
	if (mount("cgroup", MEMCG_ROOT, "cgroup", 0, "memory") < 0)
		say_error("no memory controller");
}

void mount_all(void)
{
	static const struct {
		const char *type, *where;
	} mounts[] = {
		{ "devtmpfs", "/dev" }, { "proc", "/proc" }, { "sysfs", "/sys" },
		{ "tracefs", "/sys/kernel/tracing" },
		{ "debugfs", "/sys/kernel/debug" },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0, NULL) < 0 &&
		    errno != EBUSY && errno != ENODEV && errno != ENOENT)
			say_error(mounts[i].where);
	}
	make_nodes();
	mount_memcg();
}

#define ZRAM "/sys/block/zram0"
#define ZRAM_BYTES "134217728"	/* as the disk has */

/* The disk, or compressed memory. */
const char *swap_device(void)
{
	if (!setting_is("swap", "zram"))
		return "/dev/vda";
	if (access(ZRAM, F_OK)) {
		lacks("no zram in this kernel");
		return "/dev/vda";
	}
	if (!read_number(ZRAM "/disksize", 0) &&
	    write_file(ZRAM "/disksize", ZRAM_BYTES) < 0)
		lacks("zram: %s", strerror(errno));
	return "/dev/zram0";
}

/*
 * mkswap with this kernel's page size: a version 1 header, whose signature
 * stands in the last ten bytes of the first page (include/linux/swap.h).
 */
int make_swap(const char *disk)
{
	struct {
		char bootbits[1024];
		uint32_t version, last_page, nr_badpages;
	} header = { .version = 1 };
	size_t size = page_size();
	off_t bytes;
	char *page;
	int fd = open(disk, O_RDWR | O_CLOEXEC), rc = -1;

	if (fd < 0)
		return -1;
	bytes = lseek(fd, 0, SEEK_END);
	header.last_page = bytes / size - 1;
	page = calloc(1, size);
	if (page && bytes > (off_t)size * 10) {
		memcpy(page, &header, sizeof(header));
		memcpy(page + size - 10, "SWAPSPACE2", 10);
		if (pwrite(fd, page, size, 0) == (ssize_t)size)
			rc = 0;
	}
	free(page);
	close(fd);
	return rc < 0 ? rc : swapon(disk, 0);
}

enum when {
	PINNED,		/* unless the kernel's own are wanted (tunables=defaults) */
	KEPT,		/* the same, but workloads write it: what it was at boot */
	ALWAYS,		/* ours, not the kernel's: ksmd's leash, evidence */
};

/*
 * Everything that would make a prediction inexact is pinned; files that this
 * kernel does not have are left out in silence, as hello tells which it has.
 * A setting of the guest's with this name is written instead, and then it must
 * be there.
 */
static struct tunable {
	const char *path, *name, *value;
	enum when when;
	char boot[16];
} tunables[] = {
	{ "/proc/sys/vm/page-cluster", "page_cluster", "0", PINNED, "" },
	{ "/proc/sys/vm/swappiness", "swappiness", "100", PINNED, "" },
	{ "/proc/sys/vm/overcommit_memory", "overcommit_memory", "1", PINNED, "" },
	{ "/proc/sys/vm/compaction_proactiveness", "compaction_proactiveness", "0", PINNED, "" },
	{ "/proc/sys/vm/memory_failure_early_kill", "early_kill", "0", ALWAYS, "" },
	{ "/proc/sys/kernel/numa_balancing", "numa_balancing", "0", PINNED, "" },
	{ "/proc/sys/kernel/randomize_va_space", "randomize_va_space", "0", ALWAYS, "" },
	{ "/proc/sys/kernel/sysrq", "sysrq", "1", ALWAYS, "" },
	{ "/proc/sys/kernel/hung_task_timeout_secs", "hung_task_timeout", "120", ALWAYS, "" },
	{ NUMA_DIR "/scan_delay_ms", "numa_scan_delay", NULL, PINNED, "" },
	{ NUMA_DIR "/scan_period_min_ms", "numa_scan_period", NULL, PINNED, "" },
	{ NUMA_DIR "/scan_period_max_ms", "numa_scan_period_max", NULL, PINNED, "" },
	{ THP_DIR "/enabled", "thp", "never", PINNED, "" },
	{ THP_DIR "/khugepaged/scan_sleep_millisecs", "khugepaged_sleep", "1000000000", PINNED, "" },
	{ "/sys/kernel/mm/lru_gen/enabled", "lru_gen", "0", PINNED, "" },
	{ "/sys/module/zswap/parameters/enabled", "zswap", "N", PINNED, "" },
	/* It takes young bits away, and for a moment has a reference to a page, or its lock (mm/damon/stat.c, 6.17). */
	{ "/sys/module/damon_stat/parameters/enabled", "damon_stat", "N", PINNED, "" },
	{ KSM_DIR "/advisor_mode", "advisor_mode", "none", ALWAYS, "" },
	{ KSM_DIR "/smart_scan", "smart_scan", "0", KEPT, "" },
	{ KSM_DIR "/use_zero_pages", "use_zero_pages", "0", KEPT, "" },
	{ KSM_DIR "/merge_across_nodes", "merge_across_nodes", "1", KEPT, "" },
	{ KSM_DIR "/max_page_sharing", "max_page_sharing", "256", KEPT, "" },
	{ KSM_DIR "/stable_node_chains_prune_millisecs", "prune_millisecs", "2000", KEPT, "" },
	{ KSM_DIR "/pages_to_scan", "pages_to_scan", "100000000", ALWAYS, "" },
	{ KSM_DIR "/run", "run", "1", ALWAYS, "" },
};

/* What to write, or NULL for nothing; wanted: the user has said so. */
static const char *value_of(struct tunable *t, bool *wanted)
{
	const char *asked = setting(t->name, NULL);

	*wanted = asked != NULL;
	if (asked)
		return asked;
	if (stepped_by_run && !strcmp(t->name, "run"))
		return "0";
	if (t->when == ALWAYS || !setting_is("tunables", "defaults"))
		return t->value;
	if (t->when == PINNED)
		return NULL;
	if (!*t->boot)
		snprintf(t->boot, sizeof(t->boot), "%lld", read_number(t->path, -1));
	return t->boot;
}

/*
 * Huge pages of all sizes below a pmd's that the kernel has (6.8 on): "always"
 * where they are wanted, and never else, as is the kernel's default.
 */
static void set_small_huge_pages(void)
{
	const char *value = setting("mthp", NULL);
	struct dirent *entry;
	char path[300];
	DIR *dir = value ? opendir(THP_DIR) : NULL;

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "hugepages-", 10))
			continue;
		snprintf(path, sizeof(path), THP_DIR "/%s/enabled", entry->d_name);
		/* Some sizes are for shared memory only. */
		if (write_file(path, value) < 0 && errno != ENOENT)
			lacks("%s=%s: %s", path, value, strerror(errno));
	}
	if (dir)
		closedir(dir);
}

void set_tunables(void)
{
	/* Another value would wake ksmd, and a workload leaves one of two. */
	if (stepped_by_run)
		write_file(KSM_DIR "/sleep_millisecs", RUN_SLEEP_MS);
	else if (read_number(KSM_DIR "/sleep_millisecs", 0) < 1000000)
		write_file(KSM_DIR "/sleep_millisecs", "1000000");

	for (size_t i = 0; i < sizeof(tunables) / sizeof(tunables[0]); i++) {
		struct tunable *t = tunables + i;
		bool wanted;
		const char *value = value_of(t, &wanted);

		if (!value || !write_file(t->path, value))
			continue;
		if (wanted)
			lacks("%s=%s: %s", t->name, value, strerror(errno));
		else if (errno != ENOENT && errno != EACCES)
			say_error(t->path);
	}
	set_small_huge_pages();
}

#define TRY_SLEEP_MS "4000"	/* ksmd's, while it is found out whether it can be woken */
#define TRY_POKE 4001		/* another sleep, and as long */
#define TRY_SECONDS 2.0
#define TRY_AGAIN_SECONDS 0.2	/* a poke can be absorbed by a batch that is just ending */

/*
 * Is ksmd woken by another sleep_millisecs (ksm_iter_wait, 5.0)?  It sleeps for long
 * enough that a scan before the end of that was made for us; unless the guest was
 * kept waiting.  Then it sleeps as long again, and is not woken the next time.
 *
 * By the clock: without timers of high resolution usleep() takes several ticks.
 */
static bool scans_when_poked(int first)
{
	long long before = read_number(KSM_DIR "/full_scans", 0);
	double start = monotonic_seconds();
	int pokes = 0;
	char text[24];

	if (!before)	/* the scan that is still to come would be taken for one of ours */
		return false;
	while (monotonic_seconds() < start + TRY_SECONDS) {
		if (monotonic_seconds() >= start + pokes * TRY_AGAIN_SECONDS) {
			snprintf(text, sizeof(text), "%d", first + pokes++);
			write_file(KSM_DIR "/sleep_millisecs", text);
		}
		if (read_number(KSM_DIR "/full_scans", 0) != before)
			return monotonic_seconds() < start + TRY_SECONDS;
		usleep(1000);
	}
	return false;
}

static bool woken_by_poke(void)
{
	return scans_when_poked(TRY_POKE) && scans_when_poked(1000000);
}

/* Only where it is asked for: the usual kernel's ksmd can be woken, or is broken. */
static void choose_stepping(void)
{
	if (!setting_is("stepping", "run") &&
	    !(setting_is("stepping", "auto") && !woken_by_poke()))
		return;
	stepped_by_run = true;
	write_file(KSM_DIR "/run", "0");
	write_file(KSM_DIR "/sleep_millisecs", RUN_SLEEP_MS);
}

/*
 * Where the kernel refuses its madvise the anchor stays alive, and the record
 * "anchor" says so: the workloads will meet the same refusal, and it is they that
 * are judged.
 */
pid_t anchor_ksmd(int *error)
{
	int scans = 0;
	pid_t pid;

	if (setting_is("stepping", "auto"))
		write_file(KSM_DIR "/sleep_millisecs", TRY_SLEEP_MS);
	pid = start_anchor(error);
	/* Its madvise wakes ksmd once; that scan must be over before we start. */
	while (!*error && scans++ < 2000 && !read_number(KSM_DIR "/full_scans", 0))
		usleep(1000);
	if (!*error)
		choose_stepping();
	return pid;
}

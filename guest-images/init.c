// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's only program: init, all workloads, and the actors of workloads.
 *
 * As pid 1 it mounts what is needed, makes the swap, puts ksmd on a leash, says
 * hello on the journal's port, and then does what the host says: "run NAME
 * KEY=VALUE...", "poweroff".  Before each workload KSM and the memcg are reset,
 * and that is checked.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"
#include "workload.h"

#define JOURNAL_VERSION 1
#define PORT_NAME "ksm.journal"
#define SWAP_DISK "/dev/vda"

/* The linker's bounds of the section that WORKLOAD() puts descriptions in. */
extern const struct workload __start_workloads[], __stop_workloads[];

/* To the console: milestones for whoever watches it. */
static void say(const char *text)
{
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return;
	dprintf(fd, "ksm-init: %s\n", text);
	close(fd);
}

static void say_error(const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
	say(text);
}

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void mount_all(void)
{
	static const struct {
		const char *type, *where;
	} mounts[] = {
		{ "devtmpfs", "/dev" }, { "proc", "/proc" }, { "sysfs", "/sys" },
		{ "tracefs", "/sys/kernel/tracing" },
		{ "cgroup2", MEMCG_ROOT },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0, NULL) < 0 &&
		    errno != EBUSY)
			say_error(mounts[i].where);
	}
	if (write_file(MEMCG_ROOT "/cgroup.subtree_control", "+memory") < 0)
		say_error("cgroup.subtree_control");
}

/* The port is found by its name, whatever number it got. */
static int open_port(void)
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

/*
 * mkswap with this kernel's page size: a version 1 header, whose signature
 * stands in the last ten bytes of the first page (include/linux/swap.h).
 */
static int make_swap(const char *disk)
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

/*
 * Everything that would make a prediction inexact is pinned; files that this
 * kernel does not have are left out in silence, as hello tells which it has.
 */
static void pin_tunables(void)
{
	static const char *const settings[][2] = {
		{ "/proc/sys/vm/page-cluster", "0" },
		{ "/proc/sys/vm/swappiness", "100" },
		{ "/proc/sys/vm/overcommit_memory", "1" },
		{ "/proc/sys/vm/compaction_proactiveness", "0" },
		{ "/proc/sys/vm/memory_failure_early_kill", "0" },
		{ "/proc/sys/kernel/numa_balancing", "0" },
		{ "/proc/sys/kernel/randomize_va_space", "0" },
		{ "/proc/sys/kernel/hung_task_timeout_secs", "120" },
		{ "/sys/kernel/mm/transparent_hugepage/enabled", "never" },
		{ "/sys/kernel/mm/lru_gen/enabled", "0" },
		{ KSM_DIR "/advisor_mode", "none" },
		{ KSM_DIR "/smart_scan", "0" },
		{ KSM_DIR "/use_zero_pages", "0" },
		{ KSM_DIR "/merge_across_nodes", "1" },
		{ KSM_DIR "/max_page_sharing", "256" },
		{ KSM_DIR "/stable_node_chains_prune_millisecs", "2000" },
		{ KSM_DIR "/pages_to_scan", "100000000" },
		{ KSM_DIR "/run", "1" },
	};

	/* Another value would wake ksmd, and a workload leaves one of two. */
	if (read_number(KSM_DIR "/sleep_millisecs", 0) < 1000000)
		write_file(KSM_DIR "/sleep_millisecs", "1000000");

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (write_file(settings[i][0], settings[i][1]) < 0 &&
		    errno != ENOENT && errno != EACCES)
			say_error(settings[i][0]);
}

/*
 * A process with a mergeable area and no page in it: as long as one mm is
 * registered ksmd stays in its timed sleep (mm/ksm.c: __ksm_enter wakes it for
 * the first one only).
 */
static pid_t start_anchor(void)
{
	pid_t pid = fork();

	if (!pid) {
		void *p = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || madvise(p, page_size(), MADV_MERGEABLE))
			_exit(1);
		for (;;)
			pause();
	}
	/* Its madvise wakes ksmd once; that scan must be over before we start. */
	for (int i = 0; i < 2000 && !read_number(KSM_DIR "/full_scans", 0); i++)
		usleep(1000);
	return pid;
}

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

static long long meminfo_kb(const char *key)
{
	char text[8192], *at;

	if (read_file("/proc/meminfo", text, sizeof(text)) <= 0)
		return -1;
	at = strstr(text, key);
	return at ? strtoll(at + strlen(key) + 1, NULL, 10) : -1;
}

static void say_hello(void)
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
	j_vmstat_keys();
	j_open("proc_files", '[');
	for (size_t i = 0; i < sizeof(proc_files) / sizeof(proc_files[0]); i++) {
		snprintf(path, sizeof(path), "/proc/self/%s", proc_files[i]);
		if (!access(path, R_OK))
			j_str(NULL, proc_files[i]);
	}
	j_close(']');
	j_int("loops", measure_speed());
	n = read_file("/proc/cmdline", text, sizeof(text));
	j_strn("cmdline", text, n > 0 ? n - (text[n - 1] == '\n') : 0);
	j_int("taint", read_number("/proc/sys/kernel/tainted", -1));
	j_end();
}

/* What the kernel has said since the last time, as a record of its own. */
static void send_dmesg(void)
{
	static int kmsg = -1;
	static char text[256 << 10];
	size_t len = 0;

	if (kmsg < 0)
		kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	while (kmsg >= 0 && len + 8192 < sizeof(text)) {
		char line[8192], *body;
		ssize_t n = read(kmsg, line, sizeof(line) - 1);
		unsigned long long us;

		if (n < 0 && errno == EPIPE)	/* overwritten meanwhile */
			continue;
		if (n <= 0)
			break;
		line[n] = '\0';
		if (sscanf(line, "%*[^,],%*[^,],%llu", &us) != 1)
			continue;
		body = strchr(line, ';');
		len += snprintf(text + len, sizeof(text) - len, "[%5llu.%06llu] %s",
				us / 1000000, us % 1000000, body ? body + 1 : line);
	}
	j_begin("dmesg");
	j_strn("text", text, len);
	j_end();
}

static bool memcg_empty(void)
{
	char text[64];

	return read_file(MEMCG "/cgroup.procs", text, sizeof(text)) <= 0;
}

/* Kill whatever a workload has left; true when nothing remains. */
static bool kill_rest(pid_t anchor)
{
	char text[16384], *line, *save;
	pid_t pid;

	for (int i = 0; i < 3000; i++) {
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			if (pid == anchor)
				return false;
		if (memcg_empty())
			return true;
		save = NULL;
		read_file(MEMCG "/cgroup.procs", text, sizeof(text));
		for (line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			kill(atoi(line), SIGKILL);
		usleep(1000);
	}
	return false;
}

static bool ksm_is_zero(char *why, size_t size)
{
	static const char *const files[] = {
		"pages_shared", "pages_sharing", "pages_unshared",
		"pages_volatile", "full_scans", "stable_node_chains",
		"stable_node_dups",
	};
	char path[128];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		long long value;

		snprintf(path, sizeof(path), KSM_DIR "/%s", files[i]);
		value = read_number(path, 0);
		if (value) {
			snprintf(why, size, "%s is %lld after run=2", files[i],
				 value);
			return false;
		}
	}
	return true;
}

/*
 * Back to the beginning: nobody in the memcg, a new memcg, KSM's trees empty,
 * full_scans 0, ksmd at run=1 and asleep.  run=2 empties the trees and does not
 * wake ksmd out of its timed sleep, nor does the 1 after it.
 */
static bool reset(const char *next, pid_t anchor)
{
	char why[128] = "";
	bool ok = kill_rest(anchor);

	if (!ok)
		snprintf(why, sizeof(why), "processes of the last workload do not die");
	if (write_file(KSM_DIR "/run", "2") < 0) {
		snprintf(why, sizeof(why), "run=2: %s", strerror(errno));
		ok = false;
	}
	ok = ok && ksm_is_zero(why, sizeof(why));
	pin_tunables();
	if (rmdir(MEMCG) < 0 && errno != ENOENT && ok) {
		snprintf(why, sizeof(why), "rmdir " MEMCG ": %s", strerror(errno));
		ok = false;
	}
	if (mkdir(MEMCG, 0755) < 0 && ok) {
		snprintf(why, sizeof(why), "mkdir " MEMCG ": %s", strerror(errno));
		ok = false;
	}
	j_begin("reset");
	j_str("next", next);
	j_bool("ok", ok);
	j_str("why", why);
	j_ksm_files();
	j_bool("memcg_empty", memcg_empty());
	j_int("swap_used_kb", meminfo_kb("SwapTotal") - meminfo_kb("SwapFree"));
	j_int("anon_vma", slab_objects("anon_vma"));
	j_int("taint", read_number("/proc/sys/kernel/tainted", -1));
	j_end();
	return ok;
}

static const struct workload *find_workload(const char *name)
{
	for (const struct workload *w = __start_workloads; w < __stop_workloads; w++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}

/* One workload, in a process of its own; "done" says how that ended. */
static void run_one(char *words, pid_t anchor)
{
	char *name = words, *args = strchr(words, ' ');
	const struct workload *w;
	int status = 0;
	pid_t pid;

	if (args)
		*args++ = '\0';
	else
		args = name + strlen(name);
	w = find_workload(name);
	if (w && reset(name, anchor)) {
		pid = fork();
		if (!pid)
			run_workload(w, args);
		if (pid > 0)
			while (waitpid(pid, &status, 0) != pid)
				;
	} else {
		status = -1;
	}
	send_dmesg();
	j_begin("done");
	j_str("workload", name);
	j_bool("known", w != NULL);
	j_int("exit", status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	j_int("signal", status >= 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	j_int("taint", read_number("/proc/sys/kernel/tainted", -1));
	j_end();
}

static void serve_host(pid_t anchor)
{
	char line[1024];

	for (;;) {
		if (!host_line(line, sizeof(line))) {
			usleep(10000);
			continue;
		}
		if (!strncmp(line, "run ", 4))
			run_one(line + 4, anchor);
		else if (!strcmp(line, "poweroff"))
			break;
	}
	kill_rest(anchor);
	reset("", anchor);
	send_dmesg();
}

int main(int argc, char **argv)
{
	pid_t anchor;

	if (argc == 3 && !strcmp(argv[0], "actor"))
		serve_again(argv[1], argv[2]);
	if (getpid() != 1) {
		fprintf(stderr, "init of a guest of ksm-harness; of no use elsewhere\n");
		return 1;
	}
	mount_all();
	say("up");
	journal.fd = open_port();
	journal.boot = true;
	if (journal.fd < 0) {
		say_error("no port " PORT_NAME " for the journal");
		power_off();
	}
	if (make_swap(SWAP_DISK) < 0)
		say_error("swap on " SWAP_DISK);
	pin_tunables();
	anchor = start_anchor();
	say_hello();
	serve_host(anchor);
	say("power off");
	power_off();
}

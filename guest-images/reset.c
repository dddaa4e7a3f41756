// SPDX-License-Identifier: GPL-2.0-or-later
/* KSM and the memcg as they were at the beginning, and the proof of it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

static const char *const memcgs[] = { MEMCG, OTHER_MEMCG };
static pid_t kept;	/* the anchor */

/* Without a memcg: all that has a command line but us; with a signal, unless that is 0. */
static bool alone(int signal)
{
	char path[300], text[8];
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	bool yes = true;

	while (proc && (entry = readdir(proc))) {
		pid_t pid = atoi(entry->d_name);

		snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		if (pid <= 1 || pid == kept || read_file(path, text, sizeof(text)) <= 0)
			continue;
		yes = false;
		if (signal)
			kill(pid, signal);
	}
	if (proc)
		closedir(proc);
	return yes;
}

static bool memcg_empty(void)
{
	char text[64], path[64];
	bool empty = true;

	if (!memcg_version())
		return alone(0);
	for (size_t i = 0; i < sizeof(memcgs) / sizeof(memcgs[0]); i++) {
		snprintf(path, sizeof(path), "%s/cgroup.procs", memcgs[i]);
		empty &= read_file(path, text, sizeof(text)) <= 0;
	}
	return empty;
}

static void kill_memcg(const char *memcg)
{
	char text[16384], path[64], *line, *save = NULL;

	snprintf(path, sizeof(path), "%s/cgroup.procs", memcg);
	if (read_file(path, text, sizeof(text)) <= 0)
		return;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		kill(atoi(line), SIGKILL);
}

/* Away with both, and only the first one comes back. */
static bool new_memcg(char *why, size_t size)
{
	if (!memcg_version())
		return true;
	for (size_t i = 0; i < sizeof(memcgs) / sizeof(memcgs[0]); i++)
		if (rmdir(memcgs[i]) < 0 && errno != ENOENT) {
			snprintf(why, size, "rmdir %s: %s", memcgs[i],
				 strerror(errno));
			return false;
		}
	if (mkdir(MEMCG, 0755) < 0) {
		snprintf(why, size, "mkdir " MEMCG ": %s", strerror(errno));
		return false;
	}
	return true;
}

/* Kill whatever a workload has left; true when nothing remains. */
bool kill_rest(pid_t anchor)
{
	pid_t pid;

	kept = anchor;
	for (int i = 0; i < 3000; i++) {
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			if (pid == anchor)
				return false;
		if (memcg_empty())
			return true;
		for (size_t k = 0; k < sizeof(memcgs) / sizeof(memcgs[0]); k++)
			kill_memcg(memcgs[k]);
		if (!memcg_version())
			alone(SIGKILL);
		usleep(1000);
	}
	return false;
}

static const char *const zero_after_unmerge[] = {
	"pages_shared", "pages_sharing", "pages_unshared", "pages_volatile",
	"stable_node_chains", "stable_node_dups", "full_scans",
};

#define FILES (sizeof(zero_after_unmerge) / sizeof(zero_after_unmerge[0]))

static long long left[FILES];

/* Where run=2 was refused full_scans says nothing. */
static bool ksm_is_zero(bool unmerged, char *why, size_t size)
{
	bool zero = true;
	char path[128];

	for (size_t i = 0; i < FILES - !unmerged; i++) {
		snprintf(path, sizeof(path), KSM_DIR "/%s", zero_after_unmerge[i]);
		left[i] = read_number(path, 0);
		if (left[i] && zero)
			snprintf(why, size, "%s is %lld after run=2",
				 zero_after_unmerge[i], left[i]);
		zero &= !left[i];
	}
	return zero;
}

static void tell_left(void)
{
	j_open("left", '{');
	for (size_t i = 0; i < FILES; i++)
		if (left[i])
			j_int(zero_after_unmerge[i], left[i]);
	j_close('}');
}

/*
 * Back to the beginning: nobody in the memcg, a new memcg, KSM's trees empty,
 * full_scans 0, ksmd at run=1 and asleep.  run=2 empties the trees and does not
 * wake ksmd out of its timed sleep, nor does the 1 after it.  A kernel that
 * refuses it is told of; what matters to the next workload is what is left.
 */
bool reset(const char *next, pid_t anchor)
{
	char why[128] = "";
	bool ok = kill_rest(anchor);
	int refused = 0;

	memset(left, 0, sizeof(left));
	if (!ok && kill(anchor, 0))
		snprintf(why, sizeof(why), "the process with a mergeable area that keeps ksmd on its leash has died");
	else if (!ok)
		snprintf(why, sizeof(why), "processes of the last workload do not die");
	if (ok)
		restore_anchor();
	if (write_file(KSM_DIR "/run", "2") < 0)
		refused = errno;
	ok = ok && ksm_is_zero(!refused, why, sizeof(why));
	set_tunables();
	ok = ok && new_memcg(why, sizeof(why));
	j_begin("reset");
	j_str("next", next);
	j_bool("ok", ok);
	j_str("why", why);
	j_str("refused", errno_name(refused));
	tell_left();
	j_ksm_files();
	j_system_files(true);
	j_bool("memcg_empty", memcg_empty());
	j_int("swap_used_kb", meminfo_kb("SwapTotal") - meminfo_kb("SwapFree"));
	j_int("anon_vma", slab_objects("anon_vma"));
	j_int("taint", read_number("/proc/sys/kernel/tainted", -1));
	j_clock();
	j_end();
	return ok;
}

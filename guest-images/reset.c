// SPDX-License-Identifier: GPL-2.0-or-later
/* KSM and the memcg as they were at the beginning, and the proof of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

static bool memcg_empty(void)
{
	char text[64];

	return read_file(MEMCG "/cgroup.procs", text, sizeof(text)) <= 0;
}

/* Kill whatever a workload has left; true when nothing remains. */
bool kill_rest(pid_t anchor)
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
bool reset(const char *next, pid_t anchor)
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
	j_system_files();
	j_bool("memcg_empty", memcg_empty());
	j_int("swap_used_kb", meminfo_kb("SwapTotal") - meminfo_kb("SwapFree"));
	j_int("anon_vma", slab_objects("anon_vma"));
	j_int("taint", read_number("/proc/sys/kernel/tainted", -1));
	j_end();
	return ok;
}

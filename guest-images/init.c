// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's only program: init, all workloads, and the actors of workloads.
 *
 * As pid 1 it mounts what is needed, makes the swap, sets tunables, puts ksmd on a leash, says
 * hello on the journal's port, and then does what the host says: "run NAME
 * KEY=VALUE...", "poweroff".  Before each workload KSM and the memcg are reset,
 * and that is checked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor.h"
#include "init.h"

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
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
		if (pid < 0)
			cannot_fork(w, args, errno);
		while (pid > 0 && waitpid(pid, &status, 0) != pid)
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
	int anchor_error;
	pid_t anchor;

	if (argc == 3 && !strcmp(argv[0], "actor"))
		serve_again(argv[1], argv[2]);
	if (getpid() != 1) {
		fprintf(stderr, "init of a guest of ksm-harness; of no use elsewhere\n");
		return 1;
	}
	mount_all();
	load_modules();
	say("up");
	journal.fd = open_port();
	journal.boot = true;
	if (journal.fd < 0) {
		say_error("the journal's port");
		power_off();
	}
	if (make_swap(swap_device()) < 0)
		say_error("making swap");
	set_tunables();
	slab_frees_late = setting_is("slab_frees", "late");
	say_hello();
	/* After hello: what the kernel has to say of this counts. */
	anchor = anchor_ksmd(&anchor_error);
	j_begin("anchor");
	j_str("errno", errno_name(anchor_error));
	j_end();
	serve_host(anchor);
	say("power off");
	power_off();
}

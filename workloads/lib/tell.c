// SPDX-License-Identifier: GPL-2.0-or-later
/* Telling: the records around an operation, and those that end a workload. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"

static const char *current_op;
static unsigned long current_seq;
static bool going_on;		/* told as begun, and not as done */
static unsigned int ops;
unsigned int observations;

void op_begin(const char *op)
{
	j_begin("op");
	j_str("op", op);
	current_op = op;
	ops++;
}

void op_go(void)
{
	current_seq = j_end();
	going_on = true;
}

void ret_begin(long rc, int error)
{
	j_begin("ret");
	j_int("of", current_seq);
	j_str("op", current_op);
	j_int("rc", rc);
	j_str("errno", errno_name(error));
}

/* The host may want to look at this guest before it goes on. */
void wait_for_host(enum waits from, unsigned long seq)
{
	char line[64], want[64];

	if (arg_number("sync", 0) < from)
		return;
	snprintf(want, sizeof(want), "ack %lu", seq);
	do {
		if (!host_line(line, sizeof(line)))
			_exit(3);
	} while (strcmp(line, want));
}

void ret_end(void)
{
	going_on = false;
	wait_for_host(WAITS_AFTER_RET, j_end());
}

void op_done(void)
{
	ret_begin(0, 0);
	ret_end();
}

static void give_up(const char *what, int error, const char *format,
		    va_list args) __attribute__((noreturn));

static void give_up(const char *what, int error, const char *format, va_list args)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, args);
	j_begin("error");
	j_str("what", what);
	j_str("errno", errno_name(error));
	j_str("text", text);
	j_end();
	_exit(1);
}

void fail(const char *what, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	give_up(what, error, format, args);
}

void *need(size_t count, size_t size)
{
	void *p = calloc(count + 1, size);

	if (!p)
		fail("calloc", ENOMEM, "%zu times %zu bytes", count, size);
	return p;
}

void tell_refusal(int error)
{
	ret_begin(-1, error);
	j_int("available_kb", meminfo_kb("MemAvailable"));
	ret_end();
}

void refused(const char *what, int error, const char *format, ...)
{
	va_list args;

	if (going_on)
		tell_refusal(error);
	va_start(args, format);
	give_up(what, error, format, args);
}

void perished(const struct actor *a, int status)
{
	if (going_on) {
		ret_begin(-1, ESRCH);
		j_open("died", '[');
		j_str(NULL, a->name);
		j_int(NULL, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
		j_int(NULL, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
		j_close(']');
		ret_end();
	}
	fail("actor", ESRCH, "%s (pid %d) died, wait status %#x", a->name,
	     a->pid, status);
}

static void j_proc_file(const char *key, pid_t pid, const char *file)
{
	char path[64], text[4096];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	n = read_file(path, text, sizeof(text));
	j_strn(key, text, n > 0 ? n : 0);
}

/*
 * The host looks at the guest as it is now: were the actors to exit, a ksmd that
 * goes round in circles over their pages would find its way out (ksm_test_exit).
 */
#define LOOK_SECONDS 120

static void stand_still(void)
{
	double end = monotonic_seconds() + patient(LOOK_SECONDS);

	while (monotonic_seconds() < end)
		sleep(1);
}

void stuck(const char *who, pid_t pid)
{
	char path[64], text[4096], state[2] = "?";
	char *line, *save = NULL, *paren;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_file(path, text, sizeof(text)) > 0) {
		paren = strrchr(text, ')');
		if (paren && paren[1])
			state[0] = paren[2];
	}
	j_begin("stuck");
	j_str("actor", who);
	j_int("pid", pid);
	j_str("state", state);
	j_proc_file("wchan", pid, "wchan");
	j_open("stack", '[');
	snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	if (read_file(path, text, sizeof(text)) > 0)
		for (line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			j_str(NULL, line);
	j_close(']');
	j_end();
	stand_still();
	_exit(2);
}

void property(const char *name)
{
	snprintf(journal.property, sizeof(journal.property), "%s", name);
}

void note(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	j_begin("note");
	j_str("text", text);
	j_end();
}

void end(void)
{
	j_begin("end");
	j_int("ops", ops);
	j_int("obs", observations);
	j_int("records", journal.seq + 1);
	j_end();
	_exit(0);
}

void skip(const char *reason)
{
	j_begin("skip");
	j_str("reason", reason);
	j_end();
	end();
	__builtin_unreachable();
}

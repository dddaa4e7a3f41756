// SPDX-License-Identifier: GPL-2.0-or-later
/* Running a workload: its first record, its arguments, the control. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"
#include "memcg.h"

size_t page_size(void)
{
	static size_t size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size;
}

size_t pages(size_t bytes)
{
	return (bytes + page_size() - 1) / page_size();
}

static char *arguments;

long arg_number(const char *key, long fallback)
{
	size_t len = strlen(key);

	for (char *p = arguments; p && *p; p = strchr(p, ' ')) {
		p += *p == ' ';
		if (!strncmp(p, key, len) && p[len] == '=')
			return strtol(p + len + 1, NULL, 0);
	}
	return fallback;
}

double patient(double seconds)
{
	return seconds * arg_number("patience", 100) / 100;
}

static void j_words(const char *key, const char *words)
{
	char text[128], *word, *save = NULL;

	snprintf(text, sizeof(text), "%s", words);
	j_open(key, '[');
	for (word = strtok_r(text, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		j_str(NULL, word);
	j_close(']');
}

static void j_args(char *args)
{
	char text[512], *word, *save = NULL;

	snprintf(text, sizeof(text), "%s", args);
	j_open("args", '{');
	for (word = strtok_r(text, " ", &save); word;
	     word = strtok_r(NULL, " ", &save)) {
		char *value = strchr(word, '=');

		if (value)
			*value++ = '\0';
		j_str(word, value ? value : "");
	}
	j_close('}');
}

const char *lacking = "";
bool stepped_by_run;

static void begin(const struct workload *w, char *args)
{
	journal.boot = false;
	journal.seq = 0;
	journal.crc = 0;
	arguments = args;
	j_begin("begin");
	j_str("workload", w->name);
	j_words("properties", w->properties);
	j_args(args);
	j_int("page_size", page_size());
	if (stepped_by_run)
		j_str("stepping", "run");
	j_end();
}

void run_workload(const struct workload *w, char *args)
{
	begin(w, args);
	if (*lacking)
		skip(lacking);
	actors_init();
	add_control("Z", MEMCG_NAME);
	w->run();
	end();
	__builtin_unreachable();
}

void cannot_fork(const struct workload *w, char *args, int error)
{
	struct journal boot = journal;

	begin(w, args);
	op_begin("fork");
	j_str("actor", "init");
	j_str("child", w->name);
	op_go();
	tell_refusal(error);
	j_begin("error");
	j_str("what", "fork");
	j_str("errno", errno_name(error));
	j_str("text", "no process for the workload");
	j_end();
	journal = boot;
}

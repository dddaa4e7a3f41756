// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reclaim without a memory controller: somebody takes memory, and locks it, until
 * kswapd has to look for more.  It is taken by measure: free memory is brought
 * down to where kswapd works (between the zones' "min" and "low" watermarks), and
 * no further, so that no allocation has to reclaim by itself and nobody is killed.
 * What is evicted meanwhile is free memory to be taken the next time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "memcg.h"

#define PIECE_BYTES (256ul << 10)
#define MAX_BYTES (4ul << 30)
#define MIN_FREE_KB "16384"	/* so that "low", which is a quarter more, is not too near */
#define SETTLE_US 2000

static pid_t hog;
static int to_hog, from_hog;
static bool turned;

/* The largest number of "protection: (0, 489, 489)", in pages. */
static long long protection(const char *text)
{
	long long most = 0;

	for (; *text && *text != ')' && *text != '\n'; text++)
		if (*text >= '0' && *text <= '9') {
			char *end;
			long long value = strtoll(text, &end, 10);

			most = value > most ? value : most;
			text = end - 1;
		}
	return most;
}

/* Where kswapd is at work, in kB: halfway between "min" and "low" of all zones. */
static long long target_kb(void)
{
	static char text[65536];
	long long pages = 0, min = 0;
	char *line, *save = NULL;

	if (read_file("/proc/zoneinfo", text, sizeof(text)) <= 0)
		fail("zoneinfo", errno, "finding where kswapd works");
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *word = line + strspn(line, " ");

		if (!strncmp(word, "min ", 4)) {
			min = strtoll(word + 4, NULL, 10);
			pages += min;
		} else if (!strncmp(word, "low ", 4)) {
			pages += (strtoll(word + 4, NULL, 10) - min) / 2;
		} else if (!strncmp(word, "protection:", 11)) {
			pages += protection(word + 11);
		}
	}
	return pages * (long long)(page_size() >> 10);
}

/* Half of what is above the target, for others take memory too. */
static size_t piece(long long above_kb)
{
	size_t bytes = PIECE_BYTES;

	while (bytes * 2 < (size_t)above_kb << 9)
		bytes *= 2;
	return bytes;
}

/* The process that has the memory: it takes as much as it is told, and tells how that went. */
static void serve_hog(int words, int answers)
{
	char *p = mmap(NULL, MAX_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t taken = 0, bytes;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (p != MAP_FAILED && read(words, &bytes, sizeof(bytes)) == sizeof(bytes)) {
		int error = 0;

		if (taken + bytes > MAX_BYTES || mlock(p + taken, bytes) < 0)
			error = errno ? errno : ENOMEM;
		taken += error ? 0 : bytes;
		if (write(answers, &error, sizeof(error)) != sizeof(error))
			break;
	}
	_exit(1);
}

static void start_hog(void)
{
	char path[64];
	int there[2], back[2];

	if (pipe2(there, O_CLOEXEC) < 0 || pipe2(back, O_CLOEXEC) < 0)
		fail("pipe2", errno, "to the process that takes memory");
	hog = fork();
	if (!hog) {
		close(there[1]);
		serve_hog(there[0], back[1]);
	}
	if (hog < 0)
		fail("fork", errno, "a process that takes memory");
	close(there[0]);
	close(back[1]);
	to_hog = there[1];
	from_hog = back[0];
	/* Should memory run out all the same it is this one that is killed. */
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", hog);
	if (write_file(path, "1000") < 0) {	/* 2.6.36 */
		snprintf(path, sizeof(path), "/proc/%d/oom_adj", hog);
		write_file(path, "15");
	}
}

/* False if it could not take as much. */
static bool feed_hog(size_t bytes)
{
	int error;

	return write(to_hog, &bytes, sizeof(bytes)) == sizeof(bytes) &&
		read(from_hog, &error, sizeof(error)) == sizeof(error) && !error;
}

static void end_hog(void)
{
	kill(hog, SIGKILL);
	waitpid(hog, NULL, 0);
	close(to_hog);
	close(from_hog);
	hog = 0;
}

/* Widened or narrowed for as long as memory is taken, where the kernel has them. */
static struct {
	const char *path, *value;
	char before[24];
} knobs[] = {
	{ "/proc/sys/vm/min_free_kbytes", MIN_FREE_KB, "" },
	/* 5.0: min and low would rise by themselves. */
	{ "/proc/sys/vm/watermark_boost_factor", "0", "" },
};

static void turn_knobs(bool back)
{
	for (size_t i = 0; i < sizeof(knobs) / sizeof(knobs[0]); i++) {
		if (!back)
			snprintf(knobs[i].before, sizeof(knobs[i].before), "%lld",
				 read_number(knobs[i].path, 0));
		if (write_file(knobs[i].path, back ? knobs[i].before : knobs[i].value) < 0 &&
		    errno != ENOENT)
			fail("sysctl", errno, "%s", knobs[i].path);
	}
}

int hog_memory(void)
{
	long long target, above;

	if (!turned) {
		turn_knobs(false);
		turned = true;
	}
	if (!hog)
		start_hog();
	target = target_kb();
	while ((above = meminfo_kb("MemFree") - target) > 0)
		if (!feed_hog(piece(above))) {
			end_hog();
			break;
		}
	usleep(SETTLE_US);
	errno = EAGAIN;		/* as a memcg that has not given all that was asked for */
	return -1;
}

void release_hog(void)
{
	if (hog)
		end_hog();
	if (turned)
		turn_knobs(true);
	turned = false;
}

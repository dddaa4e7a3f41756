/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by init and the library: the journal's writer, small files. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct workload;

#define KSM_DIR "/sys/kernel/mm/ksm"
#define THP_DIR "/sys/kernel/mm/transparent_hugepage"
#define MEMCG_ROOT "/memcg"
#define MEMCG_NAME "t"
#define MEMCG MEMCG_ROOT "/" MEMCG_NAME
#define OTHER_MEMCG_NAME "u"	/* made by workloads which need a second one */
#define OTHER_MEMCG MEMCG_ROOT "/" OTHER_MEMCG_NAME

/* One numbered, checksummed run of records. */
struct journal {
	int fd;
	bool boot;
	unsigned long seq;
	uint32_t crc;
	char property[8];
};

extern struct journal journal;

/* A record: j_begin(), members, j_end(), which returns its number. */
void j_begin(const char *kind);
void j_str(const char *key, const char *value);
void j_strn(const char *key, const char *value, size_t len);
void j_int(const char *key, long long value);
void j_bool(const char *key, bool value);
void j_hex(const char *key, unsigned long long value);
void j_null(const char *key);
void j_open(const char *key, char bracket);	/* key NULL in a list */
void j_close(char bracket);
unsigned long j_end(void);
long long boottime_ms(void);
double monotonic_seconds(void);

/* The host's words, line by line; false at the end of file. */
bool host_line(char *line, size_t size);

/* Small files.  read_file() returns the length or -1 with errno set. */
ssize_t read_file(const char *path, char *buf, size_t size);
/*
 * The same of a file that one read(2) shows whole, as those of sysfs are (at most a
 * page: fs/sysfs/file.c, sysfs_kf_seq_show).  The path may start at a directory.
 */
ssize_t read_attribute(int dir, const char *path, char *buf, size_t size);
int write_file(const char *path, const char *text);
long long read_number(const char *path, long long fallback);
const char *errno_name(int error);
/* A line of /proc/meminfo in kB ("MemTotal"), -1 if it is not there. */
long long meminfo_kb(const char *key);
/* The number right after the first "key" in a text, or -1. */
long long number_after(const char *text, const char *key);

/* Members common to init's reset record and to observations. */
void j_ksm_files(void);
void j_system_files(bool whole);	/* vmstat, meminfo: all lines, or those that tell of KSM and swap */
void j_lines(char *text, const char *const *keys, bool numbers);
/* Merged with others of about its size, so that it tells nothing of its own (mm/slub.c). */
bool slab_is_shared(const char *cache);
/* Objects of a slab cache after a shrink, -1 if it cannot be known. */
long long slab_objects(const char *cache);
extern bool slab_frees_late;	/* anon_vmas are freed after a grace period only: SLUB_RCU_DEBUG */

/* known.c: pages of which the kernel tells what they are for, -1 if it does not. */
long long pages_known(void);

/*
 * memcg.c: version of the hierarchy at MEMCG_ROOT, 1 or 2, 0 if there is none with
 * a memory controller; reclaiming so many bytes, and the end of a row of such.
 */
int memcg_version(void);
int memcg_reclaim(const char *memcg, unsigned int bytes);
void memcg_reclaimed(void);

/*
 * How ksmd is made to scan once: woken from a long sleep by another value of
 * sleep_millisecs, or, where that wakes nobody (before 5.0), by run=1 for as long as
 * one scan takes.  It sleeps RUN_SLEEP_MS between two then.
 */
extern bool stepped_by_run;
#define RUN_SLEEP_MS "50"

/*
 * anchor.c: start_anchor() is init's; its process, and the error that it was refused
 * with.  restore_anchor(): should a workload have ended while it was weighed.
 */
pid_t start_anchor(int *error);
void restore_anchor(void);

/* What the guest was to have and could not be given, in words; "" if nothing. */
extern const char *lacking;

/* Run a workload in this process; does not return. */
void run_workload(const struct workload *w, char *args)
	__attribute__((noreturn));
/* The workload's segment where it has no process: a fork that was refused. */
void cannot_fork(const struct workload *w, char *args, int error);

#endif

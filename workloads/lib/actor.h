/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the library: actors, their areas, and how they are asked to act. */
#ifndef ACTOR_H
#define ACTOR_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "workload.h"

#define MAX_ACTORS 128
#define MAX_AREAS 64
#define NAME_MAX_LEN 15
#define MAX_RUNS 4096
#define MAX_SIGNALS 8

enum request {
	REQ_NONE, REQ_MAP, REQ_FILL, REQ_READ, REQ_VERIFY, REQ_MADVISE,
	REQ_FORK, REQ_EXIT, REQ_EXEC, REQ_MUNMAP, REQ_MPROTECT, REQ_MLOCK,
	REQ_MUNLOCK, REQ_PIN, REQ_UNPIN, REQ_STIR, REQ_PUTBACK, REQ_CALL,
};

/* A SIGBUS: what it named, and whether at once or for an access. */
struct bus_signal {
	unsigned long addr;
	bool required;		/* BUS_MCEERR_AR, not BUS_MCEERR_AO */
};

/* Consecutive pages whose contents are tag, tag + step, ... */
struct content_run {
	uint64_t count;
	int64_t tag, step;
};

/*
 * What director and actor share: one request at a time, handed over by futex.
 * The director writes "asked", the actor answers by making "answered" equal.
 */
struct slot {
	uint32_t asked, answered;
	uint32_t turn;		/* the twin may act: twin.c */
	enum request request;
	unsigned long addr;
	size_t bytes, page;
	uint64_t tag, step;
	int advice;		/* madvise, mprotect, mlock2: its last argument */
	long (*call)(struct slot *);	/* REQ_CALL: what to do */
	unsigned long more[2];		/* what it needs beside the rest */
	unsigned int failing;		/* so manieth allocation is to fail, or 0 */
	bool failed;			/* and did */
	struct slot *child;
	pid_t pid;		/* written by the parent: of the child */
	long rc;
	int error;
	size_t nsignals;		/* SIGBUS: how many, and which */
	struct bus_signal signals[MAX_SIGNALS];
	size_t nruns;
	struct content_run runs[MAX_RUNS];
};

struct area {
	char name[NAME_MAX_LEN + 1];
	unsigned long addr;
	size_t npages;
	unsigned char *keep;	/* per page: reclaim need not wait for it */
};

struct actor {
	char name[NAME_MAX_LEN + 1];
	pid_t pid;
	pid_t twin;		/* another process with its mm, or 0 */
	bool alive;
	char memcg[NAME_MAX_LEN + 1];
	struct slot *slot;
	unsigned long base;	/* where its first area lies */
	struct area areas[MAX_AREAS];
	size_t nareas;
	size_t pinned;		/* pages that its pipe holds */
};

/* After which records the argument "sync" makes the guest wait for the host. */
enum waits { WAITS_NEVER, WAITS_AFTER_OBS, WAITS_AFTER_RET };

void wait_for_host(enum waits from, unsigned long seq);

extern struct actor actors[MAX_ACTORS];
extern size_t nactors;

void actors_init(void);
/* An actor without a process yet, and the process for one, told as a spawn. */
struct actor *new_actor(const char *name);
void start_actor(struct actor *a, const char *memcg);
/* A process that the parent has forked becomes the actor, with its areas. */
void take_child(struct actor *child, const struct actor *parent);
struct area *find_area(struct actor *a, const char *name);
/* Let the actor's process exit, and reap it. */
void end_process(struct actor *a);
/* twin.c: the other process with the actor's mm, if there is one, is killed. */
void end_twin(struct actor *a);
/* Let the actor do what its slot says and wait; rc, negative is failure. */
long ask(struct actor *a, enum request request);
/* The same, but failure is told as a refusal and ends the workload. */
void must(struct actor *a, enum request request, const char *what);

/*
 * Aim the actor's slot at pages of an area, and tell of them in the op record;
 * returns their number.
 */
size_t aim(struct actor *a, const char *area, size_t first, size_t count);
/*
 * Where a new process has its areas: in turns at two places, so that what two
 * share has different addresses in them.  Forks have their parent's place.
 */
unsigned long next_base(void);
/* A new area of the actor, not mapped yet, far from all others. */
struct area *new_area(struct actor *a, const char *name, size_t npages);
/* An operation of its own: let the actor do "call" on its slot; rc. */
long ask_call(struct actor *a, long (*call)(struct slot *));
/* The two halves of ask(), for what may go on while other actors act. */
void wake(struct actor *a, enum request request);
void wait_answer(struct actor *a);

/*
 * A deadline in seconds, stretched for guests that are known to be slow (the
 * argument "patience", in percent).
 */
double patient(double seconds);

/*
 * End the workload: an error record, a stuck record.  refused(): the kernel did
 * not do what it was asked for, which the operation's ret record tells before.
 * perished(): an actor died in the middle of it.
 */
void fail(const char *what, int error, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));
void refused(const char *what, int error, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));
void perished(const struct actor *actor, int status)
	__attribute__((noreturn));
void stuck(const char *who, pid_t pid) __attribute__((noreturn));
/* The last word of a workload that has done all it had to. */
void end(void) __attribute__((noreturn));

extern unsigned int observations;	/* told so far */

/* The bracket around each operation: its op record, its ret record. */
void op_begin(const char *op);		/* leaves the record open */
void op_go(void);			/* ends it: from here on it happens */
void ret_begin(long rc, int error);	/* leaves the ret record open */
void ret_end(void);
/* Zeroed memory for so many, and one more, or the end of the workload. */
void *need(size_t count, size_t size);
void tell_refusal(int error);		/* a ret that refused() explains */
void op_done(void);			/* a ret without results */

/* contents.c: write a page with content "tag"; find out what the slot's pages hold. */
void fill_page(uint64_t *word, uint64_t tag);
int64_t page_content(const uint64_t *word);	/* -1: that of no tag */
void verify_pages(struct slot *s);

/*
 * sigbus.c: an access by the actor that may hit a poisoned page is made with
 * bus_expected set, behind sigsetjmp(bus_return, 0); errno is EHWPOISON then.
 */
extern sigjmp_buf bus_return;
extern volatile sig_atomic_t bus_expected;
void catch_sigbus(struct slot *slot);

/* The process loop of an actor, on a slot. */
void serve(struct slot *slot) __attribute__((noreturn));
/* An actor that has executed itself anew comes back here. */
void serve_again(const char *slots_fd, const char *index)
	__attribute__((noreturn));

#endif

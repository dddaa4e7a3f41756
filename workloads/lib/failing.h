/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the library: allocations that are made to fail. */
#ifndef FAILING_H
#define FAILING_H

#include <stdbool.h>
#include <sys/types.h>

/* Which allocations are counted, and can fail. */
enum failing {
	KSM_OBJECTS,		/* of KSM's slab caches and of anon_vmas */
	PAGES,
	ATOMIC_PAGES,		/* those that cannot wait for reclaim */
	EVERYTHING,		/* slab objects and pages */
};

/*
 * The task's n-th allocation from here on fails; true if disarm() comes after
 * it.  The pid is that of a task that stands still, or 0: the caller itself.
 */
void arm(pid_t pid, unsigned int n);
bool disarm(void);
/* A process that was forked while its parent was armed gives back what it has. */
void forget_armed(void);

/* The director's part: knobs, and the op record's members. */
void choose_failing(enum failing what);
void j_failing(enum failing what, unsigned int n);

/*
 * All allocations of that kind that the caller makes fail until allow_all(),
 * which returns how many have.
 */
void refuse_all(void);
unsigned int allow_all(void);

#endif

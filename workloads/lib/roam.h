/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the library: roamers, actors that act as they like, all at once, until
 * they are called back.  What they share with the director is here: above all
 * the book, in which each keeps what its bytes must be.
 */
#ifndef ROAM_H
#define ROAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "actor.h"

#define ROAMERS 12		/* at most at a time */
#define ROAM_AREAS 2
#define ROAM_PAGES 256		/* of an area, at most */
#define MAX_WRONG 4

enum deed {
	WRITE, VERIFY, READ, MERGEABLE, UNMERGEABLE, REMAP, DONTNEED, PAGEOUT,
	PROTECT, LOCK, PIN, MOVE, FORK, FORK_BRIEFLY, LEAVE, PAUSE, HAMMER, DEEDS,
};

extern const char *const deed_names[DEEDS];

/* What the pages of an area must hold, and which of them are mergeable. */
struct book {
	unsigned long addr;
	uint64_t tag[ROAM_PAGES];
	bool mergeable[ROAM_PAGES];
};

/* A page that was not as its roamer's book has it. */
struct wrong {
	int area;
	size_t page;
	uint64_t expected;
	int64_t found;		/* -1: the bytes of no tag */
};

/* BORN: taken by a fork that is not done. */
enum roamer_state { FREE, BORN, ROAMING, LEFT };

struct roamer {
	uint32_t state;		/* enum roamer_state */
	pid_t pid;
	bool begun;		/* its areas have contents */
	uint64_t dice;
	struct slot *slot;
	struct book books[ROAM_AREAS];
	uint32_t wrongs;
	struct wrong wrong[MAX_WRONG];
	int child_status;	/* of a brief child that did not end well */
};

/* The ways in which the kernel is troubled besides. */
enum trouble { RECLAIMS, COMPACTIONS, MOVES, SCAN_RATES, STOPS, UNMERGES, LIMITS, TROUBLES };

extern const char *const trouble_names[TROUBLES];

struct crowd {
	uint32_t stop;
	uint32_t population;
	uint32_t births;	/* forks that roam on, ever */
	uint32_t least, most;	/* of the population */
	size_t npages;		/* of each area */
	struct roamer roamers[ROAMERS];
	uint32_t deeds[DEEDS];
	uint32_t troubles[TROUBLES];
};

extern struct crowd *crowd;

/* A number below "below", from a state of its own. */
uint32_t dice(uint64_t *state, uint32_t below);

/* roamer.c, in the roamer's process: act until the crowd is stopped. */
long roam_here(struct slot *slot);

/* trouble.c: a process that troubles the kernel until the crowd is stopped. */
#define TROUBLEMAKERS 3
pid_t start_troublemaker(int which, uint64_t seed);

#endif

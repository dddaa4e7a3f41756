/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the library: what stepping ksmd is made of (ksmd.c). */
#ifndef KSMD_H
#define KSMD_H

#include <stdbool.h>

#include "guest.h"

#define FULL_SCANS KSM_DIR "/full_scans"

/* Wake it for a batch, if it is in its timed sleep. */
void poke(void);
pid_t find_ksmd(void);
/* The letter in /proc/PID/stat. */
char ksmd_state(void);
/* Is it asleep?  wait_asleep(): until it is, or the workload ends in a stuck record. */
bool asleep(void);
void wait_asleep(void);
/* The director is to poll, and leaves the CPU to ksmd; or has done so. */
void stand_back(bool back);
/* Make it scan once; returns the number of pokes.  It may not sleep yet. */
unsigned int one_scan(void);
/* For the scan that it was woken for: full_scans is not "from" then, and it sleeps again. */
void await_scan(long long from, const char *after);
/* The begin of a ret: full_scans before, and now that ksmd sleeps. */
void ret_scans(long long from);

#endif

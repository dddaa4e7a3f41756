/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the library: what the walks for references return, by kprobe events. */
#ifndef WALKS_H
#define WALKS_H

#include "actor.h"

/* Is a watch() waiting for the next reclaim?  Its argument for the op record. */
void j_watched(void);
/* Around a reclaim: start, take in what happened since, tell and forget. */
void walks_begin(void);
void walks_collect(void);
bool walks_complete(void);	/* each watched page was looked at, or is gone */
void j_walks(void);

#endif

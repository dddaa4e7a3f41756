/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the library: which memcg an actor is in, and each one's control. */
#ifndef MEMCG_H
#define MEMCG_H

#include "actor.h"

/* Ordinary memory in a memcg, the positive control of its reclaim. */
void add_control(const char *name, const char *memcg);
bool is_control(const struct actor *a);
struct actor *control_of(const char *memcg);
/* hog.c: reclaim where there is no memory controller: of everything. */
int hog_memory(void);
void release_hog(void);
void join_memcg(struct actor *a, const char *memcg);

/* ballast.c: active pages in the actor's memcg, anew; none any more. */
void take_ballast(struct actor *a);
void drop_ballast(struct actor *a);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the library: page tables as pagemap shows them. */
#ifndef OBSERVE_H
#define OBSERVE_H

#include "actor.h"

#define PM_PRESENT (1ull << 63)
#define PM_SWAP (1ull << 62)
#define PM_VALUE ((1ull << 55) - 1)

/*
 * Swap entries of the highest types are none: migration, hwpoison, markers
 * (include/linux/swap.h: MAX_SWAPFILES is 32 less their number, at most 9).
 */
#define SWAP_TYPE(entry) ((entry) & 31)
#define FIRST_SPECIAL_TYPE 23

#define KPF_REFERENCED 2
#define KPF_WRITEBACK 8
#define KPF_MMAP 11
#define KPF_ANON 12
#define KPF_SWAPCACHE 13
#define KPF_COMPOUND_HEAD 15
#define KPF_COMPOUND_TAIL 16
#define KPF_HUGE 17
#define KPF_UNEVICTABLE 18
#define KPF_HWPOISON 19
#define KPF_NOPAGE 20
#define KPF_KSM 21
#define KPF_THP 22
#define KPF_ZERO_PAGE 24
#define KPF_MLOCKED 33

/* The flags that say something about a page's fate; the rest is noise. */
#define KPF_TOLD ((1ull << KPF_REFERENCED) | (1ull << KPF_WRITEBACK) |	\
		  (1ull << KPF_MMAP) | (1ull << KPF_ANON) |		\
		  (1ull << KPF_SWAPCACHE) | (1ull << KPF_HUGE) |	\
		  (1ull << KPF_UNEVICTABLE) | (1ull << KPF_HWPOISON) |	\
		  (1ull << KPF_NOPAGE) | (1ull << KPF_KSM) |		\
		  (1ull << KPF_THP) | (1ull << KPF_ZERO_PAGE) |		\
		  (1ull << KPF_MLOCKED))

/* The pagemap entries of an area; fails the workload if they can't be read. */
void read_pagemap(const struct actor *a, const struct area *area,
		  uint64_t *entries);
/* P present, S swapped, X neither but not none (a special entry), N none. */
char entry_state(uint64_t entry);
/* What /proc/kpageflags says of a page frame, and of several, in ascending order. */
uint64_t page_flags(uint64_t pfn);
void frames_flags(const uint64_t *pfns, size_t count, uint64_t *flags);

/*
 * left.c, at an observation that found these frames mapped (in any order; they are
 * sorted): how many that an earlier one found mapped are mapped by nobody now, and
 * still are anonymous pages, outside the swap cache.
 */
size_t frames_left(uint64_t *mapped, size_t count);

#endif

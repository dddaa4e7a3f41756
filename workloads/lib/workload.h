/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a workload is written with: processes ("actors") that do one operation
 * at a time on request and otherwise sleep, and a journal in which every
 * operation and observation is told (docs/journal.md).
 *
 * Every function here narrates what it does, waits until it is done, and ends
 * the workload with an "error" or "stuck" record when it cannot be done: a
 * workload needs no error handling and reads like the paragraph that describes
 * it.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALL_PAGES ((size_t)-1)

struct actor;

/* A workload: one per file, found by the linker in the section "workloads". */
struct workload {
	const char *name;
	const char *properties;		/* "P1" or "P3 P4" */
	const char *title;
	void (*run)(void);
} __attribute__((aligned(32)));

/* One that takes long: it is run when it is asked for by name, not with "all". */
#define WORKLOAD_ON_REQUEST(id, props, what) WORKLOAD(id, props, what)

#define WORKLOAD(id, props, what)					\
	static void id##_run(void);					\
	static const struct workload id##_workload			\
	__attribute__((used, section("workloads"))) = {			\
		.name = #id, .properties = props, .title = what,	\
		.run = id##_run,					\
	};								\
	static void id##_run(void)

/* Arguments given after the workload's name: "run ref_leak cycles=400". */
long arg_number(const char *key, long fallback);

/* The property that is shown from here on: "P1". */
void property(const char *name);
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* This kernel cannot show it: ends the workload as skipped. */
void skip(const char *reason) __attribute__((noreturn));

/* Bytes of the page size, and how many pages a size in bytes is here. */
size_t page_size(void);
size_t pages(size_t bytes);

/* Processes. */
struct actor *spawn(const char *name);
struct actor *fork_actor(struct actor *parent, const char *child);
void exit_actor(struct actor *actor);
void exec_actor(struct actor *actor);

/*
 * Another process with the actor's mm; it waits.  hand_over(): the actor's own
 * exits, and the twin is the actor from now on.
 */
void twin(struct actor *actor);
void hand_over(struct actor *actor);

/*
 * The memcg "u", beside the one that all actors start in ("t"), with a control
 * of its own.  spawn_in() and move_actor() put actors there; what an actor has
 * touched before stays charged to where it was.
 */
void second_memcg(void);
struct actor *spawn_in(const char *name, const char *memcg);
void move_actor(struct actor *actor, const char *memcg);

/* Memory.  Pages first..first+count-1 of an area; ALL_PAGES to its end. */
void map_area(struct actor *actor, const char *area, size_t bytes);
void fill(struct actor *a, const char *area, size_t first, size_t count,
	  uint64_t tag, uint64_t step);
void write_pages(struct actor *a, const char *area, size_t first,
		 size_t count, uint64_t tag, uint64_t step);
/*
 * The same, by somebody else and by force: through /proc/PID/mem, also where the
 * actor itself may not write.  Nothing is done where kernels do not take that.
 */
void force_pages(struct actor *a, const char *area, size_t first,
		 size_t count, uint64_t tag, uint64_t step);
/*
 * What the pages hold stays, but the kernel takes hold of them as if to write there
 * (FUTEX_WAKE of a word that may be shared: get_user_pages_fast).
 */
void grab_pages(struct actor *a, const char *area, size_t first, size_t count);
void read_pages(struct actor *a, const char *area, size_t first, size_t count);
void verify(struct actor *a, const char *area, size_t first, size_t count);
void mergeable(struct actor *a, const char *area, size_t first, size_t count);
void unmergeable(struct actor *a, const char *area, size_t first,
		 size_t count);
void pageout(struct actor *a, const char *area, size_t first, size_t count);
/*
 * MADV_FREE; false if this kernel has none.  Pages that nobody else maps must be
 * merged before reclaim comes, which may drop them with what they hold.
 */
bool lazy_free(struct actor *a, const char *area, size_t first, size_t count);
void unmap_pages(struct actor *a, const char *area, size_t first,
		 size_t count);
void protect(struct actor *a, const char *area, size_t first, size_t count,
	     const char *prot);
void lock_pages(struct actor *a, const char *area, size_t first, size_t count,
		bool onfault);
void unlock_pages(struct actor *a, const char *area, size_t first,
		  size_t count);
void pin(struct actor *a, const char *area, size_t first, size_t count);
void unpin(struct actor *a);
/* Pages that are pinned: isolated from the LRU in vain, and put back. */
void putback(struct actor *a, const char *area, size_t first, size_t count);

/*
 * remap.c.  mremap() moves pages to the beginning of area "to", which is a new
 * one unless the actor has it: then what is mapped there goes.  Where the pages
 * came from is a hole in the old area, but for move_out() (MREMAP_DONTUNMAP; false
 * if this kernel has none), which moves all pages and leaves the area.  resize_area() grows or shrinks a whole
 * area where it is; renew_pages() maps fresh memory over pages.
 */
void move_to(struct actor *a, const char *area, size_t first, size_t count,
	     const char *to);
bool move_out(struct actor *a, const char *area, const char *to);
void resize_area(struct actor *a, const char *area, size_t bytes);
void renew_pages(struct actor *a, const char *area, size_t first, size_t count);

/* nodes.c: NUMA nodes with memory, numbered from 0; pages to come from one. */
size_t memory_nodes(void);
void bind_pages(struct actor *a, const char *area, size_t first, size_t count,
		int node);

/*
 * special.c.  Memory that is not what KSM is made for, and other ways to ask
 * for it.  huge_size() is 0 where there are no transparent huge pages; while
 * allow_huge() allows them, pages that want_huge() are filled with huge ones.
 * collapse() makes an area one huge page (MADV_COLLAPSE, 6.1); false if it is not.
 * room_for() is false where so much would take more than half of free memory.
 * merge_any() is prctl(PR_SET_MEMORY_MERGE); false if this kernel has none.
 * advise_strange() has MADV_MERGEABLE on memory that is nobody's area, and looks
 * what came of it: "vvar", "file" (shared, and cannot be written), "droppable"; of
 * "heap" it only looks at what the actor gets now.
 * look_at_vmas() tells what smaps says of an area.
 */
void map_shared(struct actor *a, const char *area, size_t bytes);
void advise_strange(struct actor *a, const char *mapping);
size_t huge_size(void);
bool room_for(size_t bytes);
void allow_huge(bool allowed);
void want_huge(struct actor *a, const char *area, size_t first, size_t count);
bool collapse(struct actor *a, const char *area);
bool merge_any(struct actor *a, bool on);
void look_at_vmas(struct actor *a, const char *area);

/*
 * Contents (contents.c) whose checksum is that of the page of zeros; and contents
 * that differ from those of ALMOST less in the page's last byte only.
 */
#define LIKE_ZEROS (1ul << 62)
#define ALMOST (1ul << 61)

/* An area whose page i has content tag + i. */
void map_filled(struct actor *a, const char *area, size_t bytes, uint64_t tag);
/* The usual start: a process with such an area, "a". */
struct actor *spawn_filled(const char *name, size_t bytes, uint64_t tag);

/* P1 and P2, unrelated, with equal areas "a" that ksmd has merged. */
void merge_pair(struct actor **p1, struct actor **p2, size_t bytes);

/* ksmd.  It is stepped: nothing is scanned but what is asked for here. */
void scan(unsigned int scans);
/* So many pages only, which leaves a scan half done; scan(1) ends it. */
void scan_pages(unsigned int count);
/* So many at least, one after the other, which takes less time than to step ksmd. */
void scan_freely(unsigned int scans);
void ksm_run(int value);
/* run was 0 or 2, and is 1 afterwards: which wakes ksmd for one scan. */
void scan_by_run(void);
void ksm_set(const char *file, const char *value);
/* The same, but the kernel may refuse: true if it did not. */
bool ksm_try(const char *file, const char *value);
bool ksm_has(const char *file);

/*
 * anchor.c: with the anchor weighed no mm is registered with ksmd but the actors',
 * and with none of them it waits for the first one.  scan_by_first() is mergeable(),
 * and the scan that it has woken ksmd for.  False, with a note, where ksmd is stepped
 * otherwise; else drop_anchor() must follow.
 */
bool weigh_anchor(void);
void scan_by_first(struct actor *a, const char *area, size_t first, size_t count);
void drop_anchor(void);

/* Reclaim of the actors' memcg.  keep(): the next one does not wait for these. */
void keep(struct actor *a, const char *area, size_t first, size_t count);
void reclaim(void);
void reclaim_memcg(const char *memcg);

/*
 * swapoff() brings back all that is swapped, whoever it belongs to; then there is
 * swap again.
 */
void swap_off_and_on(void);

/*
 * Ageing.  clear_refs() makes all of an actor's ptes old; touch_pages() reads
 * pages in a way that makes them young for sure.  idle_set() marks pages idle,
 * idle_read() tells which still are.  watch() has the next reclaim tell how
 * many references its walks found to the KSM pages that lie at these addresses,
 * and go on until each was looked at.
 */
void clear_refs(struct actor *a);
void touch_pages(struct actor *a, const char *area, size_t first, size_t count);
bool has_idle_tracking(void);
void idle_set(struct actor *a, const char *area, size_t first, size_t count);
void idle_read(struct actor *a, const char *area, size_t first, size_t count);
void watch(struct actor *a, const char *area, size_t first, size_t count);

/*
 * Moving pages to other frames: soft offline by madvise or by frame number,
 * move_pages(2) (all: MPOL_MF_MOVE_ALL), compaction of all memory.  None of
 * these ends the workload when the kernel refuses: what happened is told.
 */
void soft_offline(struct actor *a, const char *area, size_t first,
		  size_t count);
void soft_offline_frames(struct actor *a, const char *area, size_t first,
			 size_t count);
bool has_node(int node);
bool has_move_pages(void);
void move_pages_to(struct actor *a, const char *area, size_t first,
		   size_t count, int node, bool all);
void compact(void);

/*
 * offline.c.  The memory block in which an actor's page lies is to go offline: it
 * cannot, for a page of it is pinned, and that is given up when ksmd has been seen to
 * wait, which then makes the scan that it was poked for; or it goes, and is taken
 * into use again.  Ends the workload as skipped where no block can go.
 */
size_t memory_block(void);	/* its bytes */
void offline_cancelled(struct actor *a, const char *area, size_t page);
void offline_and_online(struct actor *a, const char *area, size_t page);

/* A memory error in one page; early: vm.memory_failure_early_kill is set. */
void hwpoison(struct actor *a, const char *area, size_t page, bool early);

/*
 * failing.c: allocations that are made to fail, where the kernel has fault
 * injection: need_failing() skips where it has not.  Then each does what its
 * namesake does while one allocation of the task, the n-th from 1 on, fails, and
 * returns whether it was done: for mergeable and fork (NULL if there is no child)
 * an allocation of KSM's objects, for unmergeable, run=2 and merge_any(a, false)
 * (merge_none_failing()) that of a page.
 * failing_forks() fails at all the allocations of a fork, one after the other.
 * verify() is to succeed all the same, as a fault is taken again.
 * scan_failing() is a scan by ksmd that ends at an rmap_item which it does not
 * get.  The first attempt of reclaim_failing() has no page for a swap count
 * that runs over.
 */
void need_failing(void);
bool mergeable_failing(struct actor *a, const char *area, size_t first,
		       size_t count, unsigned int n);
bool unmergeable_failing(struct actor *a, const char *area, size_t first,
			 size_t count, unsigned int n);
bool unmerge_all_failing(unsigned int n);
bool merge_none_failing(struct actor *a, unsigned int n);
struct actor *fork_failing(struct actor *parent, const char *child,
			   unsigned int n);
void failing_forks(struct actor *parent);
void verify_failing(struct actor *a, const char *area, size_t first,
		    size_t count, unsigned int n);
void scan_failing(unsigned int n);
void reclaim_failing(void);

/*
 * limit.c: pages of an actor are read while its memcg has no room at all and nobody
 * in it may be killed.  What needs a page is refused.
 */
void read_without_room(struct actor *a, const char *area, size_t first,
		       size_t count);

void churn(unsigned int rounds);

/*
 * The crowd: actors W0, W1, ... that act freely and all at once while ksmd runs
 * free, pages are reclaimed and migrated, and knobs are turned.  Between the
 * roams they stand still.
 */
struct crowd_plan {
	unsigned int processes;	/* to begin with; they fork and exit */
	size_t bytes;		/* of each of their two areas */
	uint64_t seed;
};

void gather_crowd(const struct crowd_plan *plan);
void roam(unsigned int ms);
/* For all pages of all of them. */
void crowd_verify(void);
void crowd_mergeable(void);
void crowd_exit(void);

/* ksmd on its leash again; and scans until three of them change nothing. */
void leash(void);
void settle(void);

/* Observations. */
void observe(const char *label);
void observe_slab(const char *label);
/* With what the whole of memory and KSM's slab caches hold. */
void observe_census(const char *label);

#endif

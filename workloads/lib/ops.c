// SPDX-License-Identifier: GPL-2.0-or-later
/* Operations on an actor's memory, each told before and after it is done. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor.h"
#include "failing.h"
#include "guest.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* Areas stand far apart, so that no two vmas merge or share an anon_vma. */
#define FIRST_ADDR 0x1000000000ul
#define AREA_SPACING 0x4000000ul	/* 64 MiB: an area and its gap */
#define ELSEWHERE 0x240000000ul	/* beyond the last area of the first place */
#define TABLE 0x200000ul		/* what one page table covers on most machines */

unsigned long next_base(void)
{
	static unsigned int turn;

	return FIRST_ADDR + (turn++ & 1) * ELSEWHERE;
}

size_t aim(struct actor *a, const char *name, size_t first, size_t count)
{
	struct area *area = find_area(a, name);

	if (count == ALL_PAGES)
		count = area->npages - first;
	if (first + count > area->npages)
		fail("area", ERANGE, "%s.%s has %zu pages", a->name, name,
		     area->npages);
	j_str("actor", a->name);
	j_str("area", name);
	j_int("first", first);
	j_int("count", count);
	a->slot->addr = area->addr + first * page_size();
	a->slot->bytes = count * page_size();
	return count;
}

struct area *new_area(struct actor *a, const char *name, size_t npages)
{
	struct area *area = &a->areas[a->nareas];

	if (a->nareas == MAX_AREAS)
		fail("area", ENOSPC, "%s has %d areas", a->name, MAX_AREAS);
	snprintf(area->name, sizeof(area->name), "%s", name);
	area->npages = npages;
	area->addr = a->base + a->nareas * AREA_SPACING;
	/* The smaller ones lie across two page tables. */
	if (npages * page_size() < TABLE)
		area->addr += TABLE - npages / 2 * page_size();
	area->keep = need(area->npages, 1);
	a->nareas++;
	return area;
}

void map_area(struct actor *a, const char *name, size_t bytes)
{
	struct area *area = new_area(a, name, pages(bytes));

	op_begin("map");
	j_str("actor", a->name);
	j_str("area", name);
	j_hex("addr", area->addr);
	j_int("bytes", area->npages * page_size());
	op_go();
	a->slot->addr = area->addr;
	a->slot->bytes = area->npages * page_size();
	must(a, REQ_MAP, "mmap");
	op_done();
}

static void store(const char *op, struct actor *a, const char *area,
		  size_t first, size_t count, uint64_t tag, uint64_t step)
{
	op_begin(op);
	aim(a, area, first, count);
	j_int("tag", tag);
	j_int("step", step);
	op_go();
	a->slot->tag = tag;
	a->slot->step = step;
	must(a, REQ_FILL, op);
	op_done();
}

void fill(struct actor *a, const char *area, size_t first, size_t count,
	  uint64_t tag, uint64_t step)
{
	store("fill", a, area, first, count, tag, step);
}

void write_pages(struct actor *a, const char *area, size_t first,
		 size_t count, uint64_t tag, uint64_t step)
{
	store("write", a, area, first, count, tag, step);
}

/*
 * Before 2.6.39 nobody may write there, and since 6.12 none but a debugger by force,
 * if the kernel is configured so (PROC_MEM_FORCE_PTRACE).
 */
static bool takes_force(void)
{
	char *page = mmap(NULL, page_size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/mem", O_WRONLY | O_CLOEXEC);
	bool taken = false;

	if (page != MAP_FAILED && fd >= 0)
		taken = pwrite(fd, "x", 1, (unsigned long)page) == 1;
	if (fd >= 0)
		close(fd);
	if (page != MAP_FAILED)
		munmap(page, page_size());
	return taken;
}

static int open_memory(const struct actor *a)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", a->pid);
	return open(path, O_WRONLY | O_CLOEXEC);
}

void force_pages(struct actor *a, const char *area, size_t first, size_t count,
		 uint64_t tag, uint64_t step)
{
	const size_t size = page_size();
	uint64_t *page;
	int fd;

	if (!takes_force()) {
		note("no writing by force to /proc/PID/mem here");
		return;
	}
	page = need(1, size);
	fd = open_memory(a);
	if (fd < 0)
		fail("force_pages", errno, "/proc/PID/mem of %s", a->name);
	op_begin("write");
	count = aim(a, area, first, count);
	j_int("tag", tag);
	j_int("step", step);
	j_bool("force", true);
	op_go();
	for (size_t i = 0; i < count; i++) {
		fill_page(page, tag + i * step);
		if (pwrite(fd, page, size, a->slot->addr + i * size) != (ssize_t)size)
			refused("write", errno, "to /proc/PID/mem of %s", a->name);
	}
	op_done();
	close(fd);
	free(page);
}

void map_filled(struct actor *a, const char *area, size_t bytes, uint64_t tag)
{
	map_area(a, area, bytes);
	fill(a, area, 0, ALL_PAGES, tag, 1);
}

struct actor *spawn_filled(const char *name, size_t bytes, uint64_t tag)
{
	struct actor *a = spawn(name);

	map_filled(a, "a", bytes, tag);
	return a;
}

void merge_pair(struct actor **p1, struct actor **p2, size_t bytes)
{
	*p1 = spawn_filled("P1", bytes, 1);
	*p2 = spawn_filled("P2", bytes, 1);
	mergeable(*p1, "a", 0, ALL_PAGES);
	mergeable(*p2, "a", 0, ALL_PAGES);
	scan(2);
}

/* An operation on pages that has neither more arguments nor results. */
static void simple(const char *op, enum request request, int advice,
		   struct actor *a, const char *area, size_t first, size_t count)
{
	op_begin(op);
	aim(a, area, first, count);
	op_go();
	a->slot->advice = advice;
	must(a, request, op);
	op_done();
}

void read_pages(struct actor *a, const char *area, size_t first, size_t count)
{
	simple("read", REQ_READ, 0, a, area, first, count);
}

static long do_grab(struct slot *s)
{
	for (size_t at = 0; at < s->bytes; at += page_size())
		if (syscall(SYS_futex, s->addr + at, FUTEX_WAKE, 1, NULL, NULL, 0) < 0)
			return -1;
	return 0;
}

void grab_pages(struct actor *a, const char *area, size_t first, size_t count)
{
	op_begin("grab");
	aim(a, area, first, count);
	op_go();
	if (ask_call(a, do_grab) < 0)
		refused("futex", a->slot->error, "in %s", a->name);
	op_done();
}

void mergeable(struct actor *a, const char *area, size_t first, size_t count)
{
	simple("mergeable", REQ_MADVISE, MADV_MERGEABLE, a, area, first, count);
}

void unmergeable(struct actor *a, const char *area, size_t first, size_t count)
{
	simple("unmergeable", REQ_MADVISE, MADV_UNMERGEABLE, a, area, first, count);
}

void pageout(struct actor *a, const char *area, size_t first, size_t count)
{
	/* Of no bytes: does this kernel know it? */
	if (madvise(NULL, 0, MADV_PAGEOUT) < 0 && errno == EINVAL)
		skip("no MADV_PAGEOUT (kernel before 5.4)");
	simple("pageout", REQ_MADVISE, MADV_PAGEOUT, a, area, first, count);
}

bool lazy_free(struct actor *a, const char *area, size_t first, size_t count)
{
	if (madvise(NULL, 0, MADV_FREE) < 0 && errno == EINVAL) {
		note("no MADV_FREE here (kernel before 4.5)");
		return false;
	}
	simple("lazyfree", REQ_MADVISE, MADV_FREE, a, area, first, count);
	return true;
}

void unmap_pages(struct actor *a, const char *area, size_t first, size_t count)
{
	simple("munmap", REQ_MUNMAP, 0, a, area, first, count);
}

void unlock_pages(struct actor *a, const char *area, size_t first, size_t count)
{
	simple("munlock", REQ_MUNLOCK, 0, a, area, first, count);
}

#define PIPE_PAGES 16

/* How many pages a pipe can hold (F_SETPIPE_SZ came with 2.6.35). */
static bool pipes_grow(void)
{
	int ends[2];
	bool yes;

	if (pipe2(ends, O_CLOEXEC) < 0)
		fail("pipe2", errno, "a pipe's room");
	yes = fcntl(ends[1], F_SETPIPE_SZ, (int)(2 * PIPE_PAGES * page_size())) >= 0;
	close(ends[0]);
	close(ends[1]);
	return yes;
}

void pin(struct actor *a, const char *area, size_t first, size_t count)
{
	size_t npages = find_area(a, area)->npages - first;

	npages = count < npages ? count : npages;
	if (a->pinned + npages > PIPE_PAGES && !pipes_grow())
		skip("a pipe holds 16 pages, which is too few to pin (kernel before 2.6.35)");
	simple("pin", REQ_PIN, 0, a, area, first, count);
	a->pinned += a->slot->bytes / page_size();
}

void unpin(struct actor *a)
{
	op_begin("unpin");
	j_str("actor", a->name);
	op_go();
	must(a, REQ_UNPIN, "unpin");
	a->pinned = 0;
	op_done();
}

void protect(struct actor *a, const char *area, size_t first, size_t count,
	     const char *prot)
{
	int bits = PROT_NONE;

	if (strchr(prot, 'r'))
		bits |= PROT_READ;
	if (strchr(prot, 'w'))
		bits |= PROT_WRITE;
	if (strchr(prot, 'x'))
		bits |= PROT_EXEC;
	op_begin("mprotect");
	aim(a, area, first, count);
	j_str("prot", prot);
	op_go();
	a->slot->advice = strcmp(prot, "none") ? bits : PROT_NONE;
	must(a, REQ_MPROTECT, "mprotect");
	op_done();
}

void lock_pages(struct actor *a, const char *area, size_t first, size_t count,
		bool onfault)
{
	op_begin("mlock");
	aim(a, area, first, count);
	j_bool("onfault", onfault);
	op_go();
	if (onfault && syscall(SYS_mlock2, 0, 0, MLOCK_ONFAULT) < 0 && errno == ENOSYS)
		skip("no mlock2, to lock pages without writing to them (kernel before 4.4)");
	a->slot->advice = onfault ? MLOCK_ONFAULT : 0;
	must(a, REQ_MLOCK, "mlock2");
	op_done();
}

void verify(struct actor *a, const char *area, size_t first, size_t count)
{
	struct slot *s = a->slot;

	op_begin("verify");
	aim(a, area, first, count);
	if (s->failing)
		j_failing(PAGES, s->failing);
	op_go();
	must(a, REQ_VERIFY, "verify");
	ret_begin(0, 0);
	if (s->failing)
		j_bool("failed", s->failed);
	j_open("contents", '[');
	for (size_t i = 0; i < s->nruns; i++) {
		j_open(NULL, '[');
		j_int(NULL, s->runs[i].count);
		j_int(NULL, s->runs[i].tag);
		j_int(NULL, s->runs[i].step);
		j_close(']');
	}
	j_close(']');
	ret_end();
}

/* Slab objects are taken and given back by processes that are no actors. */
void churn(unsigned int rounds)
{
	op_begin("churn");
	j_int("rounds", rounds);
	op_go();
	for (unsigned int i = 0; i < rounds; i++) {
		int status;
		pid_t pid = fork();

		if (pid < 0)
			refused("fork", errno, "churn round %u", i);
		if (!pid) {
			/* Every second page a vma and an anon_vma of its own. */
			size_t size = page_size();
			char *p = mmap(NULL, 32 * size, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (p == MAP_FAILED)
				_exit(1);
			for (int k = 0; k < 32; k += 2) {
				mprotect(p + (k + 1) * size, size, PROT_NONE);
				p[k * size] = i;
			}
			_exit(0);
		}
		if (waitpid(pid, &status, 0) != pid || status)
			fail("waitpid", errno, "churn: status %#x", status);
	}
	op_done();
}

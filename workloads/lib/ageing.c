// SPDX-License-Identifier: GPL-2.0-or-later
/* Reference bits of ptes: cleared, set by a touch, and asked for by idle page tracking. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "observe.h"

#define BITMAP "/sys/kernel/mm/page_idle/bitmap"

/*
 * Where an architecture clears a young bit without flushing the TLB (x86:
 * ptep_clear_flush_young), the next access may not set it again.  Writing 4,
 * for soft-dirty bits, is followed by a flush of the whole mm in any
 * configuration (fs/proc/task_mmu.c: clear_refs_write).
 */
static void flush_tlb(struct actor *a)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", a->pid);
	if (write_file(path, "4") == 0)
		return;
	if (errno == EINVAL)
		skip("clear_refs takes no 4, which flushes a TLB for sure (kernel before 3.11)");
	fail("clear_refs", errno, "flushing the TLB of %s", a->name);
}

void clear_refs(struct actor *a)
{
	char path[64];

	op_begin("clear_refs");
	j_str("actor", a->name);
	op_go();
	snprintf(path, sizeof(path), "/proc/%d/clear_refs", a->pid);
	if (write_file(path, "1") < 0)
		fail("clear_refs", errno, "of %s", a->name);
	op_done();
}

void touch_pages(struct actor *a, const char *area, size_t first, size_t count)
{
	op_begin("touch");
	aim(a, area, first, count);
	op_go();
	flush_tlb(a);
	must(a, REQ_READ, "touch");
	op_done();
}

void putback(struct actor *a, const char *area, size_t first, size_t count)
{
	op_begin("putback");
	aim(a, area, first, count);
	op_go();
	must(a, REQ_PUTBACK, "putback");
	if ((size_t)a->slot->rc != a->slot->bytes / page_size())
		refused("putback", 0, "%ld of %zu pages were put back",
			a->slot->rc, a->slot->bytes / page_size());
	op_done();
}

/* The bitmap is an array of native 64-bit words, a bit for each page frame. */
static int open_bitmap(int how)
{
	int fd = open(BITMAP, how | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		skip("no idle page tracking in this kernel");
	if (fd < 0)
		fail("open", errno, BITMAP);
	return fd;
}

static uint64_t frame_of(struct actor *a, unsigned long addr)
{
	struct area one = { .addr = addr, .npages = 1 };
	uint64_t entry;

	read_pagemap(a, &one, &entry);
	if (!(entry & PM_PRESENT))
		fail("idle", EFAULT, "%s has nothing at %#lx", a->name, addr);
	return entry & PM_VALUE;
}

bool has_idle_tracking(void)
{
	return access(BITMAP, W_OK) == 0;
}

void idle_set(struct actor *a, const char *area, size_t first, size_t count)
{
	int fd = open_bitmap(O_WRONLY);

	op_begin("idle_set");
	aim(a, area, first, count);
	op_go();
	for (size_t at = 0; at < a->slot->bytes; at += page_size()) {
		uint64_t pfn = frame_of(a, a->slot->addr + at);
		uint64_t word = 1ull << pfn % 64;

		if (pwrite(fd, &word, 8, pfn / 64 * 8) != 8)
			fail("pwrite", errno, BITMAP);
	}
	op_done();
	close(fd);
}

void idle_read(struct actor *a, const char *area, size_t first, size_t count)
{
	int fd = open_bitmap(O_RDONLY), last = -1;
	size_t run = 0;

	op_begin("idle_read");
	aim(a, area, first, count);
	op_go();
	ret_begin(0, 0);
	j_open("idle", '[');
	for (size_t at = 0; at <= a->slot->bytes; at += page_size()) {
		int idle = -1;

		if (at < a->slot->bytes) {
			uint64_t pfn = frame_of(a, a->slot->addr + at), word;

			if (pread(fd, &word, 8, pfn / 64 * 8) != 8)
				fail("pread", errno, BITMAP);
			idle = word >> pfn % 64 & 1;
		}
		if (run && idle != last) {
			j_open(NULL, '[');
			j_int(NULL, run);
			j_int(NULL, last);
			j_close(']');
			run = 0;
		}
		last = idle;
		run++;
	}
	j_close(']');
	ret_end();
	close(fd);
}

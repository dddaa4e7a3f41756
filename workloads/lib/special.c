// SPDX-License-Identifier: GPL-2.0-or-later
/* Mappings that ksmd leaves alone, huge pages, and a process that is merged as a whole. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "actor.h"
#include "failing.h"
#include "guest.h"


#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif
#ifndef PR_GET_MEMORY_MERGE
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

static long do_map_shared(struct slot *s)
{
	void *at = (void *)s->addr;

	return mmap(at, s->bytes, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		    -1, 0) == at ? 0 : -1;
}

void map_shared(struct actor *a, const char *name, size_t bytes)
{
	struct area *area = new_area(a, name, pages(bytes));

	op_begin("map");
	j_str("actor", a->name);
	j_str("area", name);
	j_hex("addr", area->addr);
	j_int("bytes", area->npages * page_size());
	j_bool("shared", true);
	op_go();
	a->slot->addr = area->addr;
	a->slot->bytes = area->npages * page_size();
	if (ask_call(a, do_map_shared) < 0)
		refused("mmap", a->slot->error, "shared, in %s", a->name);
	op_done();
}

/* A mapping's line of smaps or maps: "start-end perms offset dev inode name". */
static bool vma_line(const char *line, unsigned long *start, unsigned long *end)
{
	unsigned long from, to;

	/* "AnonHugePages: ..." begins with a hexadecimal number as well. */
	if (sscanf(line, "%lx-%lx ", &from, &to) != 2)
		return false;
	*start = from;
	*end = to;
	return true;
}

/* The kernel's own pages that every process has mapped: VM_PFNMAP, VM_IO. */
static bool find_vvar(struct slot *s)
{
	static char text[16384];
	char *line, *save = NULL;

	if (read_file("/proc/self/maps", text, sizeof(text)) <= 0)
		return false;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		unsigned long start, end;

		if (!strstr(line, "[vvar]") || !vma_line(line, &start, &end))
			continue;
		s->addr = start;
		s->bytes = end - start;
		return true;
	}
	return false;
}

/* A file that is shared, and cannot be written: VM_MAYSHARE without VM_SHARED. */
static bool map_file(struct slot *s)
{
	char path[32];
	int fd = memfd_create("file", 0), again;

	if (fd < 0 || ftruncate(fd, page_size()) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	s->bytes = page_size();
	s->addr = (unsigned long)mmap(NULL, s->bytes, PROT_READ, MAP_SHARED, again, 0);
	close(again);
	return (void *)s->addr != MAP_FAILED;
}

/* Memory that may be gone when it is looked at again (6.11). */
static bool map_droppable(struct slot *s)
{
	s->bytes = page_size();
	s->addr = (unsigned long)mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
				      MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	return (void *)s->addr != MAP_FAILED;
}

/* What a process gets with brk() comes another way than by mmap(). */
static bool grow_heap(struct slot *s)
{
	const size_t size = page_size();

	s->bytes = size;
	s->addr = ((unsigned long)sbrk(2 * size) + size - 1) & -size;
	return s->addr != 0;
}

static const struct strange {
	const char *name;
	bool (*make)(struct slot *s);
	bool advised;
} strange[] = {
	{ "vvar", find_vvar, true },
	{ "file", map_file, true },
	{ "droppable", map_droppable, true },
	{ "heap", grow_heap, false },
};

static long do_make_strange(struct slot *s)
{
	return strange[s->more[0]].make(s);
}

static long do_advise_mergeable(struct slot *s)
{
	return madvise((void *)s->addr, s->bytes, MADV_MERGEABLE);
}

/* What smaps says of the vmas in a range, added up. */
struct smaps {
	size_t mergeable;	/* pages in vmas with VM_MERGEABLE */
	long long ksm_kb;	/* -1: no such line */
};

static struct smaps read_smaps(pid_t pid, unsigned long start, unsigned long end)
{
	struct smaps result = { .ksm_kb = -1 };
	unsigned long vma_start = 0, vma_end = 0, from, to;
	char path[64], line[512];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	file = fopen(path, "re");
	if (!file)
		fail("smaps", errno, "%s", path);
	while (fgets(line, sizeof(line), file)) {
		if (vma_line(line, &vma_start, &vma_end))
			continue;
		from = vma_start > start ? vma_start : start;
		to = vma_end < end ? vma_end : end;
		if (from >= to)
			continue;
		if (!strncmp(line, "KSM:", 4)) {
			if (result.ksm_kb < 0)
				result.ksm_kb = 0;
			result.ksm_kb += strtoll(line + 4, NULL, 10);
		} else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " mg")) {
			result.mergeable += (to - from) / page_size();
		}
	}
	fclose(file);
	return result;
}

/* Does this kernel tell of a vma's flags at all? */
static bool has_flags(void)
{
	char text[4096];	/* the first vma's lines */

	return read_file("/proc/self/smaps", text, sizeof(text)) > 0 &&
		strstr(text, "VmFlags:");
}

void advise_strange(struct actor *a, const char *name)
{
	const size_t kinds = sizeof(strange) / sizeof(strange[0]);
	struct slot *s = a->slot;
	struct smaps seen;
	size_t i = 0;

	while (i < kinds && strcmp(strange[i].name, name))
		i++;
	if (i == kinds)
		fail("strange", EINVAL, "no %s", name);
	s->more[0] = i;
	/* powerpc has the page of [vvar] in its [vdso] before 5.12 (arch/powerpc/kernel/vdso.c). */
	if (!has_flags() || ask_call(a, do_make_strange) <= 0) {
		note("no %s here", name);
		return;
	}
	op_begin("strange");
	j_str("actor", a->name);
	j_str("mapping", name);
	op_go();
	if (strange[i].advised && ask_call(a, do_advise_mergeable) < 0)
		refused("madvise", s->error, "of %s, in %s", name, a->name);
	seen = read_smaps(a->pid, s->addr, s->addr + s->bytes);
	ret_begin(0, 0);
	j_int("pages", s->bytes / page_size());
	j_int("mergeable", seen.mergeable);
	ret_end();
}

void look_at_vmas(struct actor *a, const char *name)
{
	struct area *area = find_area(a, name);
	struct smaps seen;

	if (!has_flags()) {
		note("smaps has no VmFlags (kernel before 3.8)");
		return;
	}
	op_begin("smaps");
	j_str("actor", a->name);
	j_str("area", name);
	op_go();
	seen = read_smaps(a->pid, area->addr, area->addr + area->npages * page_size());
	ret_begin(0, 0);
	j_int("mergeable", seen.mergeable);
	if (seen.ksm_kb < 0)
		j_null("ksm");
	else
		j_int("ksm", seen.ksm_kb * 1024 / page_size());
	ret_end();
}

size_t huge_size(void)
{
	return read_number(THP_DIR "/hpage_pmd_size", 0);
}

bool room_for(size_t bytes)
{
	return meminfo_kb("MemAvailable") / 2 >= (long long)(bytes >> 10);
}

/* Disallowed again, they are as they were before: one of the words is in brackets. */
void allow_huge(bool allowed)
{
	static char before[64] = "never";
	char text[128], *word;

	op_begin("thp");
	j_bool("allowed", allowed);
	op_go();
	if (allowed && read_file(THP_DIR "/enabled", text, sizeof(text)) > 0 &&
	    (word = strchr(text, '[')))
		snprintf(before, sizeof(before), "%.*s", (int)strcspn(word + 1, "]"),
			 word + 1);
	if (write_file(THP_DIR "/enabled", allowed ? "madvise" : before) < 0)
		fail("transparent_hugepage", errno, "%d", allowed);
	op_done();
}

static long do_want_huge(struct slot *s)
{
	return madvise((void *)s->addr, s->bytes, MADV_HUGEPAGE);
}

void want_huge(struct actor *a, const char *area, size_t first, size_t count)
{
	op_begin("hugepage");
	aim(a, area, first, count);
	j_int("pages", huge_size() / page_size());
	op_go();
	if (ask_call(a, do_want_huge) < 0)
		refused("madvise", a->slot->error, "MADV_HUGEPAGE in %s", a->name);
	op_done();
}

static long do_collapse(struct slot *s)
{
	return madvise((void *)s->addr, s->bytes, MADV_COLLAPSE);
}

/* There may be no huge page to be had, or somebody holds one of the small ones. */
bool collapse(struct actor *a, const char *area)
{
	long rc;

	op_begin("collapse");
	aim(a, area, 0, ALL_PAGES);
	op_go();
	rc = ask_call(a, do_collapse);
	ret_begin(0, 0);
	j_str("error", errno_name(rc < 0 ? a->slot->error : 0));
	ret_end();
	return rc >= 0;
}

static long do_merge_any(struct slot *s)
{
	return prctl(PR_SET_MEMORY_MERGE, s->more[0], 0, 0, 0);
}

static long do_tell_merge_any(struct slot *s)
{
	(void)s;
	return prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0);
}

static bool set_merge_any(struct actor *a, bool on, unsigned int failing)
{
	struct slot *s = a->slot;
	bool failed;
	int error;
	long rc;

	if (failing)
		choose_failing(PAGES);
	op_begin("merge_any");
	j_str("actor", a->name);
	j_bool("on", on);
	if (failing)
		j_failing(PAGES, failing);
	op_go();
	s->more[0] = on;
	s->failing = failing;
	ask_call(a, do_merge_any);
	s->failing = 0;
	rc = s->rc;
	error = s->error;
	failed = failing && s->failed;
	if (rc >= 0 || failed)
		ask_call(a, do_tell_merge_any);
	ret_begin(rc, error);
	if (failing)
		j_bool("failed", failed);
	if (rc >= 0 || failed)
		j_int("told", s->rc);
	ret_end();
	return rc >= 0;
}

bool merge_any(struct actor *a, bool on)
{
	return set_merge_any(a, on, 0);
}

bool merge_none_failing(struct actor *a, unsigned int n)
{
	return set_merge_any(a, false, n);
}

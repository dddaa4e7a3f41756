// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Allocations that fail, by the kernel's fault injection (its
 * Documentation/fault-injection/fault-injection.rst): a task's fail-nth counts
 * its allocations of the kinds that failslab and fail_page_alloc do not ignore.
 * With cache-filter failslab looks only at the caches that slub_debug has marked
 * ("A"), which are KSM's own and that of anon_vmas.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor.h"
#include "failing.h"
#include "guest.h"

#define DEBUGFS "/sys/kernel/debug"
#define SLABS DEBUGFS "/failslab"
#define PAGE_ALLOC DEBUGFS "/fail_page_alloc"
#define NO_ORDER "64"		/* that no allocation has */
#define PLENTY 1000000		/* failures */
#define MOST_FORKS 2000

static int armed = -1;		/* fail-nth of the task */

static const char *const names[] = {
	[KSM_OBJECTS] = "ksm", [PAGES] = "pages",
	[ATOMIC_PAGES] = "atomic pages", [EVERYTHING] = "everything",
};

/* Nothing is allocated between the write here and what follows. */
void arm(pid_t pid, unsigned int n)
{
	char path[64], text[16];
	int len;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/fail-nth", pid);
	else
		strcpy(path, "/proc/self/fail-nth");
	len = snprintf(text, sizeof(text), "%u", n);
	armed = open(path, O_RDWR | O_CLOEXEC);
	if (armed < 0 || write(armed, text, len) != len)
		_exit(5);
}

bool disarm(void)
{
	char left[16] = "";
	ssize_t n = pread(armed, left, sizeof(left) - 1, 0);

	if (pwrite(armed, "0", 1, 0) != 1 || n <= 0)
		_exit(5);
	close(armed);
	armed = -1;
	return left[0] == '0';
}

void forget_armed(void)
{
	if (armed >= 0)
		close(armed);
	armed = -1;
}

static void set(const char *dir, const char *file, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	if (write_file(path, value) < 0)
		fail("fault injection", errno, "writing %s to %s", value, path);
}

static bool marked(const char *cache)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/failslab", cache);
	return read_number(path, 0) == 1;
}

void need_failing(void)
{
	if (access("/proc/self/fail-nth", W_OK))
		skip("no fault injection (CONFIG_FAULT_INJECTION)");
	if (mount("debugfs", DEBUGFS, "debugfs", 0, NULL) < 0 && errno != EBUSY)
		skip("no debugfs, which fault injection is told by");
	if (access(SLABS, X_OK) || access(PAGE_ALLOC, X_OK))
		skip("no failslab or no fail_page_alloc (CONFIG_FAULT_INJECTION_DEBUG_FS)");
	if (!marked("ksm_rmap_item") || !marked("ksm_stable_node") || !marked("ksm_mm_slot"))
		skip("KSM's slab caches are not marked for failslab (slub_debug=A,ksm_*)");
	set(SLABS, "verbose", "0");
	set(PAGE_ALLOC, "verbose", "0");
	set(PAGE_ALLOC, "task-filter", "Y");
}

void choose_failing(enum failing what)
{
	bool slabs = what == KSM_OBJECTS || what == EVERYTHING;

	set(SLABS, "ignore-gfp-wait", slabs ? "N" : "Y");
	set(SLABS, "cache-filter", what == EVERYTHING ? "N" : "Y");
	set(PAGE_ALLOC, "ignore-gfp-wait", what == ATOMIC_PAGES ? "Y" : "N");
	set(PAGE_ALLOC, "ignore-gfp-highmem", "N");
	set(PAGE_ALLOC, "min-order", what == KSM_OBJECTS ? NO_ORDER : "0");
}

void j_failing(enum failing what, unsigned int n)
{
	j_str("kinds", names[what]);
	j_int("failing", n);
}

void refuse_all(void)
{
	char text[16];

	choose_failing(ATOMIC_PAGES);
	snprintf(text, sizeof(text), "%d", PLENTY);
	set(PAGE_ALLOC, "times", text);
	set(PAGE_ALLOC, "probability", "100");
	set("/proc/self", "make-it-fail", "1");
}

unsigned int allow_all(void)
{
	set("/proc/self", "make-it-fail", "0");
	set(PAGE_ALLOC, "probability", "0");
	return PLENTY - read_number(PAGE_ALLOC "/times", PLENTY);
}

/* Let the actor do it with its n-th allocation failing; true if it was done. */
static bool attempt(struct actor *a, enum request request, const char *what,
		    unsigned int n)
{
	struct slot *s = a->slot;
	long rc;

	s->failing = n;
	rc = ask(a, request);
	s->failing = 0;
	if (rc < 0 && !s->failed)
		refused(what, s->error, "in %s", a->name);
	return rc >= 0;
}

static void attempted(const struct slot *s)
{
	ret_begin(s->rc, s->error);
	j_bool("failed", s->failed);
}

static bool advise(const char *op, int advice, enum failing what,
		   struct actor *a, const char *area, size_t first, size_t count,
		   unsigned int n)
{
	bool done;

	choose_failing(what);
	op_begin(op);
	aim(a, area, first, count);
	j_failing(what, n);
	op_go();
	a->slot->advice = advice;
	done = attempt(a, REQ_MADVISE, op, n);
	attempted(a->slot);
	ret_end();
	return done;
}

bool mergeable_failing(struct actor *a, const char *area, size_t first,
		       size_t count, unsigned int n)
{
	return advise("mergeable", MADV_MERGEABLE, KSM_OBJECTS, a, area, first, count, n);
}

bool unmergeable_failing(struct actor *a, const char *area, size_t first,
			 size_t count, unsigned int n)
{
	return advise("unmergeable", MADV_UNMERGEABLE, PAGES, a, area, first, count, n);
}

struct actor *fork_failing(struct actor *parent, const char *name, unsigned int n)
{
	struct actor *child = new_actor(name);
	bool done;

	choose_failing(KSM_OBJECTS);
	op_begin("fork");
	j_str("actor", parent->name);
	j_str("child", name);
	j_failing(KSM_OBJECTS, n);
	op_go();
	parent->slot->child = child->slot;
	done = attempt(parent, REQ_FORK, "fork", n);
	if (done)
		take_child(child, parent);
	else
		child->alive = false;
	attempted(parent->slot);
	if (done)
		j_int("pid", child->pid);
	ret_end();
	return done ? child : NULL;
}

/* Forks whose children exit at once, until none of a fork's allocations fails. */
static long do_failing_forks(struct slot *s)
{
	for (unsigned int n = 1; n < MOST_FORKS; n++) {
		int error, status;
		bool failed;
		pid_t pid;

		arm(0, n);
		pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!pid)
			_exit(0);
		error = errno;
		failed = disarm();
		if (pid > 0 && (waitpid(pid, &status, 0) != pid || status))
			return -1;
		s->more[0] = n;
		errno = error;
		if (pid < 0 && (!failed || (error != ENOMEM && error != EAGAIN)))
			return -1;
		if (!failed)
			return 0;
	}
	errno = ELOOP;
	return -1;
}

void failing_forks(struct actor *parent)
{
	choose_failing(EVERYTHING);
	op_begin("failing_forks");
	j_str("actor", parent->name);
	op_go();
	if (ask_call(parent, do_failing_forks) < 0)
		refused("fork", parent->slot->error, "with its allocation %lu failing",
			parent->slot->more[0]);
	ret_begin(0, 0);
	j_int("forks", parent->slot->more[0]);
	ret_end();
}

void verify_failing(struct actor *a, const char *area, size_t first,
		    size_t count, unsigned int n)
{
	choose_failing(PAGES);
	a->slot->failing = n;
	verify(a, area, first, count);
	a->slot->failing = 0;
}

/*
 * The buffer of a write to sysfs is what a write before it has given back, so
 * that pages are all that is allocated.
 */
bool unmerge_all_failing(unsigned int n)
{
	int fd, error;
	bool failed;

	choose_failing(PAGES);
	op_begin("run");
	j_str("value", "2");
	j_failing(PAGES, n);
	op_go();
	fd = open(KSM_DIR "/run", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || pwrite(fd, "1", 1, 0) != 1)
		refused("run", errno, "writing 1");
	arm(0, n);
	error = pwrite(fd, "2", 1, 0) < 0 ? errno : 0;
	failed = disarm();
	close(fd);
	if (error && !failed)
		refused("run", error, "writing 2");
	ret_begin(error ? -1 : 0, error);
	j_bool("failed", failed);
	ret_end();
	return !error;
}

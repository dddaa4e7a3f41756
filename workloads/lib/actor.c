// SPDX-License-Identifier: GPL-2.0-or-later
/* Actors: processes that sleep in a futex until the director asks for one act. */
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
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actor.h"
#include "failing.h"
#include "guest.h"
#include "memcg.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* How long an actor may take for one act before it is reported as stuck. */
#define ANSWER_SECONDS 30

struct actor actors[MAX_ACTORS];
size_t nactors;

static struct slot *slots;
static int slots_fd = -1;
static int pin_pipe[2] = { -1, -1 };

static long futex(uint32_t *word, int op, uint32_t value,
		  const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static long do_map(struct slot *s)
{
	void *at = mmap((void *)s->addr, s->bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return at == (void *)s->addr ? 0 : -1;
}

static void do_fill(struct slot *s)
{
	for (size_t at = 0; at < s->bytes; at += page_size()) {
		fill_page((uint64_t *)(s->addr + at), s->tag);
		s->tag += s->step;
	}
}

static void do_read(struct slot *s)
{
	for (size_t at = 0; at < s->bytes; at += page_size())
		(void)*(volatile char *)(s->addr + at);
}

/* A fork whose child the director reaps, as if it were its own. */
static long do_fork(struct slot *s)
{
	pid_t pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

	if (!pid)
		serve(s->child);
	s->child->pid = pid;
	return pid < 0 ? -1 : 0;
}

static long do_lock(struct slot *s)
{
	long rc = syscall(SYS_mlock2, s->addr, s->bytes, s->advice);

	if (rc < 0 && errno == ENOSYS && !s->advice)
		return mlock((void *)s->addr, s->bytes);
	return rc;
}

static long do_pin(struct slot *s)
{
	struct iovec iov = { (void *)s->addr, s->bytes };

	if (pin_pipe[0] < 0) {
		if (pipe2(pin_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
			return -1;
		/* Before 2.6.35 it has room for PIPE_PAGES: see pin(). */
		if (fcntl(pin_pipe[1], F_SETPIPE_SZ, 4 << 20) < 0 && errno != EINVAL)
			return -1;
	}
	while (iov.iov_len) {
		ssize_t n = vmsplice(pin_pipe[1], &iov, 1, SPLICE_F_NONBLOCK);

		if (n <= 0)
			return -1;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= n;
	}
	return 0;
}

static long do_unpin(void)
{
	static char sink[65536];
	ssize_t n;

	if (pin_pipe[0] < 0)
		return 0;
	do {
		n = read(pin_pipe[0], sink, sizeof(sink));
	} while (n > 0);
	return n < 0 && errno == EAGAIN ? 0 : n;
}

/* Take some memory and give it back. */
static long do_stir(size_t bytes)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -1;
	for (size_t at = 0; at < bytes; at += page_size())
		p[at] = 1;
	return munmap(p, bytes);
}

/* Of how many pages migration has failed since the kernel was booted. */
static long long failed_migrations(void)
{
	static char text[32768];

	if (read_file("/proc/vmstat", text, sizeof(text)) <= 0)
		return -1;
	return number_after(text, "\npgmigrate_fail ");
}

/*
 * How many pages were isolated and put back: soft offlining failed on them.  Before
 * 5.11 it ends with EIO where migration has failed, and where there was nothing that
 * it could have isolated (mm/memory-failure.c: __soft_offline_page, get_any_page).
 */
static long do_putback(struct slot *s)
{
	long count = 0;

	for (size_t at = 0; at < s->bytes; at += page_size()) {
		long long failed = failed_migrations();

		if (!madvise((void *)(s->addr + at), page_size(), MADV_SOFT_OFFLINE))
			continue;
		if (errno == EINVAL) {
			errno = EOPNOTSUPP;	/* without MEMORY_FAILURE */
			return -1;
		}
		count += errno == EBUSY || (errno == EIO && failed_migrations() > failed);
	}
	return count;
}

static long do_exec(struct slot *s)
{
	char fd[16], index[16];

	snprintf(fd, sizeof(fd), "%d", slots_fd);
	snprintf(index, sizeof(index), "%zu", (size_t)(s - slots));
	return execl("/init", "actor", fd, index, NULL);
}

static void perform(struct slot *s)
{
	switch (s->request) {
	case REQ_MAP:
		s->rc = do_map(s);
		break;
	case REQ_FILL:
		do_fill(s);
		break;
	case REQ_READ:
		do_read(s);
		break;
	case REQ_VERIFY:
		verify_pages(s);
		break;
	case REQ_MADVISE:
		s->rc = madvise((void *)s->addr, s->bytes, s->advice);
		break;
	case REQ_FORK:
		s->rc = do_fork(s);
		break;
	case REQ_EXIT:
		_exit(0);
	case REQ_EXEC:
		s->rc = do_exec(s);
		break;
	case REQ_MUNMAP:
		s->rc = munmap((void *)s->addr, s->bytes);
		break;
	case REQ_MPROTECT:
		s->rc = mprotect((void *)s->addr, s->bytes, s->advice);
		break;
	case REQ_MLOCK:
		s->rc = do_lock(s);
		break;
	case REQ_MUNLOCK:
		s->rc = munlock((void *)s->addr, s->bytes);
		break;
	case REQ_PIN:
		s->rc = do_pin(s);
		break;
	case REQ_UNPIN:
		s->rc = do_unpin();
		break;
	case REQ_STIR:
		s->rc = do_stir(s->bytes);
		break;
	case REQ_PUTBACK:
		s->rc = do_putback(s);
		break;
	case REQ_CALL:
		s->rc = s->call(s);
		break;
	case REQ_NONE:
		break;
	}
}

/* With an allocation that fails on the way. */
static void perform_failing(struct slot *s)
{
	int error;

	arm(0, s->failing);
	perform(s);
	error = errno;
	s->failed = disarm();
	errno = error;
}

static void act(struct slot *s)
{
	s->rc = 0;
	s->failed = false;
	errno = 0;
	bus_expected = 1;
	if (sigsetjmp(bus_return, 0)) {
		s->rc = -1;
		errno = EHWPOISON;
	} else if (s->failing) {
		perform_failing(s);
	} else {
		perform(s);
	}
	bus_expected = 0;
	s->error = s->rc < 0 ? errno : 0;
}

void serve(struct slot *s)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	forget_armed();
	catch_sigbus(s);
	for (;;) {
		uint32_t answered = __atomic_load_n(&s->answered, __ATOMIC_ACQUIRE);

		while (__atomic_load_n(&s->asked, __ATOMIC_ACQUIRE) == answered)
			futex(&s->asked, FUTEX_WAIT, answered, NULL);
		act(s);
		__atomic_store_n(&s->answered, answered + 1, __ATOMIC_RELEASE);
		futex(&s->answered, FUTEX_WAKE, 1, NULL);
	}
}

static void map_slots(void)
{
	slots = mmap(NULL, sizeof(*slots) * MAX_ACTORS, PROT_READ | PROT_WRITE,
		     MAP_SHARED, slots_fd, 0);
	if (slots == MAP_FAILED)
		_exit(4);
}

void serve_again(const char *fd, const char *index)
{
	struct slot *s;

	slots_fd = atoi(fd);
	map_slots();
	s = &slots[atoi(index)];
	s->rc = 0;
	s->error = 0;
	__atomic_store_n(&s->answered, s->asked, __ATOMIC_RELEASE);
	futex(&s->answered, FUTEX_WAKE, 1, NULL);
	serve(s);
}

void actors_init(void)
{
	sigset_t gone;

	sigemptyset(&gone);
	sigaddset(&gone, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &gone, NULL) < 0)
		_exit(4);
	/* A memfd, for an actor that executes itself anew keeps its slot. */
	slots_fd = memfd_create("slots", 0);
	if (slots_fd < 0 && errno == ENOSYS) {	/* before 3.17 */
		slots_fd = open("/slots", O_RDWR | O_CREAT | O_TRUNC, 0600);
		unlink("/slots");
	}
	if (slots_fd < 0 ||
	    ftruncate(slots_fd, sizeof(*slots) * MAX_ACTORS) < 0)
		_exit(4);
	map_slots();
}

struct actor *new_actor(const char *name)
{
	struct actor *a;

	for (size_t i = 0; i < nactors; i++)
		if (actors[i].alive && !strcmp(actors[i].name, name))
			fail("actor", EEXIST, "two actors named %s", name);
	for (a = actors; a < actors + nactors && (a->alive || !a->pid); a++)
		;
	if (a == actors + nactors && nactors++ == MAX_ACTORS)
		fail("actor", ENOSPC, "more than %d actors", MAX_ACTORS);
	a->slot = &slots[a - actors];
	snprintf(a->name, sizeof(a->name), "%s", name);
	a->nareas = 0;
	a->twin = 0;
	a->alive = true;
	a->slot->asked = a->slot->answered = 0;
	return a;
}

struct area *find_area(struct actor *a, const char *name)
{
	for (size_t i = 0; i < a->nareas; i++)
		if (!strcmp(a->areas[i].name, name))
			return &a->areas[i];
	fail("area", ENOENT, "%s has no area %s", a->name, name);
}

void wait_answer(struct actor *a)
{
	struct slot *s = a->slot;
	double deadline = monotonic_seconds() + patient(ANSWER_SECONDS);
	struct timespec slice = { .tv_nsec = 200000000 };
	uint32_t answered;

	while ((answered = __atomic_load_n(&s->answered, __ATOMIC_ACQUIRE)) !=
	       s->asked) {
		int status;

		futex(&s->answered, FUTEX_WAIT, answered, &slice);
		if (__atomic_load_n(&s->answered, __ATOMIC_ACQUIRE) == s->asked)
			break;
		if (waitpid(a->pid, &status, WNOHANG) == a->pid)
			perished(a, status);
		if (monotonic_seconds() > deadline)
			stuck(a->name, a->pid);
	}
}

void wake(struct actor *a, enum request request)
{
	a->slot->request = request;
	__atomic_store_n(&a->slot->asked, a->slot->asked + 1, __ATOMIC_RELEASE);
	futex(&a->slot->asked, FUTEX_WAKE, 1, NULL);
}

long ask(struct actor *a, enum request request)
{
	if (!a->alive)
		fail("actor", ESRCH, "%s has exited", a->name);
	wake(a, request);
	wait_answer(a);
	return a->slot->rc;
}

void must(struct actor *a, enum request request, const char *what)
{
	if (ask(a, request) < 0)
		refused(what, a->slot->error, "in %s", a->name);
}

long ask_call(struct actor *a, long (*call)(struct slot *))
{
	a->slot->call = call;
	return ask(a, REQ_CALL);
}

struct actor *spawn(const char *name)
{
	return spawn_in(name, MEMCG_NAME);
}

void start_actor(struct actor *a, const char *memcg)
{
	pid_t pid;

	op_begin("spawn");
	j_str("actor", a->name);
	j_str("memcg", memcg);
	op_go();
	pid = fork();
	if (!pid)
		serve(a->slot);
	if (pid < 0)
		refused("fork", errno, "spawning %s", a->name);
	a->pid = pid;
	a->base = next_base();
	join_memcg(a, memcg);
	must(a, REQ_NONE, "spawn");
	ret_begin(0, 0);
	j_int("pid", pid);
	ret_end();
}

struct actor *spawn_in(const char *name, const char *memcg)
{
	struct actor *a = new_actor(name);

	start_actor(a, memcg);
	return a;
}

static void copy_area(struct area *to, const struct area *from)
{
	*to = *from;
	to->keep = need(from->npages, 1);
}

void take_child(struct actor *a, const struct actor *parent)
{
	a->pid = a->slot->pid;
	a->base = parent->base;
	strcpy(a->memcg, parent->memcg);
	for (size_t i = 0; i < parent->nareas; i++)
		copy_area(&a->areas[i], &parent->areas[i]);
	a->nareas = parent->nareas;
	must(a, REQ_NONE, "fork");
}

struct actor *fork_actor(struct actor *parent, const char *child)
{
	struct actor *a = new_actor(child);

	op_begin("fork");
	j_str("actor", parent->name);
	j_str("child", child);
	op_go();
	parent->slot->child = a->slot;
	must(parent, REQ_FORK, "fork");
	take_child(a, parent);
	ret_begin(0, 0);
	j_int("pid", a->pid);
	ret_end();
	return a;
}

static void forget_areas(struct actor *a)
{
	for (size_t i = 0; i < a->nareas; i++)
		free(a->areas[i].keep);
	a->nareas = 0;
}

/* Until a child may have gone, or for a while; actors_init() has blocked the signal. */
static void wait_for_child(void)
{
	struct timespec slice = { .tv_nsec = 200000000 };
	sigset_t gone;

	sigemptyset(&gone);
	sigaddset(&gone, SIGCHLD);
	sigtimedwait(&gone, NULL, &slice);
}

void end_process(struct actor *a)
{
	double deadline = monotonic_seconds() + patient(ANSWER_SECONDS);
	int status = 0;
	pid_t reaped;

	wake(a, REQ_EXIT);
	while (!(reaped = waitpid(a->pid, &status, WNOHANG))) {
		if (monotonic_seconds() > deadline)
			stuck(a->name, a->pid);
		wait_for_child();
	}
	if (reaped < 0)
		fail("waitpid", errno, "%s (pid %d)", a->name, a->pid);
	if (status)
		perished(a, status);
}

void exit_actor(struct actor *a)
{
	op_begin("exit");
	j_str("actor", a->name);
	op_go();
	end_twin(a);
	end_process(a);
	a->alive = false;
	forget_areas(a);
	op_done();
}

void exec_actor(struct actor *a)
{
	op_begin("exec");
	j_str("actor", a->name);
	op_go();
	must(a, REQ_EXEC, "execve");
	forget_areas(a);
	op_done();
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two processes that share an mm (clone with CLONE_VM): mm_users is 2, and when
 * the first exits the mm lives on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actor.h"
#include "guest.h"

#define STACK (256 << 10)

/* Until the first has gone, which has the same errno, it does nothing. */
static int wait_for_turn(void *argument)
{
	struct slot *s = argument;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!__atomic_load_n(&s->turn, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &s->turn, FUTEX_WAIT, 0, NULL, NULL, 0);
	serve(s);
}

/* In turns, as one that was a twin itself stands on the other one. */
static long do_twin(struct slot *s)
{
	static char stacks[2][STACK] __attribute__((aligned(16)));
	static unsigned int turn;
	char *top = stacks[turn++ & 1] + STACK;

	s->pid = clone(wait_for_turn, top, CLONE_VM | CLONE_PARENT | SIGCHLD, s);
	return s->pid < 0 ? -1 : 0;
}

void twin(struct actor *a)
{
	op_begin("twin");
	j_str("actor", a->name);
	op_go();
	if (a->twin)
		fail("twin", EEXIST, "%s has one", a->name);
	a->slot->turn = 0;
	if (ask_call(a, do_twin) < 0)
		refused("clone", a->slot->error, "CLONE_VM in %s", a->name);
	a->twin = a->slot->pid;
	ret_begin(0, 0);
	j_int("pid", a->twin);
	ret_end();
}

void hand_over(struct actor *a)
{
	pid_t first = a->pid;

	op_begin("hand_over");
	j_str("actor", a->name);
	op_go();
	if (!a->twin)
		fail("twin", ENOENT, "%s has none", a->name);
	end_process(a);
	a->pid = a->twin;
	a->twin = 0;
	a->slot->answered = a->slot->asked;	/* it died of the request */
	__atomic_store_n(&a->slot->turn, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &a->slot->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
	must(a, REQ_NONE, "hand_over");
	ret_begin(0, 0);
	j_int("from", first);
	j_int("pid", a->pid);
	ret_end();
}

void end_twin(struct actor *a)
{
	if (!a->twin)
		return;
	kill(a->twin, SIGKILL);
	if (waitpid(a->twin, NULL, 0) != a->twin)
		fail("waitpid", errno, "the twin of %s", a->name);
	a->twin = 0;
}

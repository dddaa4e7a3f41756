// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One roamer: it does one deed after another on pages of its own, at random,
 * and keeps its book.  Contents come from few tags, so that ksmd finds equal
 * pages everywhere.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "roam.h"

#define TAGS 24			/* contents that all roamers use */
#define MOST_PAGES 16		/* of one deed */
#define HAMMER_BLOWS 64
#define SCRATCH 0x3000000000ul	/* where moved pages rest */

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

const char *const deed_names[DEEDS] = {
	"write", "verify", "read", "mergeable", "unmergeable", "remap",
	"dontneed", "pageout", "protect", "lock", "pin", "move", "fork",
	"fork_briefly", "leave", "pause", "hammer",
};

/* How often each is done, in parts of their sum. */
static const unsigned int weights[DEEDS] = {
	[WRITE] = 30, [VERIFY] = 16, [READ] = 8, [MERGEABLE] = 8,
	[UNMERGEABLE] = 3, [REMAP] = 2, [DONTNEED] = 2, [PAGEOUT] = 3,
	[PROTECT] = 2, [LOCK] = 1, [PIN] = 1, [MOVE] = 1, [FORK] = 4,
	[FORK_BRIEFLY] = 4, [LEAVE] = 3, [PAUSE] = 12, [HAMMER] = 6,
};

struct crowd *crowd;

/* Where a deed is done. */
struct place {
	struct roamer *me;
	struct book *book;
	int area;
	size_t first, count;
	char *start;
	size_t bytes;
};

uint32_t dice(uint64_t *state, uint32_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state >> 32) % below;
}

static struct place somewhere(struct roamer *me)
{
	struct place p = { .me = me };

	p.area = dice(&me->dice, ROAM_AREAS);
	p.book = &me->books[p.area];
	p.first = dice(&me->dice, crowd->npages);
	p.count = 1 + dice(&me->dice, MOST_PAGES);
	if (p.count > crowd->npages - p.first)
		p.count = crowd->npages - p.first;
	p.start = (char *)p.book->addr + p.first * page_size();
	p.bytes = p.count * page_size();
	return p;
}

/* Mostly a content that others have too; at times one of its own. */
static uint64_t some_tag(struct roamer *me)
{
	if (dice(&me->dice, 8))
		return 1 + dice(&me->dice, TAGS);
	return ((uint64_t)getpid() << 16) + dice(&me->dice, 1 << 16);
}

static void write_some(struct place *p)
{
	bool same = dice(&p->me->dice, 2);
	uint64_t tag = some_tag(p->me);

	for (size_t i = 0; i < p->count; i++) {
		if (!same)
			tag = some_tag(p->me);
		fill_page((uint64_t *)(p->start + i * page_size()), tag);
		p->book->tag[p->first + i] = tag;
	}
}

static void verify_against(const struct place *p, const uint64_t *tags)
{
	for (size_t i = 0; i < p->count; i++) {
		uint64_t expected = tags[i];
		int64_t found = page_content((uint64_t *)(p->start + i * page_size()));
		uint32_t n;

		if (found == (int64_t)expected)
			continue;
		n = __atomic_fetch_add(&p->me->wrongs, 1, __ATOMIC_RELAXED);
		if (n < MAX_WRONG)
			p->me->wrong[n] = (struct wrong){
				p->area, p->first + i, expected, found,
			};
	}
}

static void verify_some(const struct place *p)
{
	verify_against(p, p->book->tag + p->first);
}

/*
 * One page gets one content after another that others have too, so that ksmd
 * is likely to be about to merge it when the next write comes.
 */
static void hammer(struct place *p)
{
	p->count = 1;
	for (int i = 0; i < HAMMER_BLOWS; i++) {
		uint64_t tag = 1 + dice(&p->me->dice, TAGS);

		fill_page((uint64_t *)p->start, tag);
		p->book->tag[p->first] = tag;
		for (uint32_t looks = dice(&p->me->dice, 8); looks; looks--)
			verify_some(p);
	}
	verify_some(p);
}

static void read_some(const struct place *p)
{
	for (size_t at = 0; at < p->bytes; at += page_size())
		(void)*(volatile char *)(p->start + at);
}

static void mark(struct place *p, bool mergeable)
{
	memset(p->book->mergeable + p->first, mergeable, p->count);
}

/* Part of MADV_UNMERGEABLE may have been done when it fails: try again. */
static void advise(struct place *p, int advice)
{
	while (madvise(p->start, p->bytes, advice) < 0 &&
	       (errno == EINTR || errno == EAGAIN || errno == ENOMEM))
		sched_yield();
	mark(p, advice == MADV_MERGEABLE);
}

static void drop(struct place *p)
{
	madvise(p->start, p->bytes, MADV_DONTNEED);
	write_some(p);
}

static void protect_briefly(const struct place *p)
{
	mprotect(p->start, p->bytes, PROT_READ);
	verify_some(p);
	mprotect(p->start, p->bytes, PROT_READ | PROT_WRITE);
}

static void lock_briefly(const struct place *p)
{
	syscall(SYS_mlock2, p->start, p->bytes, 1 /* MLOCK_ONFAULT */);
	read_some(p);
	munlock(p->start, p->bytes);
}

static void make_anew(struct place *p)
{
	munmap(p->start, p->bytes);
	if (dice(&p->me->dice, 2))
		sched_yield();
	if (mmap(p->start, p->bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != p->start)
		_exit(5);
	mark(p, false);
	if (dice(&p->me->dice, 2)) {
		advise(p, MADV_MERGEABLE);
		write_some(p);
	} else {
		write_some(p);
		advise(p, MADV_MERGEABLE);
	}
}

static void pin_briefly(const struct place *p)
{
	struct iovec iov = { p->start, p->bytes };
	int fd[2];

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	vmsplice(fd[1], &iov, 1, SPLICE_F_NONBLOCK);
	sched_yield();
	close(fd[0]);
	close(fd[1]);
}

/* Away and back; pages of several vmas can't be moved at once, and stay. */
static void move_there_and_back(const struct place *p)
{
	if (mremap(p->start, p->bytes, p->bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		   (void *)SCRATCH) == MAP_FAILED)
		return;
	sched_yield();
	if (mremap((void *)SCRATCH, p->bytes, p->bytes,
		   MREMAP_MAYMOVE | MREMAP_FIXED, p->start) == MAP_FAILED)
		_exit(5);
}

/* A child that looks at what it got, writes into it, and is gone. */
static void fork_briefly(struct place *p)
{
	uint64_t tags[MOST_PAGES];	/* the parent goes on with its book */
	int status;
	pid_t pid;

	memcpy(tags, p->book->tag + p->first, p->count * sizeof(*tags));
	pid = fork();
	if (!pid) {
		verify_against(p, tags);
		for (size_t i = 0; i < p->count; i += 2)
			fill_page((uint64_t *)(p->start + i * page_size()),
				  1 + (p->first + i) % TAGS);
		_exit(0);
	}
	if (dice(&p->me->dice, 2))
		write_some(p);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status)
		p->me->child_status = status;
}

/* A child that roams on from here, with the same pages and the same book. */
static void fork_roamer(struct roamer *me)
{
	struct roamer *child = NULL;
	uint32_t free = FREE;
	pid_t pid;

	for (struct roamer *r = crowd->roamers; r < crowd->roamers + ROAMERS; r++, free = FREE)
		if (__atomic_compare_exchange_n(&r->state, &free, BORN, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
			child = r;
			break;
		}
	if (!child)
		return;
	__atomic_fetch_add(&crowd->population, 1, __ATOMIC_RELAXED);
	memcpy(child->books, me->books, sizeof(me->books));
	child->begun = true;
	child->wrongs = 0;
	child->child_status = 0;
	child->pid = 0;
	child->dice = me->dice * 0x9e3779b97f4a7c15ull | 1;
	child->slot->call = roam_here;
	child->slot->request = REQ_CALL;
	child->slot->answered = 0;
	child->slot->asked = 1;
	__atomic_store_n(&child->state, ROAMING, __ATOMIC_RELEASE);
	__atomic_fetch_add(&crowd->births, 1, __ATOMIC_RELEASE);
	pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		serve(child->slot);
	if (pid < 0) {
		__atomic_fetch_sub(&crowd->population, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&child->state, FREE, __ATOMIC_RELEASE);
	}
}

static void leave(struct roamer *me)
{
	if (__atomic_sub_fetch(&crowd->population, 1, __ATOMIC_RELAXED) <
	    crowd->least) {
		__atomic_fetch_add(&crowd->population, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_store_n(&me->state, LEFT, __ATOMIC_RELEASE);
	_exit(0);
}

static void act_once(struct roamer *me, enum deed deed)
{
	struct place p = somewhere(me);

	switch (deed) {
	case WRITE:
		write_some(&p);
		break;
	case VERIFY:
		verify_some(&p);
		break;
	case READ:
		read_some(&p);
		break;
	case MERGEABLE:
		advise(&p, MADV_MERGEABLE);
		break;
	case UNMERGEABLE:
		advise(&p, MADV_UNMERGEABLE);
		break;
	case REMAP:
		make_anew(&p);
		break;
	case DONTNEED:
		drop(&p);
		break;
	case PAGEOUT:
		madvise(p.start, p.bytes, MADV_PAGEOUT);
		break;
	case PROTECT:
		protect_briefly(&p);
		break;
	case LOCK:
		lock_briefly(&p);
		break;
	case PIN:
		pin_briefly(&p);
		break;
	case MOVE:
		move_there_and_back(&p);
		break;
	case FORK:
		if (crowd->population < crowd->most)
			fork_roamer(me);
		break;
	case FORK_BRIEFLY:
		fork_briefly(&p);
		break;
	case LEAVE:
		leave(me);
		break;
	case PAUSE:
		usleep(dice(&me->dice, 2000));
		break;
	case HAMMER:
		hammer(&p);
		break;
	case DEEDS:
		break;
	}
}

static enum deed some_deed(struct roamer *me)
{
	unsigned int sum = 0, at;

	for (int i = 0; i < DEEDS; i++)
		sum += weights[i];
	at = dice(&me->dice, sum);
	for (int i = 0; i < DEEDS; i++) {
		if (at < weights[i])
			return i;
		at -= weights[i];
	}
	return PAUSE;
}

static void begin(struct roamer *me)
{
	for (int area = 0; area < ROAM_AREAS; area++) {
		struct place p = {
			.me = me, .book = &me->books[area], .area = area,
			.count = crowd->npages,
			.start = (char *)me->books[area].addr,
			.bytes = crowd->npages * page_size(),
		};

		write_some(&p);
		advise(&p, MADV_MERGEABLE);
	}
	me->begun = true;
}

long roam_here(struct slot *slot)
{
	struct roamer *me = crowd->roamers;

	while (me->slot != slot)
		me++;
	__atomic_store_n(&me->pid, getpid(), __ATOMIC_RELEASE);
	if (!me->begun)
		begin(me);
	while (!__atomic_load_n(&crowd->stop, __ATOMIC_ACQUIRE)) {
		enum deed deed = some_deed(me);

		__atomic_fetch_add(&crowd->deeds[deed], 1, __ATOMIC_RELAXED);
		act_once(me, deed);
	}
	return 0;
}

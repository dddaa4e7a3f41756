# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories that hypothesis makes: after each step the invariants hold, and every process sees what it wrote last."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from harness.oracle import Semantics, rmap
from harness.oracle.address_space import Mm
from harness.oracle.invariants import check_invariants
from harness.oracle.model import Model
from harness.oracle.witness import Witness
from tests.unit.witness_graph import PAGE_SIZE, Kernel

PAGES = 6
MAX_ACTORS = 6

SEMANTICS = [
    Semantics(),
    Semantics(cksum_first=True, merging_inherited_at_fork=False),
    Semantics(era="2.6.33", has_chains=False, swap_ptes_keep_exclusive=False, mlock_marks_ksm=False, wp_counts_users=True),
    Semantics(swap_ptes_keep_exclusive=False, mlock_marks_ksm=False),
    Semantics(swap_ptes_keep_exclusive=False, swap_cache_by_root=False, reuses_anon_vmas=False, wp_counts_users=True),
    Semantics(swap_ptes_keep_exclusive=False, wp_counts_users=True, wp_reuses_ksm=True),
]
actors = st.integers(0, MAX_ACTORS - 1)
first = st.integers(0, PAGES - 1)
count = st.integers(1, PAGES)
tags = st.integers(0, 3)


class Histories(RuleBasedStateMachine):
    """``book`` is I6's: what each process wrote last at each page, kept without any knowledge of pages."""

    @initialize(semantics=st.sampled_from(SEMANTICS), sharing=st.sampled_from([2, 3, 256]))
    def start(self, semantics: Semantics, sharing: int) -> None:
        self.model = Model(semantics)
        self.book: dict[str, dict[int, int]] = {}
        self.born = 0
        self.kernel = Kernel(self.model)
        self.witness = Witness(self.model, PAGE_SIZE, [], [])
        if semantics.has_chains:
            self.model.set_tunable("max_page_sharing", sharing)
        for _ in range(2):
            self.filled_process(True, 1, 1)

    def pick(self, number: int) -> Mm:
        living = list(self.model.actors.values())
        assume(living)
        return living[number % len(living)]

    def span(self, mm: Mm, begin: int, length: int) -> tuple[int, int]:
        assume("a" in mm.areas)
        return self.model.span(mm, "a", begin, min(length, PAGES - begin))

    def mapped(self, mm: Mm, begin: int, length: int) -> tuple[int, int]:
        start, end = self.span(mm, begin, length)
        assume(all(mm.vma_at(a) is not None for a in range(start, end)))
        return start, end

    def born_name(self) -> str:
        assume(len(self.model.actors) < MAX_ACTORS)
        self.born += 1
        return f"A{self.born}"

    @rule(mergeable=st.booleans(), tag=tags, step=st.integers(0, 1))
    def filled_process(self, mergeable: bool, tag: int, step: int) -> None:
        name = self.born_name()
        self.model.begin_op("spawn")
        mm = self.model.spawn(name, "t", 100 + self.born)
        self.model.map(mm, "a", 0x1000, PAGES)
        self.model.begin_op("fill")
        self.model.write(mm, 0x1000, 0x1000 + PAGES, tag, step)
        self.book[name] = {0x1000 + i: tag + i * step for i in range(PAGES)}
        if mergeable:
            self.model.mergeable(mm, 0x1000, 0x1000 + PAGES)

    @rule(a=actors)
    def fork(self, a: int) -> None:
        mm, name = self.pick(a), self.born_name()
        self.model.begin_op("fork")
        self.model.fork(mm, name, 100 + self.born)
        self.book[name] = dict(self.book[mm.name])

    @rule(a=actors)
    def exit(self, a: int) -> None:
        mm = self.pick(a)
        self.model.begin_op("exit")
        self.model.exit(mm.name)
        del self.book[mm.name]

    @rule(a=actors)
    def exec(self, a: int) -> None:
        mm = self.pick(a)
        self.model.begin_op("exec")
        self.model.exec(mm.name)
        self.book[mm.name] = {}

    @rule(a=actors, begin=first, length=count, tag=tags, step=st.integers(0, 1))
    def write(self, a: int, begin: int, length: int, tag: int, step: int) -> None:
        mm = self.pick(a)
        start, end = self.mapped(mm, begin, length)
        self.model.begin_op("write")
        self.model.write(mm, start, end, tag, step)
        self.book[mm.name].update({addr: tag + i * step for i, addr in enumerate(range(start, end))})

    @rule(a=actors, begin=first, length=count)
    def read(self, a: int, begin: int, length: int) -> None:
        mm = self.pick(a)
        span = self.mapped(mm, begin, length)
        self.model.begin_op("read")
        self.model.read(mm, *span)

    @rule(a=actors, begin=first, length=count)
    def munmap(self, a: int, begin: int, length: int) -> None:
        mm = self.pick(a)
        start, end = self.span(mm, begin, length)
        self.model.begin_op("munmap")
        self.model.munmap(mm, start, end)
        for addr in range(start, end):
            self.book[mm.name].pop(addr, None)

    @rule(a=actors, begin=first, length=count, prot=st.sampled_from(["r", "rw", "rwx", ""]))
    def mprotect(self, a: int, begin: int, length: int, prot: str) -> None:
        mm = self.pick(a)
        self.model.begin_op("mprotect")
        self.model.mprotect(mm, *self.span(mm, begin, length), prot)

    @rule(a=actors, begin=first, length=count, onfault=st.booleans())
    def mlock(self, a: int, begin: int, length: int, onfault: bool) -> None:
        mm = self.pick(a)
        self.model.begin_op("mlock")
        self.model.mlock(mm, *self.span(mm, begin, length), onfault=onfault)

    @rule(a=actors, begin=first, length=count)
    def munlock(self, a: int, begin: int, length: int) -> None:
        mm = self.pick(a)
        self.model.begin_op("munlock")
        self.model.munlock(mm, *self.span(mm, begin, length))

    @rule(a=actors, begin=first, length=count)
    def pin(self, a: int, begin: int, length: int) -> None:
        mm = self.pick(a)
        span = self.mapped(mm, begin, length)
        self.model.begin_op("pin")
        self.model.pin(mm, *span)

    @rule(a=actors)
    def unpin(self, a: int) -> None:
        self.model.begin_op("unpin")
        self.model.unpin(self.pick(a))

    @rule(a=actors, begin=first, length=count, on=st.booleans())
    def madvise(self, a: int, begin: int, length: int, on: bool) -> None:
        mm = self.pick(a)
        span = self.span(mm, begin, length)
        self.model.begin_op("mergeable" if on else "unmergeable")
        (self.model.mergeable if on else self.model.unmergeable)(mm, *span)

    @rule(scans=st.integers(1, 3))
    def scan(self, scans: int) -> None:
        assume(self.model.run == 1)
        self.model.begin_op("scan")
        for _ in range(scans):
            self.model.ksmd.scan()

    @rule(pages=st.integers(1, 12))
    def batch(self, pages: int) -> None:
        assume(self.model.run == 1)
        self.model.begin_op("batch")
        ended = self.model.ksmd.batch(pages)
        assert ended == (self.model.ksmd.cursor is None)

    @rule()
    def merge_fork_and_reclaim(self) -> None:
        """The case that it is all about, often."""
        self.set_run(1)
        self.scan(2)
        if len(self.model.actors) < MAX_ACTORS:
            self.fork(0)
        self.reclaim()

    @rule(value=st.sampled_from([0, 1, 1, 2]))
    def set_run(self, value: int) -> None:
        self.model.begin_op("run")
        self.model.set_run(value)
        if value == 2:
            ksmd = self.model.ksmd
            counts = (ksmd.tree.pages_shared, ksmd.tree.pages_sharing, ksmd.pages_unshared, ksmd.pages_volatile)
            assert counts == (0, 0, 0, 0)

    @rule()
    def reclaim(self) -> None:
        self.model.begin_op("reclaim")
        plan = self.model.plan_reclaim("t")
        self.model.reclaim("t")
        marks = self.model.semantics.mlock_marks_ksm
        for page, ptes in plan.items():
            if marks and rmap.locked(page):
                assert ptes == [] and page.ptes
            elif not rmap.locked(page) and not page.ksm:
                assert not page.ptes

    @rule(a=actors, begin=first, length=count)
    def pageout(self, a: int, begin: int, length: int) -> None:
        mm = self.pick(a)
        start, end = self.span(mm, begin, length)
        self.model.begin_op("pageout")
        for page, ptes in self.model.plan_pageout(mm, start, end).items():
            assert len(page.ptes) == 1
            self.model.memory.swap_out(page, ptes)

    @invariant()
    def all_invariants_hold(self) -> None:
        if hasattr(self, "model"):
            assert check_invariants(self.model) == []

    @invariant()
    def a_witness_finds_nothing(self) -> None:
        if hasattr(self, "witness"):
            assert self.witness.look(self.kernel.look()) == []

    @invariant()
    def everyone_sees_the_last_write(self) -> None:
        for name, pages in getattr(self, "book", {}).items():
            mm = self.model.actors[name]
            for addr, tag in pages.items():
                pte = mm.ptes.get(addr)
                assert (pte.content if pte is not None else 0) == tag, f"{name}:{addr:x}"

    def teardown(self) -> None:
        """When all are gone and ksmd has been there, nothing is left."""
        if not hasattr(self, "model"):
            return
        for name in list(self.model.actors):
            self.model.exit(name)
        self.model.ksmd.scan()
        assert check_invariants(self.model) == []
        assert self.model.ksmd.rmap_items == 0
        assert not self.model.memory.anon_vmas.live
        assert not self.model.memory.other_anon_vmas.live


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

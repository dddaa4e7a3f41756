# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle of one workload: takes its records one by one, and says what a correct kernel would not have shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from harness.findings import Finding
from harness.graph import Graph
from harness.oracle import limit, migration, poison
from harness.oracle.batches import judge_batch
from harness.oracle.blind_spot import remarks, unreachable
from harness.oracle.contents import judge_contents, read_contents
from harness.oracle.counters import RMAP_ITEM_BYTES, Counters
from harness.oracle.free import FreeRun
from harness.oracle.judge import Difference, Judge, Since
from harness.oracle.left import Left
from harness.oracle.model import Model
from harness.oracle.observe import PageObserver
from harness.oracle.operations import OPERATIONS, pages_of
from harness.oracle.reclaimed import judge_reclaim, read_attempts, read_keep
from harness.oracle.records import Fields, Record, decimal
from harness.oracle.references import Ageing, judge_idle
from harness.oracle.refusals import judge_refusal
from harness.oracle.semantics import Semantics, semantics_from_hello
from harness.oracle.setup import setup_from
from harness.oracle.shortage import apply_refusal, was_refused
from harness.oracle.special import judge_merge_any, judge_smaps, judge_strange
from harness.oracle.tunables import judge_set
from harness.oracle.witness import Deed, Witness

_KINDS = frozenset({"op", "ret", "obs", "note", "skip", "error", "stuck", "end"})
MAX_SCANS = 64  # of one step are replayed; long before, nothing changes any more,
MAX_SMART_SCANS = 1024  # but what smart_scan leaves out goes by age (mm/ksm.c: should_skip_rmap_item, skip_age), which ends
SMART_PERIOD = 9  # at 255 and has it so at last: met once, left out eight times


class Oracle:
    """Replays a workload's segment.

    ``hello`` is the boot's first record, ``begin`` the segment's.  Then step() takes each record after it, in order.
    ``notes`` tells what was not judged and why, ``remarks`` what is remarkable and no error.  ``control_failed`` is not
    empty when ordinary memory did not go in a reclaim either, so that nothing can be said of KSM.  ``drawings`` has
    the looks at which something was found, and the ones before them.
    """

    def __init__(self, hello: Record, begin: Record, semantics: Semantics | None = None) -> None:
        first = Fields(begin, "the begin record")
        self.workload = first.text("workload")
        self.page_size = first.number("page_size", 1024)
        self.model = Model(semantics or semantics_from_hello(hello), setup_from(hello, begin))
        self.notes: list[str] = []
        self.remarks: list[str] = []
        self.control_failed = ""
        self._judge = Judge(self.workload)
        self._pages = PageObserver(self.model)
        self._cpus = decimal(hello.get("cpus")) or 1
        self._total_kb = decimal(hello.get("mem_kb"))
        self._counters = Counters(
            self.model, self.page_size, self._cpus, decimal(hello.get("rmap_item_bytes")) or RMAP_ITEM_BYTES
        )
        self._left = Left(self.model)
        self._witness = Witness(self.model, self.page_size, self.notes, self.remarks)
        self.drawings = self._witness.drawings
        self._found_at = -1  # record with the last finding
        self._free: FreeRun | None = None  # from the first roam on
        self._pending: tuple[int, Fields] | None = None
        self._migrated: tuple[int | None, int] = None, 0
        self._scans_known = False
        self._ended = False

    def step(self, record: Record) -> list[Finding]:
        """The findings that this record adds; raises JournalContradiction if it cannot be the next one."""
        fields = Fields(record, f"record {record.get('seq')}")
        number, kind = fields.number("seq", 0), fields.text("kind")
        fields.where = f"{kind} record {number}"
        if kind not in _KINDS:
            raise fields.fail("no kind of record that follows a begin record")
        if self._ended:
            raise fields.fail("comes after the end")
        self._judge.prop = str(record.get("p", ""))
        if kind == "op":
            self._op(number, fields)
        elif kind == "ret":
            return self._found(number, self._judge.findings(number, self._ret(fields)))
        elif kind == "obs":
            found = self._judge.findings(number, self._obs(fields))
            if fields.flag("stable"):
                self._judge.since = Since(tick=self.model.memory.tick)
            return self._found(number, found)
        elif kind in ("end", "error", "stuck"):
            self._ended = True
        return []

    def _found(self, number: int, findings: list[Finding]) -> list[Finding]:
        self._found_at = number if findings else self._found_at
        return findings

    def look(self, number: int, graph: Graph) -> list[Finding]:
        """The findings that a look into the kernel's memory adds, made after record ``number`` was stepped through.

        It is to be made while ksmd and all actors stand still: at the end of an operation, or at an observation.
        """
        full_scans = self.model.ksmd.full_scans
        ahead = self._scans_known and self.model.run == 1 and graph.counters.get("seqnr", full_scans) > full_scans
        found = self._judge.findings(number, self._witness.look(graph, ahead=ahead))
        if found or self._found_at == number:
            self._witness.draw(number)
        return found

    def follow(self, before: object) -> None:
        """``before`` was the oracle of the same boot's workload before: what its looks have shown is not told again."""
        if isinstance(before, Oracle):
            self._witness.follow(before._witness)

    # Operations.

    def _op(self, number: int, op: Fields) -> None:
        if self._pending is not None:
            raise op.fail(f"begins while {self._pending[1].where} is not done")
        if op.text("op") not in OPERATIONS and op.text("op") not in (*_JUDGED, "roam", "settle", "leash"):
            raise op.fail(f"no operation: {op.text('op')!r}")
        self._pending = number, op

    def _ret(self, ret: Fields) -> list[Difference]:
        if self._pending is None:
            raise ret.fail("ends an operation that never began")
        number, op = self._pending
        name = op.text("op")
        if ret.number("of") != number or ret.text("op") != name:
            raise ret.fail(f"ends {ret.text('op')} of record {ret.number('of')} where {name} of record {number} is going on")
        self._pending = None
        self._witness.did(Deed.read(number, op))
        if name == "roam" and self._free is None:
            self._free = FreeRun(self.model, self.page_size, self._cpus)
            self.notes.append(f"{ret.where}: from here on books and censuses are judged, not the model")
            self._witness.lose_track("all acted at once (roam)", self._free.population.roster)
        if self._free is not None and ret.number("rc") >= 0:
            return self._set_free(self._free, name, op, ret)
        self.model.begin_op(name)
        self._judge.since.ops.append(name)
        self._judge.note_op(name)
        self._left.did(name)
        if was_refused(ret):
            return apply_refusal(self.model, op, ret)
        if ret.number("rc") < 0 and name not in _MAY_FAIL:
            return self._failed(op, ret)
        if name in _JUDGED:
            return _JUDGED[name](self, op, ret)
        OPERATIONS[name](self.model, Fields({**op.data, "page_size": self.page_size}, op.where), ret)
        return []

    def _set_free(self, free: FreeRun, name: str, op: Fields, ret: Fields) -> list[Difference]:
        found = free.done(name, op, ret)
        self.control_failed = self.control_failed or free.control_failed
        return found

    def _failed(self, op: Fields, ret: Fields) -> list[Difference]:
        """How far a failed operation came is not told."""
        name = op.text("op")
        self.notes.append(f"{ret.where}: {name} failed with {ret.data.get('errno') or 'no reason'}; the counters are not judged")
        self.model.memory.doubt(f"{name} failed")
        self._witness.lose_track(f"{name} failed")
        return judge_refusal(
            op, ret, self._judge.in_progress("P14"), total_kb=self._total_kb, poisoned="P21" in self._judge.shown
        )

    def _scan(self, op: Fields, ret: Fields) -> list[Difference]:
        begin, end = ret.number("from", 0), ret.number("to", 0)
        if end < begin:
            raise ret.fail(f"full_scans fell from {begin} to {end} during a scan")
        if op.data.get("by") == "run":
            self.model.set_run(1)
        self._catch_up(begin, ret.where)
        if op.data.get("by") == "first":
            self.model.mergeable(*pages_of(self.model, op))
        ksmd = self.model.ksmd
        begun, failed = end - begin - (ksmd.cursor is not None), ksmd.failed_merges
        self._replay(end - begin)
        self._left.scanned(begun=begun, failed=ksmd.failed_merges - failed)
        return []

    def _anchor(self, op: Fields, ret: Fields) -> list[Difference]:
        """The mm that keeps ksmd's list from being empty leaves it with the next scan, or comes back."""
        return [] if op.flag("there") else self._scan(op, ret)

    def _offline(self, op: Fields, ret: Fields) -> list[Difference]:
        """Any page may have moved, as with compaction; ksmd was poked meanwhile, and scans when it may."""
        if not op.flag("cancel"):
            return []
        self._scan(op, ret)
        return list(migration.judge_offline(ret))

    def _batch(self, op: Fields, ret: Fields) -> list[Difference]:
        self._catch_up(ret.number("from", 0), ret.where)
        with self._noting():
            return judge_batch(self.model, op, ret)

    def _catch_up(self, full_scans: int, where: str) -> None:
        """Scans that nobody asked for: a poke can be late, and run=1 wakes a ksmd that waits for work.

        Those before the workload's first look at full_scans are the reset's and found no process of ours.  Later ones
        are replayed, but where among the operations they fell is not told.
        """
        ksmd = self.model.ksmd
        missed = full_scans - ksmd.full_scans
        first, self._scans_known = not self._scans_known, True
        if missed <= 0 or self.model.run != 1:
            return
        if first:
            self.notes.append(f"{where}: ksmd had made {missed} full scans before; they are taken for the reset's")
            ksmd.full_scans = full_scans
            return
        self.notes.append(f"{where}: ksmd made {missed} more full scans than were asked for; they are replayed here")
        self._replay(missed)
        if ksmd.mms:
            self.model.memory.doubt("ksmd made a scan that nobody asked for")

    def _replay(self, scans: int) -> None:
        ksmd = self.model.ksmd
        most, period = (MAX_SMART_SCANS, SMART_PERIOD) if ksmd.smart_scan else (MAX_SCANS, 1)
        rounds = max(0, scans - most) // period  # that are like the last one
        counts = [(0, 0)]
        with self._noting():
            for _ in range(scans - rounds * period):
                ksmd.scan()
                counts.append((ksmd.pages_scanned, ksmd.pages_skipped))
        before = counts[max(0, len(counts) - 1 - period)]
        ksmd.full_scans += rounds * period
        ksmd.pages_scanned += rounds * (ksmd.pages_scanned - before[0])
        ksmd.pages_skipped += rounds * (ksmd.pages_skipped - before[1])

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """What ksmd does meanwhile is remembered until the next observation."""
        ksmd, since = self.model.ksmd, self._judge.since
        forked, failed = ksmd.tree.mapped_by_fork, ksmd.failed_merges + ksmd.refused_merges
        yield
        since.fork_items += ksmd.tree.mapped_by_fork - forked
        since.failed_merges += ksmd.failed_merges + ksmd.refused_merges - failed

    def _verify(self, op: Fields, ret: Fields) -> list[Difference]:
        mm, start, end = pages_of(self.model, op)
        seen = read_contents(ret, end - start)
        differences = judge_contents(self.model, mm, op.text("area"), op.number("first"), seen)
        self.model.read(mm, start, end)
        return differences

    def _read_without_room(self, op: Fields, ret: Fields) -> list[Difference]:
        return limit.read_without_room(self.model, op, ret)

    def _soft_offline(self, op: Fields, ret: Fields) -> list[Difference]:
        return migration.soft_offline(self.model, op, ret)

    def _move_pages(self, op: Fields, ret: Fields) -> list[Difference]:
        return migration.move_pages(self.model, op, ret)

    def _hwpoison(self, op: Fields, ret: Fields) -> list[Difference]:
        return poison.hwpoison(self.model, op, ret)

    def _reclaim(self, op: Fields, ret: Fields) -> list[Difference]:
        memcg = op.text("memcg")
        kept = read_keep(self.model, op)
        attempts = read_attempts(self.model, ret)
        control = ret.text("control")
        if control not in ("gone", "stuck"):
            raise ret.fail(f"the control is gone or stuck, not {control!r}")
        if control == "stuck" and not self.control_failed:
            self.control_failed = f"ordinary memory (Z.z) was still present after {len(attempts.maps)} attempts ({ret.where})"
        controls = [mm for name, mm in self.model.actors.items() if name.startswith("Z") and mm.memcg == memcg]
        idle = not any(p.page for mm in controls for p in mm.ptes.values())
        ksm = [p for p in self.model.pages() if p.ksm and p.memcg == memcg]
        ageing = Ageing(self.model, memcg)
        beyond = unreachable(self.model, memcg)
        # A walk that has no page for a swap count that runs over ends there (try_to_unmap_one: swap_duplicate).
        attempts.broken_off = "failing" in op.data
        differences = judge_reclaim(self.model, memcg, kept, attempts, judged=control == "gone", beyond=beyond)
        differences += ageing.judge(self.model, op, ret, attempts.final)
        if control == "gone":
            self.remarks.extend(remarks(ret.where, beyond))
        if differences and idle:
            self.notes.append(f"{ret.where}: the control had nothing to show, as Z.z was swapped out before")
        lingering = ret.number("lingering", 0)
        if lingering > sum(1 for p in ksm if not p.ptes and not p.freed):
            self._lingering(lingering, ret.where)
        return differences

    def _idle_read(self, op: Fields, ret: Fields) -> list[Difference]:
        mm, start, end = pages_of(self.model, op)
        return judge_idle(self.model, mm, op.text("area"), start, ret, end - start)

    def _set(self, op: Fields, ret: Fields) -> list[Difference]:
        return judge_set(self.model, op, ret)

    def _smaps(self, op: Fields, ret: Fields) -> list[Difference]:
        return judge_smaps(self.model, op, ret)

    def _strange(self, op: Fields, ret: Fields) -> list[Difference]:
        return judge_strange(self.model, op, ret)

    def _merge_any(self, op: Fields, ret: Fields) -> list[Difference]:
        return judge_merge_any(self.model, op, ret)

    def _lingering(self, count: int, where: str) -> None:
        """Their writing has not ended: which of the pages stay in the swap cache is not told."""
        self.notes.append(f"{where}: {count} unmapped KSM pages were not freed yet; what they come back as is not judged")
        for mm in self.model.actors.values():
            for pte in mm.ptes.values():
                if pte.entry is not None and pte.entry.cached is None and pte.when == self.model.memory.tick:
                    pte.entry.unsure = True

    # Observations.

    def _obs(self, obs: Fields) -> list[Difference]:
        if self._pending is not None:
            raise obs.fail(f"made while {self._pending[1].where} is not done")
        if self._free is not None:
            return self._free.observe(obs)
        full_scans = decimal(obs.record("ksm").get("full_scans"))
        if full_scans is not None:
            self._catch_up(full_scans, obs.where)
        moved = self._pages_moved(obs)
        if not obs.flag("stable"):
            self._pages.skip(obs)
            self.notes.append(f"{obs.where}: the guest's readings differed from each other; it is not judged")
            return []
        since = self._judge.since
        differences = self._pages.compare(obs, since, moved=moved)
        differences += self._counters.judge(obs, since)
        differences += self._left.judge(obs)
        self._note_doubt(obs)
        return differences

    def _note_doubt(self, obs: Fields) -> None:
        text = f"{obs.where}: from here on KSM's counters are not judged: {self.model.memory.unsure}"
        if self.model.memory.unsure and not any(n.endswith(self.model.memory.unsure) for n in self.notes):
            self.notes.append(text)

    def _pages_moved(self, obs: Fields) -> bool:
        """Has the kernel migrated more pages since the last observation than were asked for (pgmigrate_success)?"""
        (before, asked), migrations = self._migrated, self.model.memory.migrations
        now = decimal(obs.record("vmstat").get("pgmigrate_success"))
        self._migrated = now, migrations
        return now is not None and before is not None and now - before > migrations - asked


# The operations whose results are compared with the prediction.
_JUDGED: Mapping[str, Callable[[Oracle, Fields, Fields], list[Difference]]] = {
    "scan": Oracle._scan, "anchor": Oracle._anchor, "offline": Oracle._offline, "batch": Oracle._batch,
    "verify": Oracle._verify, "reclaim": Oracle._reclaim,
    "idle_read": Oracle._idle_read, "soft_offline": Oracle._soft_offline, "move_pages": Oracle._move_pages,
    "hwpoison": Oracle._hwpoison, "set": Oracle._set, "smaps": Oracle._smaps, "strange": Oracle._strange, "vvar": Oracle._strange,
    "merge_any": Oracle._merge_any, "read_without_room": Oracle._read_without_room,
}  # fmt: skip
_MAY_FAIL = frozenset({"set", "merge_any"})  # and how is predicted

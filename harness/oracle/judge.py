# SPDX-License-Identifier: GPL-2.0-or-later
"""From differences to findings: which property is broken, how often it is told, and what may follow from what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.findings import Finding, Tier
from harness.oracle.address_space import Mm
from harness.oracle.runs import ranges

# Of these the journal's property in progress is believed when a rule does not name a better one.
IN_PROGRESS = frozenset(f"P{n}" for n in range(1, 24))

# What differs while one of these is shown is theirs, but for leaked references and locks: their workloads mix everything.
OWNERS = frozenset({"P11", "P20", "P22", "P23"})

_SCANS = ("scan", "batch")
_UNMERGE = ("run", "unmergeable")
_WRITES = ("write", "fill")
_READS = ("read", "touch", "verify")
# Kinds that a second witness tells (harness/oracle/witness).
_HELD = ("reference-lost", "item-anon-vma", "unreadable", "mm-count")
_RMAP = ("vma", "vma-links", "anon-vma-vmas", "anon-vma-root", "anon-vma-parent", "anon-vma-count")
_LISTS = (
    "slot-missing", "slot-extra", "slot-order", "item-missing", "item-extra", "item-state", "item-node", "item-head", "item-list",
    "item-age", "node-extra", "node-missing", "node-page", "page-mapcount", "chain", "tree", "migrating",
    "hlist-length",
)  # fmt: skip
_MOVES = ("soft_offline", "move_pages", "compact", "offline_block")


@dataclass
class Since:
    """What happened since the last observation that was judged."""

    tick: int = 0  # number of the last operation before it
    ops: list[str] = field(default_factory=list)
    fork_items: int = 0  # items that ksmd gave to ptes which fork had duplicated
    failed_merges: int = 0

    def last(self, *among: str) -> str:
        """The last operation, of these kinds if there was one of them."""
        return next((op for op in reversed(self.ops) if op in among), self.ops[-1] if self.ops else "obs")

    def had(self, *kinds: str) -> bool:
        """There was one of these."""
        return any(op in kinds for op in self.ops)


@dataclass(frozen=True)
class Places:
    """Pages by actor and area."""

    pages: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, actor: str, area: str, index: int) -> None:
        """Another page."""
        self.pages.setdefault((actor, area), []).append(index)

    @property
    def actors(self) -> tuple[str, ...]:
        """Whose pages they are."""
        return tuple(dict.fromkeys(actor for actor, _ in self.pages))

    def count(self, actor: str | None = None) -> int:
        """How many pages, of one actor or of all."""
        return sum(len(i) for (a, _), i in self.pages.items() if actor in (None, a))

    def __str__(self) -> str:
        return ", ".join(f"{actor}.{area}{ranges(i)}" for (actor, area), i in self.pages.items())


@dataclass(frozen=True)
class Difference:
    """What a record shows against the prediction, all pages with one cause together."""

    kind: str
    op: str
    tier: Tier
    summary: str
    expected: str
    seen: str
    why: str
    prop: str = ""  # if a rule names it
    places: Places = field(default_factory=Places)
    actors: tuple[str, ...] = ()


class Judge:
    """Makes findings of differences, each signature once per workload."""

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.prop = ""  # in progress
        self.since = Since()
        self.shown: set[str] = set()  # of P19 and P21, those of which an operation has been done
        self._told: set[str] = set()
        self._first: tuple[int, str] | None = None  # record and property of the first finding

    def findings(self, seq: int, differences: Iterable[Difference]) -> list[Finding]:
        """The findings of one record."""
        found = []
        for d in differences:
            prop = d.prop or self.attribute(d.kind, d.op)
            finding = Finding(
                prop=prop, kind=d.kind, op=d.op, tier=d.tier, workload=self.workload, seq=seq,
                summary=d.summary, expected=d.expected, seen=d.seen, why=d.why,
                actors=d.actors or d.places.actors, pages=str(d.places), follows=self._follows(seq, prop),
            )  # fmt: skip
            if finding.signature not in self._told:
                self._told.add(finding.signature)
                self._first = self._first or (seq, prop)
                found.append(finding)
        return found

    def _follows(self, seq: int, prop: str) -> bool:
        """Anything later may be a consequence of the first; in the same record, what breaks the same property."""
        return self._first is not None and (seq > self._first[0] or prop == self._first[1])

    def in_progress(self, otherwise: str) -> str:
        """The journal's property in progress if it is one of those that workloads show."""
        return self.prop if self.prop in IN_PROGRESS else otherwise

    def attribute(self, kind: str, op: str) -> str:
        """The property that a difference of this kind after this operation breaks."""
        if op in _MOVES:
            return "P19"
        if op == "hwpoison" or kind == "poison-read":
            return "P21"
        if kind == "killed":
            return "P21" if "P21" in self.shown else "P16"
        prop = self._attribute(kind, op)
        if kind in _HELD or kind in _LISTS or kind in _RMAP:
            return prop  # seen at the very operation
        # What goes wrong in the bookkeeping of pages that were moved or poisoned before.
        return self.prop if self.prop in self.shown and prop in ("P1", "P14", "P15", "P16") else prop

    def note_op(self, op: str) -> None:
        """An operation that what comes later may be a consequence of."""
        if op in _MOVES:
            self.shown.add("P19")
        elif op == "hwpoison":
            self.shown.add("P21")

    def _attribute(self, kind: str, op: str) -> str:
        if kind in ("locked-swapped", "not-locked"):
            return "P9"
        if kind == "reference-leak":
            return "P6"
        if kind in _HELD:
            return "P15" if op == "scan" and self.since.fork_items else "P5"
        if self.prop in OWNERS:
            return self.prop
        if kind in _LISTS or kind in _RMAP:
            return self._graph(kind, op)
        if kind.startswith("counter-"):
            return self._counter(kind.removeprefix("counter-"), op)
        if kind in ("not-ksm", "still-ksm", "identity", "in-place", "leak", "content"):
            return self._page(kind, op)
        if kind in ("zeros", "not-zeros", "still-huge", "vm-flags", "prctl"):
            return "P23"
        return self.in_progress("P14" if kind == "mapcount" else "P1")

    def _page(self, kind: str, op: str) -> str:
        if kind == "leak" or op in _WRITES:
            return "P16" if op in _READS and kind != "leak" else "P17"
        if op in _READS or kind == "content":
            return "P16"
        if op in _UNMERGE:
            return "P18"
        if op in _SCANS:
            if self.since.failed_merges:
                return "P7"
            return "P15" if self.since.fork_items else "P14"
        return self.in_progress("P9" if op in ("mlock", "munlock") else "P14")

    def _graph(self, kind: str, op: str) -> str:
        """Of what a second witness saw in the kernel's memory."""
        if kind in _RMAP:
            return "P1" if op == "fork" else "P11" if op in ("mremap", "resize", "renew") else "P8"
        left = kind in ("slot-extra", "node-extra")  # and not because anything was unmerged
        if op in _UNMERGE or (self.since.had(*_UNMERGE) and not left):
            return "P18"
        if left or kind == "item-extra":
            return "P6"
        if kind == "slot-order":
            return "P14"
        if kind in ("chain", "tree", "migrating", "hlist-length"):
            return "P20"
        if self.since.failed_merges:
            return "P7"
        return "P15" if op == "fork" or self.since.fork_items else "P14"

    def _counter(self, name: str, op: str) -> str:
        if name == "ksm_swpin_copy":
            return "P16"
        if name == "ksm_zero_pages":
            return "P23"
        if name in ("RssAnon", "VmSwap", "SwapFree"):
            return self.in_progress("P1")
        if op == "fork" and name in ("ksm_merging_pages", "ksm_rmap_items"):
            return "P15"  # what the child has of its parent's (ksm_fork)
        if op in _UNMERGE or (name != "cow_ksm" and self.since.had(*_UNMERGE)):
            return "P18"
        if self.since.failed_merges:
            return "P7"
        if name == "cow_ksm":
            return "P9" if op == "mlock" else "P15" if op in _SCANS and self.since.fork_items else "P17"
        return "P15" if self.since.fork_items and name != "pages_unshared" else "P14"


def who(mms: Sequence[Mm]) -> str:
    """Processes as a developer looks them up: ``C (pid 231)``."""
    names = [f"{mm.name} (pid {mm.pid})" if mm.pid else mm.name for mm in mms]
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def pages(count: int, what: str = "") -> str:
    """``1 KSM page``, ``12 pages``."""
    noun = f"{what} page" if what else "page"
    return f"{count} {noun}" + ("" if count == 1 else "s")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Who holds each anon_vma: invariant I4, to the unit, asked of the kernel's memory alone.

Its refcount is one for each stable rmap_item that holds it, one as long as a vma is linked in it, and one for each other
anon_vma of which it is the root (mm/rmap.c: anon_vma_fork; include/linux/rmap.h: get_anon_vma, put_anon_vma).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from harness.graph import AnonVma, Graph, Item
from harness.oracle.trees import State
from harness.oracle.witness.lists import state
from harness.oracle.witness.matching import Match, named
from harness.oracle.witness.mismatch import Mismatch, Place, Rule

_UNIT = (
    "one for each stable rmap_item (get_anon_vma in try_to_merge_with_ksm_page), one while a vma is linked in it, and a root has "
    "one for each descendant (anon_vma_fork)"
)
_TOO_FEW, _TOO_MANY = Rule("reference-lost", _UNIT), Rule("reference-leak", _UNIT)
_FREED = Rule(
    "reference-leak", "each reference is put once, and the last one frees it (put_anon_vma on every path out of the stable tree)"
)
_KNOWN = Rule("anon-vma-vmas", "anon_vma_chain_link, unlink_anon_vmas")
_COUNTS = Rule("anon-vma-count", "anon_vma_clone uses an anon_vma again that has less than two children and no active vma")


@dataclass(frozen=True, slots=True)
class Name:
    """Whose an anon_vma is: that of the vma which has it, or had it, or else of an item that holds it."""

    title: str  # "P1.a", or of an item "P1.a[3]"
    whose: str = "of"  # "at" an address, "of the rmap_item of"
    spans: tuple[tuple[str, str, range], ...] = ()  # actor, area, pages

    @property
    def places(self) -> tuple[Place, ...]:
        """All pages that it is about."""
        return tuple((actor, area, page) for actor, area, pages in self.spans for page in pages)

    def __str__(self) -> str:
        return f"the anon_vma {self.whose} {self.title}"


MOST_SPANS = 16  # of vmas that one anon_vma's name tells

_UNKNOWN = Name("?", "at")


def unnamed(address: int) -> Name:
    """Nobody's that is known."""
    return Name(f"{address:#x}", "at")


@dataclass
class Held:
    """Who holds each anon_vma."""

    items: dict[int, list[Item]] = field(default_factory=dict)
    descendants: Counter[int] = field(default_factory=Counter)

    def right(self, anon_vma: AnonVma) -> int:
        """The refcount that it must have."""
        return len(self.items.get(anon_vma.address, ())) + bool(anon_vma.vmas) + self.descendants[anon_vma.address]

    def words(self, anon_vma: AnonVma) -> str:
        """``256 rmap_items + 1 while vmas are linked in it + 3 for its descendants``."""
        items, descendants = len(self.items.get(anon_vma.address, ())), self.descendants[anon_vma.address]
        parts = [f"{items} rmap_item{'s' * (items != 1)}"] if items else []
        parts += ["1 as vmas are linked in it"] if anon_vma.vmas else []
        parts += [f"{descendants} as the root of {descendants} other{'s' * (descendants != 1)}"] if descendants else []
        return " + ".join(parts) or "nothing holds it"


class References:
    """Keeps what only several looks together tell: names of anon_vmas, and those that were leaked."""

    def __init__(self) -> None:
        self.names: dict[int, Name] = {}  # of the last look
        self._off: dict[int, int] = {}  # by how many references, as told before
        self._leaked: dict[int, AnonVma] = {}

    def judge(self, match: Match) -> Iterator[Mismatch]:
        """Every anon_vma of a look, and those that nothing leads to any more."""
        graph = match.graph
        self.names = self._name_all(match)
        former = {a: v for a, v in graph.former.items() if a not in graph.anon_vmas and _is_leaked(graph, v)}
        self._leaked = {a: v for a, v in self._leaked.items() if a not in graph.anon_vmas and v.root in graph.anon_vmas}
        new = {a: v for a, v in former.items() if a not in self._leaked and self._off.get(a) != v.refcount}
        self._leaked |= former
        held = who_holds(graph, self._leaked)
        self._off = {a: v.refcount - held.right(v) for a, v in graph.anon_vmas.items()}
        children = Counter(a.parent for a in graph.anon_vmas.values() if a.vmas)
        for anon_vma in graph.anon_vmas.values():
            yield from self._anon_vma(anon_vma, held)
            yield from _links(graph, anon_vma, children[anon_vma.address], self._name(anon_vma.address))
        for address, anon_vma in new.items():
            name = self._name(address)
            yield Mismatch(
                _FREED,
                ("leaked", address),
                f"{name} has refcount {anon_vma.refcount} though nothing holds it any more: it will never be freed",
                "refcount 0: freed",
                f"refcount {anon_vma.refcount}",
                places=name.places,
                focus=(address,),
            )

    def _name_all(self, match: Match) -> dict[int, Name]:
        """Whoever had it keeps his name as long as nobody else has it."""
        found = names(match)
        for address, name in self.names.items():
            known = address in match.graph.anon_vmas or address in match.graph.former or address in self._leaked
            if known and found.get(address, _UNKNOWN).whose != "of":
                found[address] = name
        return found

    def _name(self, address: int) -> Name:
        return self.names.get(address, unnamed(address))

    def _anon_vma(self, anon_vma: AnonVma, held: Held) -> Iterator[Mismatch]:
        """Its refcount, to the unit."""
        right, delta = held.right(anon_vma), anon_vma.refcount - held.right(anon_vma)
        if not delta:
            return
        name = self._name(anon_vma.address)
        lost = f"{abs(delta)} reference{'s' * (abs(delta) != 1)} {'lost' if delta < 0 else 'too many'}"
        yield Mismatch(
            _TOO_FEW if delta < 0 else _TOO_MANY,
            ("refcount", anon_vma.address),
            f"{name} has refcount {anon_vma.refcount} where {right} is right ({held.words(anon_vma)}): {lost}",
            f"refcount {right}",
            f"refcount {anon_vma.refcount}",
            places=name.places,
            focus=(anon_vma.address,),
            state=delta,
        )


def who_holds(graph: Graph, leaked: Mapping[int, AnonVma] = MappingProxyType({})) -> Held:
    """By what the look shows; ``leaked`` anon_vmas have their roots' references still."""
    found = Held()
    for item in graph.items.values():
        if state(item) is State.STABLE and item.anon_vma:
            found.items.setdefault(item.anon_vma, []).append(item)
    for anon_vma in [*graph.anon_vmas.values(), *leaked.values()]:
        if anon_vma.root != anon_vma.address:
            found.descendants[anon_vma.root] += 1
    return found


def _is_leaked(graph: Graph, anon_vma: AnonVma) -> bool:
    """It has a reference and nobody who could hold one.

    What its memory is used for by now may be something else: the anon_vma of a private file mapping, say, which a look does
    not lead to.  Such a one has active vmas.
    """
    known = anon_vma.root == anon_vma.address or anon_vma.root in graph.anon_vmas or anon_vma.root in graph.former
    return known and anon_vma.active <= 0 and not anon_vma.vmas and 0 < anon_vma.refcount < 1 << 24


def names(match: Match) -> dict[int, Name]:
    """Whose the anon_vmas of a look are, as far as actors have them."""
    graph = match.graph
    found: dict[int, Name] = {}
    for item in graph.items.values():
        if state(item) is State.STABLE and item.anon_vma not in found:
            where = match.place(item.mm, item.addr)
            found[item.anon_vma] = Name(named(where), "of the rmap_item of", ((*where[:2], range(where[2], where[2] + 1)),))
    for vma in graph.vmas.values():
        if not vma.anon_vma or vma.mm not in match.mms:
            continue
        actor, area, first = match.place(vma.mm, vma.start)
        span = actor, area, range(first, first + match.page(vma.end - vma.start))
        old = found.get(vma.anon_vma)
        if old is None or old.whose != "of":
            found[vma.anon_vma] = Name(f"{actor}.{area}", spans=(span,))
        elif len(old.spans) < MOST_SPANS:
            found[vma.anon_vma] = Name(old.title, spans=(*old.spans, span))
    return found


def _links(graph: Graph, anon_vma: AnonVma, children: int, name: Name) -> Iterator[Mismatch]:
    """num_children, num_active_vmas, and that it and its vmas know each other."""
    strangers = [v for v in anon_vma.vmas if v in graph.vmas and anon_vma.address not in graph.vmas[v].chain]
    if strangers:
        yield Mismatch(
            _KNOWN,
            ("strangers", anon_vma.address),
            f"{name} leads to {len(strangers)} vmas that are not linked in it",
            "each anon_vma_chain is in the tree of its anon_vma and the list of its vma",
            f"{len(strangers)} in the tree only",
            places=name.places,
            focus=(anon_vma.address, *strangers),
            state=tuple(strangers),
        )
    if anon_vma.active < 0 or not anon_vma.vmas:
        return  # before num_active_vmas its ``degree`` counted children and vmas; nothing more happens to one without vmas
    active = sum(1 for v in anon_vma.vmas if v in graph.vmas and graph.vmas[v].anon_vma == anon_vma.address)
    for what, right, seen in (("num_active_vmas", active, anon_vma.active), ("num_children", children, anon_vma.children)):
        if seen != right:
            yield Mismatch(
                _COUNTS,
                (what, anon_vma.address),
                f"{name} has {what} {seen} where {right} is right",
                str(right),
                str(seen),
                places=name.places,
                focus=(anon_vma.address,),
                state=seen - right,
            )

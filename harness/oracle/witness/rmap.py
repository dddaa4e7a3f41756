# SPDX-License-Identifier: GPL-2.0-or-later
"""vmas and anon_vmas: a one-to-one mapping between the kernel's and the model's must exist, and hold from look to look."""

from __future__ import annotations

from collections.abc import Iterator

from harness import graph
from harness.oracle.address_space import Mm, Vma
from harness.oracle.anon_vma import AnonVma
from harness.oracle.trees import Item, State
from harness.oracle.witness.lists import state
from harness.oracle.witness.matching import Match, named, place
from harness.oracle.witness.mismatch import Mismatch, Place, Rule

VM_LOCKED = 0x2000
VM_MERGEABLE = 0x80000000

_VMAS = Rule("vma", "__split_vma and vma_merge: vmas are cut where flags differ, and joined where they and the anon_vmas agree")
_CLONED = "anon_vma_clone links a vma wherever its origin is linked; a child's has one of its own besides (anon_vma_fork)"
_LINKS = Rule("vma-links", _CLONED)
_HOLDS = Rule(
    "item-anon-vma",
    "an item holds the anon_vma that the vma had when its page was merged (try_to_merge_with_ksm_page), until it leaves the tree",
)
_LEADS = Rule("anon-vma-vmas", _CLONED)
_ROOT = Rule("anon-vma-root", "a fork's anon_vma has its parent's root (anon_vma_fork)")
_PARENT = Rule("anon-vma-parent", "a fork's anon_vma has that of the parent's vma for its parent (anon_vma_fork)")


class Isomorphism:
    """Which anon_vma of the kernel is which of the model's; kept while the model's lives.

    ``ancestors``: this kernel's items hold ancestors of their vma's anon_vma, by which a walk reaches all that it must and
    more (P22): no error, but what the items hold then tells nothing, and an anon_vma without vmas may be freed before the
    model's.
    """

    def __init__(self) -> None:
        self.ancestors = False
        self._kernel: dict[AnonVma, int] = {}
        self._model: dict[int, AnonVma] = {}

    def forget_freed(self) -> None:
        """Another one may lie there soon."""
        for anon_vma in [a for a in self._kernel if a.freed or (self.ancestors and a.unlinked)]:
            del self._model[self._kernel.pop(anon_vma)]

    def pair(self, anon_vma: AnonVma, address: int) -> bool:
        """They are the same, as far as anything is known; the first word counts."""
        if anon_vma not in self._kernel and address not in self._model:
            self._kernel[anon_vma] = address
            self._model[address] = anon_vma
        return self._kernel.get(anon_vma) == address

    def of(self, address: int) -> AnonVma | None:
        """The model's."""
        return self._model.get(address)

    def items(self) -> list[tuple[AnonVma, int]]:
        """All pairs."""
        return list(self._kernel.items())


def compare_rmap(match: Match, pairs: Isomorphism) -> Iterator[Mismatch]:
    """vmas first, as they say which anon_vma is which; then what the items hold, then the anon_vmas themselves."""
    pairs.forget_freed()
    odd: set[Mm] = set()  # with other vmas, so that what is linked is too
    for address, mm in match.mms.items():
        if not mm.dead and address in match.graph.mms:
            for mismatch in _compare_vmas(match, mm, match.graph.mms[address]):
                odd.add(mm)
                yield mismatch
    for address, vma in match.vmas.items():
        yield from _compare_links(match.graph.vmas[address], vma, pairs)
    for address, item in match.items.items():
        yield from _compare_item(match.graph.items[address], item, pairs)
    for anon_vma, address in pairs.items():
        seen = match.graph.anon_vmas.get(address)
        if seen is not None and not anon_vma.freed:
            yield from _compare_anon_vma(match, seen, anon_vma, pairs, odd)


def _compare_vmas(match: Match, mm: Mm, seen: graph.Mm) -> Iterator[Mismatch]:
    """Their addresses, vm_pgoff, VM_MERGEABLE and VM_LOCKED, in the process's areas."""
    private = [vma for vma in mm.vmas if not vma.flags.shared]
    spans = [(vma.start, vma.end) for vma in private] + [(a.start, a.start + a.npages) for a in mm.areas.values()]
    told = [match.graph.vmas[a] for a in seen.vmas if a in match.graph.vmas]
    there = [v for v in told if any(match.page(v.start) < end and start < match.page(v.end) for start, end in spans)]
    here = [
        (match.page(v.start), match.page(v.end), v.pgoff, bool(v.flags & VM_MERGEABLE), bool(v.flags & VM_LOCKED)) for v in there
    ]
    expected = [(v.start, v.end, v.pgoff, v.flags.mergeable, v.flags.locked) for v in private]
    if here == expected:
        return
    wrong = sorted(set(here) ^ set(expected))
    where = place(mm, wrong[0][0]) if wrong else (mm.name, "?", 0)
    yield Mismatch(
        _VMAS,
        ("vmas", mm),
        f"the vmas of {mm.name} are not as they must be, from {named(where)} on",
        "; ".join(_vma(mm, v) for v in expected if v in wrong) or "none",
        "; ".join(_vma(mm, v) for v in here if v in wrong) or "none",
        places=(where,),
        focus=tuple(v.address for v in there),
        state=tuple(here),
    )


def _vma(mm: Mm, vma: tuple[int, int, int, bool, bool]) -> str:
    start, end, pgoff, mergeable, locked = vma
    actor, area, index = place(mm, start)
    flags = "".join([" VM_MERGEABLE" * mergeable, " VM_LOCKED" * locked])
    return f"{actor}.{area}[{index}..{index + end - start - 1}] pgoff {pgoff:#x}{flags}"


def _compare_links(seen: graph.Vma, vma: Vma, pairs: Isomorphism) -> Iterator[Mismatch]:
    """vma->anon_vma, and anon_vma_chain, which has the newest first."""
    chain = tuple(reversed(seen.chain))
    paired = [pairs.pair(a, address) for a, address in zip(vma.chain, chain, strict=False)]
    fits = len(chain) == len(vma.chain) and all(paired)
    own = seen.anon_vma == 0 if vma.anon_vma is None else seen.anon_vma != 0 and pairs.pair(vma.anon_vma, seen.anon_vma)
    if fits and own:
        return
    where = place(vma.mm, vma.start)
    what = "is linked in other anon_vmas than it must be" if own else "has another anon_vma than it must have"
    yield Mismatch(
        _LINKS,
        ("links", vma),
        f"the vma at {named(where)} {what}",
        _links(len(vma.chain), vma.anon_vma is not None),
        _links(len(chain), bool(seen.anon_vma)),
        places=(where,),
        focus=(seen.address,),
        state=(seen.anon_vma, seen.chain),
    )


def _links(links: int, own: bool) -> str:
    return f"linked in {links} anon_vmas, vma->anon_vma {'is one of them' if own else 'NULL'}"


def _compare_item(seen: graph.Item, item: Item, pairs: Isomorphism) -> Iterator[Mismatch]:
    if item.state is not State.STABLE or state(seen) is not State.STABLE or item.anon_vma is None:
        return
    other = pairs.of(seen.anon_vma)
    if other is not item.anon_vma and other in ancestors(item.anon_vma):
        pairs.ancestors = True
        return
    if seen.anon_vma and (pairs.pair(item.anon_vma, seen.anon_vma) if not pairs.ancestors else other in (None, item.anon_vma)):
        return
    where = place(item.mm, item.addr)
    what = "does not hold the anon_vma that its vma had when it was merged" if seen.anon_vma else "holds no anon_vma"
    words = "none" if not seen.anon_vma else "one that nothing else leads to" if other is None else f"that of {_owner(other)}"
    yield Mismatch(
        _HOLDS,
        ("holds", item),
        f"the rmap_item of {named(where)} {what}",
        f"the anon_vma of {_owner(item.anon_vma)}",
        f"{words} ({seen.anon_vma:#x})",
        places=(where,),
        focus=(seen.address,),
        state=seen.anon_vma,
    )


def ancestors(anon_vma: AnonVma) -> set[AnonVma]:
    """Those whose interval trees have all the vmas that its own has (anon_vma_fork), as far as they exist."""
    found = {anon_vma.root}
    while not anon_vma.freed and anon_vma not in found:
        found.add(anon_vma)
        anon_vma = anon_vma.parent
    return found


def _compare_anon_vma(
    match: Match, seen: graph.AnonVma, anon_vma: AnonVma, pairs: Isomorphism, odd: set[Mm]
) -> Iterator[Mismatch]:
    """The vmas in its interval tree, its root and, as long as that is there, its parent."""
    vmas = {match.vmas.get(v) for v in seen.vmas if match.owner(v) not in odd}
    wanted = {vma for vma in anon_vma.vmas if vma.mm not in odd}
    if vmas != wanted:
        missing, more = wanted - vmas - {None}, len([v for v in seen.vmas if match.vmas.get(v) not in anon_vma.vmas])
        yield Mismatch(
            _LEADS,
            ("vmas", anon_vma),
            f"the anon_vma of {_owner(anon_vma)} leads to other vmas than it must",
            f"{len(wanted)} vmas",
            f"{len(seen.vmas)} vmas: {len(missing)} are missing, {more} are not its own",
            places=_starts([v for v in missing if v is not None]),
            focus=(seen.address,),
            state=seen.vmas,
        )
    if pairs.of(seen.root) is not anon_vma.root and not anon_vma.root.freed:
        yield Mismatch(
            _ROOT,
            ("root", anon_vma),
            f"the anon_vma of {_owner(anon_vma)} has another root than it must have",
            f"that of {_owner(anon_vma.root)}",
            f"{seen.root:#x}",
            focus=(seen.address,),
            state=seen.root,
        )
    parent = anon_vma.parent
    if not parent.freed and not parent.unlinked and pairs.of(seen.parent) is not parent:
        yield Mismatch(
            _PARENT,
            ("parent", anon_vma),
            f"the anon_vma of {_owner(anon_vma)} has another parent than it must have",
            f"that of {_owner(parent)}",
            f"{seen.parent:#x}",
            focus=(seen.address,),
            state=seen.parent,
        )


def _owner(anon_vma: AnonVma) -> str:
    """Whose it is: that of the vma which has it, or of the first that is linked in it."""
    own = [vma for vma in anon_vma.vmas if vma.anon_vma is anon_vma] or list(anon_vma.vmas)
    if not own:
        return "a vma that is gone"
    actor, area, _ = place(own[0].mm, own[0].start)
    return f"{actor}.{area}"


def _starts(vmas: list[Vma]) -> tuple[Place, ...]:
    return tuple(sorted(place(v.mm, v.start) for v in vmas))

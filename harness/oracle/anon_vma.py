# SPDX-License-Identifier: GPL-2.0-or-later
"""anon_vmas and how vmas are linked to them (mm/rmap.c of 6.1, include/linux/rmap.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.oracle.address_space import Vma


class AnonVmas:
    """The slab cache: which anon_vmas exist (their number is what /sys/kernel/slab/anon_vma shows of the areas)."""

    def __init__(self) -> None:
        self.live: set[AnonVma] = set()


class AnonVma:
    """``struct anon_vma``: the vmas that may map a page of it, and who holds it."""

    __slots__ = ("cache", "freed", "num_active_vmas", "num_children", "parent", "refcount", "root", "unlinked", "vmas")

    def __init__(self, cache: AnonVmas, parent: AnonVma | None = None) -> None:
        self.cache = cache
        self.root: AnonVma = parent.root if parent else self
        self.parent: AnonVma = parent or self
        # One for being linked; a root has one more for each descendant that exists (anon_vma_fork).
        self.refcount = 1
        self.num_children = 0
        self.num_active_vmas = 0  # vmas whose vma->anon_vma is this one
        self.vmas: dict[Vma, None] = {}  # the interval tree
        self.unlinked = False  # the last vma is gone and the first reference dropped
        self.freed = False
        cache.live.add(self)
        self.parent.num_children += 1  # of itself if it is a root: "self-parent link"
        if parent:
            self.root.refcount += 1

    def get(self) -> None:
        """get_anon_vma: a stable rmap_item holds it."""
        self.refcount += 1

    def put(self) -> None:
        """put_anon_vma, __put_anon_vma: the last reference frees it, and then its hold on the root."""
        self.refcount -= 1
        if self.refcount:
            return
        self.freed = True
        self.cache.live.discard(self)
        if self.root is not self:
            self.root.put()


def prepare(cache: AnonVmas, vma: Vma, reusable: AnonVma | None) -> AnonVma:
    """__anon_vma_prepare: at the first page of a vma; ``reusable`` is what find_mergeable_anon_vma found."""
    if vma.anon_vma is None:
        vma.anon_vma = reusable or AnonVma(cache)
        vma.anon_vma.num_active_vmas += 1
        _link(vma, vma.anon_vma)
    return vma.anon_vma


def _link(vma: Vma, anon_vma: AnonVma) -> None:
    vma.chain.append(anon_vma)
    anon_vma.vmas[vma] = None


def clone(dst: Vma, src: Vma, *, reuses: bool = True) -> None:
    """anon_vma_clone: link ``dst`` wherever ``src`` is linked, oldest first.

    When ``dst`` has no anon_vma of its own yet (fork), one with no vma and fewer than two children is used again, in kernels
    that do so (``reuses``).
    """
    for anon_vma in src.chain:
        _link(dst, anon_vma)
        reuse = reuses and anon_vma.num_children < 2 and anon_vma.num_active_vmas == 0
        if dst.anon_vma is None and src.anon_vma is not None and reuse:
            dst.anon_vma = anon_vma
    if dst.anon_vma is not None:
        dst.anon_vma.num_active_vmas += 1


def fork(child: Vma, parent: Vma, era: str, *, reuses: bool = True) -> None:
    """anon_vma_fork: the child's vma is linked in all of the parent's anon_vmas, and gets one of its own."""
    if parent.anon_vma is None:
        return
    if era == "2.6.33":  # one anon_vma for all relatives
        child.anon_vma = parent.anon_vma
        clone(child, parent)
        return
    clone(child, parent, reuses=reuses)
    if child.anon_vma is None:
        child.anon_vma = AnonVma(parent.anon_vma.cache, parent.anon_vma)
        child.anon_vma.num_active_vmas += 1
        _link(child, child.anon_vma)


def unlink(vma: Vma) -> None:
    """unlink_anon_vmas: take the vma out of its anon_vmas, newest first; those left without a vma lose a reference."""
    empty = []
    for anon_vma in reversed(vma.chain):
        del anon_vma.vmas[vma]
        if not anon_vma.vmas:
            anon_vma.parent.num_children -= 1
            empty.append(anon_vma)
    if vma.anon_vma is not None:
        vma.anon_vma.num_active_vmas -= 1
        vma.anon_vma = None
    vma.chain.clear()
    for anon_vma in empty:
        anon_vma.unlinked = True
        anon_vma.put()

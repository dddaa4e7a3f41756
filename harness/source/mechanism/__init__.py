# SPDX-License-Identifier: GPL-2.0-or-later
"""Does mm/ksm.c hold anon_vmas in its items, and search forks by them?  Told by the code's structure, whatever it is called.

What is looked for is what commit db114b83ab60 ("ksm: hold anon_vma in rmap_item", 2.6.33) brought, in its own form and in those
that it has taken since:

- the item, a structure with an mm, an anon_vma and a link in a list (struct rmap_item, later struct ksm_rmap_item);
- the reference, taken where the item's anon_vma is set, by whatever counts references to an anon_vma up (hold_anon_vma() at
  first, get_anon_vma() since 2.6.38);
- the reference, dropped wherever an item leaves the stable tree: as it is taken off its node's list, as a node goes with all
  its items (since 2.6.33's remove_node_from_stable_tree()), and as a merge is undone (break_cow(), or its callers at first);
- the walks over a node's items and their anon_vmas' vmas: in the owners' mms first, then in others, which are forks (in
  page_referenced_ksm(), try_to_unmap_ksm(), rmap_walk_ksm(); since 3.13 in the last alone).  A walk that makes no difference
  between the two, as collect_procs_ksm() of 6.x, finds forks too.

Functions, structures and variables are known by what they are and do; the fields vm_mm of a vma, and kernel-wide names such as
hlist_del and atomic_dec_and_test, by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.source.mechanism import references, walks
from harness.source.mechanism.ksm import AROUND, KSM, Ksm, Piece, find_item
from harness.source.parts import Parts

__all__ = ["AROUND", "KSM", "Piece", "pieces"]


def pieces(parts: Parts | None, files: Mapping[str, str]) -> list[Piece]:
    """All parts of the mechanism in KSM's source and those files of AROUND that there are.

    The first is the item; without one nothing else can be.  ValueError where the source cannot be followed.
    """
    if parts is None:
        return [Piece("item holds its anon_vma", missing=(f"there is no {KSM}",))]
    item = find_item(parts.text)
    if item is None:
        return [Piece("item holds its anon_vma", missing=(f"no structure of {KSM} has an mm, an anon_vma and a link in a list",))]
    source = Ksm(parts, files, item)
    held = Piece("item holds its anon_vma", (source.place(item.start, f"struct {item.struct}, {item.anon_vma}"),))
    with_node = references.dropped_with_node(source)
    optional = [with_node] if with_node.places or with_node.missing else []
    dropped = [references.dropped_by_item(source), *optional, references.dropped_when_undone(source)]
    return [held, references.taken(source), *dropped, walks.find(source)]

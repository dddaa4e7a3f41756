# SPDX-License-Identifier: GPL-2.0-or-later
"""ksmd: the list of mms, the scan and the unstable tree, and unmerging (mm/ksm.c of 6.1, 6.12, 7.2)."""

from __future__ import annotations

from typing import NamedTuple

from harness.oracle import faults
from harness.oracle.address_space import Mm, Vma
from harness.oracle.memory import Memory, Page, Pte
from harness.oracle.stable_tree import StableTree
from harness.oracle.trees import Item, Key, State

ZEROS = 0  # the content of the page of zeros
LIKE_ZEROS = 1 << 62  # contents from here on to twice that have the checksum of zeros (workloads/lib/contents.c)


# remove_node_from_stable_tree leaves rmap_item->head, and cmp_and_merge_page compares it (docs/findings.md).
STALE_HEAD = "an rmap_item points to where a stable node lay that is gone: if its page's lies there, ksmd passes the item over"


class _Met(NamedTuple):
    """A page that is to be merged, and where ksmd met it."""

    item: Item
    pte: Pte
    page: Page
    vma: Vma


class Ksmd:
    """The daemon between two batches.

    Its cursor (``ksm_scan``) is the mm in which it goes on and the next address there, or stands at the head of the list,
    where a full scan has ended and the next one will begin.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.mms: list[Mm] = []  # ksm_mm_head, without init's anchor, which has no pages
        self.tree = StableTree(
            single_dup_leaves_chain=memory.semantics.single_dup_leaves_chain,
            merge_forgets_checksum=memory.semantics.merge_forgets_checksum,
        )
        if not memory.semantics.has_chains:
            self.tree.max_page_sharing = None
        self.unstable: dict[Key, Item] = {}
        self._blocked: set[int] = set()  # unstable trees that no search gets into
        self.cursor: Mm | None = None  # ksm_scan.mm_slot; None: the list's head
        self.address = 0  # ksm_scan.address: all items from here on are still to be met (ksm_scan.rmap_list)
        self._begun = 0  # number of the operation that began this scan
        self.full_scans = 0
        self.rmap_items = 0
        self.pages_unshared = 0
        self.use_zero_pages = False
        self.smart_scan = memory.setup.smart_scan
        self.failed_merges = 0  # half done and undone again
        self.refused_merges = 0  # with a page of the stable tree, and nothing done
        self.failing: int | None = None  # which of the objects to come, from 1 on, it does not get
        self.pages_scanned = 0
        self.pages_skipped = 0

    @property
    def pages_volatile(self) -> int:
        """pages_volatile_show."""
        return max(0, self.rmap_items - self.tree.pages_shared - self.tree.pages_sharing - self.pages_unshared)

    # The list of mms.

    def enter(self, mm: Mm) -> None:
        """__ksm_enter: right behind the cursor, where ksmd comes last; that is the list's tail between two scans."""
        if not mm.registered:
            mm.registered = True
            self.mms.insert(len(self.mms) if self.cursor is None else self.mms.index(self.cursor), mm)

    def exit(self, mm: Mm) -> None:
        """__ksm_exit: an mm with items is left for ksmd to clean up: at once, if it is not the one at the cursor."""
        if not mm.registered or mm is self.cursor:
            return
        self.mms.remove(mm)
        if mm.items:
            self.mms.insert(0 if self.cursor is None else self.mms.index(self.cursor) + 1, mm)
        else:
            mm.registered = False

    # The scan.

    def scan(self) -> None:
        """To the end of the list: one full scan, or what is left of one."""
        self.batch(-1)

    def batch(self, pages: int) -> bool:
        """ksm_do_scan: so many pages (-1: all), or to the end of the list; true if it came there."""
        if not pages:
            return False
        if any(mm.merge_any for mm in self.mms):
            self.memory.doubt("ksmd scans all memory of a process, of which the journal tells only the areas")
        if self.cursor is None:
            self.tree.forget_moved()
            self.unstable, self._blocked = {}, set()
            self._begun = self.memory.tick
            self.cursor, self.address = next(iter(self.mms), None), 0
        else:
            self._resume()
        while self.cursor is not None:
            pages = self._scan_mm(self.cursor, pages)
            if not pages:
                return False
        self.tree.meet_by_chance()
        self.full_scans += 1
        return True

    def _resume(self) -> None:
        """The unstable tree is searched by what its pages hold now; where that is something else, the search goes astray.

        A page that has moved to another node stays where it is in the tree.  Where there is no page any more, or no mergeable
        one, who meets it gives up (get_mergeable_page): all do if it is the only one.
        """
        for (nid, content), item in self.unstable.items():
            pte, vma = item.mm.ptes.get(item.addr), item.mm.vma_at(item.addr)
            page = pte.page if pte is not None else None
            there = page is not None and vma is not None and vma.flags.mergeable and page.content == content
            if there or item.mm.dead:  # the dead are met before anything is searched
                continue
            if (page is None or vma is None or not vma.flags.mergeable) and sum(key[0] == nid for key in self.unstable) == 1:
                self._blocked.add(nid)
            else:
                self.memory.doubt("a page in the unstable tree changed in the middle of a scan")

    def _scan_mm(self, mm: Mm, pages: int) -> int:
        """scan_get_next_rmap_item from the cursor on, which then stands at the next mm unless no pages are left."""
        start = self.address
        vmas = [] if mm.dead else [v for v in mm.vmas if v.flags.mergeable and v.end > start]
        old = sorted(mm.items if mm.dead else (a for a in mm.items if a >= start))
        i = 0
        for vma in vmas:
            for addr in range(max(start, vma.start), vma.end) if vma.anon_vma is not None else ():
                pte = mm.ptes.get(addr)
                if pte is None or pte.page is None:
                    continue
                while i < len(old) and old[i] < addr:  # skipped over: get_next_rmap_item
                    self._drop(mm.items[old[i]])
                    i += 1
                if i < len(old) and old[i] == addr:
                    i += 1
                item = mm.items.get(addr) or self._new_item(mm, addr)
                if item is None:  # the batch ends (ksm_do_scan), and the next one begins here
                    self.address = addr
                    return 0
                self.address = addr + 1
                if self.smart_scan and self._skips(item, pte.page):
                    continue
                self._cmp_and_merge(item, pte, pte.page, vma)
                pages -= 1
                if not pages:
                    return 0
        for addr in old[i:]:  # remove_trailing_rmap_items
            self._drop(mm.items[addr])
        place = self.mms.index(mm)
        self.cursor, self.address = (self.mms[place + 1] if place + 1 < len(self.mms) else None), 0
        if mm.dead or (not vmas and not start):  # ksm_scan.address is still 0
            del self.mms[place]
            mm.registered = False
        return pages

    def _allocate(self) -> bool:
        """kmem_cache_alloc of an rmap_item or a stable node, which may have been made to fail."""
        if self.failing is None:
            return True
        self.failing -= 1
        if self.failing:
            return True
        self.failing = None
        return False

    def _new_item(self, mm: Mm, addr: int) -> Item | None:
        if not self._allocate():
            return None
        item = mm.items[addr] = Item(mm, addr)
        mm.rmap_items.own += 1
        self.rmap_items += 1
        return item

    def _skips(self, item: Item, page: Page) -> bool:
        """should_skip_rmap_item: the older a page that is not merged, the more scans leave it out."""
        if page.ksm:
            return False
        age, item.age = item.age, min(item.age + 1, 255)
        if age < 3:
            return False
        if not item.skips:
            item.skips = next((skips for limit, skips in ((3, 1), (5, 2), (8, 4)) if age <= limit), 8)
            return False
        item.skips -= 1
        self.pages_skipped += 1
        self._remove_from_tree(item)
        return True

    def _drop(self, item: Item) -> None:
        """free_rmap_item after remove_rmap_item_from_tree."""
        self._remove_from_tree(item)
        del item.mm.items[item.addr]
        item.mm.rmap_items.own -= 1
        self.rmap_items -= 1

    def _remove_from_tree(self, item: Item) -> None:
        """remove_rmap_item_from_tree."""
        if item.state is State.STABLE:
            self.tree.remove_item(item)
        elif item.state is State.UNSTABLE:
            self.pages_unshared -= 1
            item.state = State.NONE
            if item.key is not None and self.unstable.get(item.key) is item:
                del self.unstable[item.key]

    def _cmp_and_merge(self, item: Item, pte: Pte, page: Page, vma: Vma) -> None:
        """cmp_and_merge_page."""
        self.pages_scanned += 1
        if page.nid is None and not self.tree.merge_across_nodes:
            self._lose("pages came back from swap by readahead, to nodes that nothing tells of")
        node = page.node if page.ksm else None
        if node is not None:
            self.tree.notice_move(node)
            if item.node is node and not node.set_aside:
                return
            if item.head_stays:
                self.memory.doubt(STALE_HEAD)
        elif self.memory.semantics.cksum_first:
            self._remove_from_tree(item)
            if not self._settled(item, page) or self._merge_with_zeros(pte, page):
                return
        if node is None and self.memory.semantics.stale_node_ends_search and any(n.stale for n in self.tree.nodes()):
            self._lose("a search of the stable tree may have ended at a node without a page, which this kernel does not pass")
        kpage = self.tree.search(page)
        if kpage is page and item.node is node:
            return
        self._remove_from_tree(item)
        if kpage is not None:
            if self._merge_with(item, pte, page, kpage, vma):
                assert kpage.node is not None
                self.tree.append(item, kpage.node)
                self.tree.mapped_by_fork += kpage is page
            else:
                self.refused_merges += 1
            return
        if not self.memory.semantics.cksum_first and (not self._settled(item, page) or self._merge_with_zeros(pte, page)):
            return
        self._unstable_search_insert(item, pte, page, vma)

    def _lose(self, why: str) -> None:
        """What merges with what cannot be told any more."""
        self.memory.doubt(why)
        for mm in self.mms:
            for pte in mm.ptes.values():
                if pte.page is not None:
                    pte.page.unsure, pte.page.nid = True, pte.page.nid or 0

    def _checksum(self, page: Page) -> int:
        """calc_checksum, as far as it tells contents apart."""
        like_zeros = self.memory.semantics.xxh64_checksum and LIKE_ZEROS <= page.content < 2 * LIKE_ZEROS
        return ZEROS if like_zeros else page.content

    def _settled(self, item: Item, page: Page) -> bool:
        """Has the checksum stayed the same since the last visit?"""
        if item.checksum == self._checksum(page):
            return True
        item.checksum = self._checksum(page)
        return False

    def _merge_with_zeros(self, pte: Pte, page: Page) -> bool:
        """use_zero_pages: the pte maps the page of zeros, and its item stays without a tree."""
        if not self.use_zero_pages or self._checksum(page) != ZEROS:
            return False
        self._split(page)
        if not self._write_protect(pte, page) or page.content != ZEROS:
            return False
        self.memory.unmap(pte)
        pte.zero = pte.ksm_zero = True
        pte.mm.zero_pages += 1
        self.memory.ksm_zero_pages += 1
        self.memory.stamp(pte)
        return True

    def _unstable_search_insert(self, item: Item, pte: Pte, page: Page, vma: Vma) -> None:
        """unstable_tree_search_insert, and what cmp_and_merge_page does with what it finds."""
        key = self.tree.key(page)
        if key[0] in self._blocked:
            return
        if pte.page is not page:
            self._block(key[0], item)
        other = self.unstable.get(key)
        if other is None:
            self.unstable[key] = item
            item.key = key
            item.head_stays = False  # node lies over it
            item.state = State.UNSTABLE
            self.pages_unshared += 1
            return
        tree_pte, tree_vma = other.mm.ptes.get(other.addr), other.mm.vma_at(other.addr)
        if tree_pte is None or tree_pte.page is None or tree_vma is None or not tree_vma.flags.mergeable:
            return  # get_mergeable_page finds none: gone since the batch that put it there
        tree_page = tree_pte.page
        if tree_page is page:  # "Don't substitute a ksm page for a forked page."
            return
        if self.tree.key(tree_page) != key:  # it has been moved to another node since, and is in the right tree next time
            return
        if page.compound is not None and page.compound is tree_page.compound:
            # Both are referenced, so the split that merging needs fails; it is made afterwards, and nothing is merged.
            self._split(page)
            return
        met, found = _Met(item, pte, page, vma), _Met(other, tree_pte, tree_page, tree_vma)
        stays, goes = (met, found) if self.memory.semantics.met_last_stays else (found, met)
        if self._merge_two(stays, goes):
            node = self.tree.insert(stays.page, self._allocate)
            if node is None:
                self.failed_merges += 1
                self._break_cow(other)
                self._break_cow(item)
                return
            self.tree.append(other, node)
            self.tree.append(item, node)

    def _block(self, nid: int, item: Item) -> None:
        """A page of zeros that left its pte as its huge page was split is in the unstable tree, or comes there.

        Whoever meets it there finds no page (get_mergeable_page) and gives up: all do if it is the root.
        """
        if any(key[0] == nid and other is not item for key, other in self.unstable.items()):
            self._lose("a page that is gone stands in the middle of the unstable tree")
        else:
            self._blocked.add(nid)

    def _merge_two(self, stays: _Met, goes: _Met) -> bool:
        """try_to_merge_two_pages: one page becomes the KSM page, then takes the other's place; or is undone."""
        if not self._merge_with(stays.item, stays.pte, stays.page, None, stays.vma):
            self.failed_merges += 1
            return False
        if self._merge_with(goes.item, goes.pte, goes.page, stays.page, goes.vma):
            return True
        self.failed_merges += 1
        self._break_cow(stays.item)
        return False

    def _merge_with(self, item: Item, pte: Pte, page: Page, kpage: Page | None, vma: Vma) -> bool:
        """try_to_merge_with_ksm_page; on success the item holds the vma's anon_vma."""
        if not self._merge_one(pte, page, kpage):
            return False
        self._remove_from_tree(item)
        assert vma.anon_vma is not None
        item.anon_vma = vma.anon_vma
        item.anon_vma.get()
        return True

    def _merge_one(self, pte: Pte, page: Page, kpage: Page | None) -> bool:
        """try_to_merge_one_page."""
        if page is kpage:  # "ksm page forked"
            return True
        self._split(page)
        memory = self.memory
        if not page.ksm and page.when > self._begun:
            memory.doubt("a page that came in the middle of a scan may still be in a pagevec, and is not merged then")
        if not self._write_protect(pte, page):
            return False
        if kpage is None:
            page.ksm = True
            page.referenced = True if page.referenced is False else None  # mark_page_accessed, the second of which activates
            page.by, page.when = memory.op, memory.tick
            return True
        if kpage.content != page.content:
            return False
        memory.unmap(pte)
        memory.map(pte, kpage)
        return True

    def _split(self, page: Page) -> None:
        """split_huge_page, which fails when somebody else has a reference to any of its parts."""
        if page.compound is None or any(part.extra_refs for part in page.compound.parts):
            return
        self.memory.split_huge(page)
        for (nid, _), item in self.unstable.items():
            pte = item.mm.ptes.get(item.addr)
            if pte is not None and pte.zero:
                self._block(nid, item)

    @staticmethod
    def _write_protect(pte: Pte, page: Page) -> bool:
        """write_protect_page: fails when somebody else has a reference; who could not write is not asked."""
        if page.compound is not None or pte.page is not page:
            return False
        if page.ksm:  # not in the tree: page_address_in_vma finds no anon_vma
            return False
        if (pte.dirty or page.exclusive) and page.extra_refs:
            return False
        page.exclusive = False
        pte.dirty = False
        return True

    # Unmerging.

    def _break_cow(self, item: Item) -> None:
        """break_cow: undo a merge, and put the anon_vma that it took."""
        self.tree.put_anon_vma(item)
        vma = item.mm.vma_at(item.addr)
        if vma is not None and vma.flags.mergeable and vma.anon_vma is not None:
            self.break_ksm(vma, item.addr, item.addr + 1)

    def break_ksm(self, vma: Vma, start: int, end: int, copies: int | None = None) -> int:
        """unmerge_ksm_pages, break_ksm: a write fault on each pte of the range that maps a KSM page; returns how many.

        With ``copies`` there is no page for more than so many; the fault that does not get one counts too (do_wp_page).
        """
        broken = 0
        for pte in list(vma.mm.ptes_in(start, end)):
            if pte.page is not None and pte.page.ksm:
                if broken == copies:
                    self.memory.cow_ksm += 1
                    return broken + 1
                broken += 1
                faults.wp_fault(self.memory, pte, vma)
            elif pte.ksm_zero and self.memory.semantics.has_zero_pages_counter:
                self.memory.new_page(pte, vma, ZEROS)
        return broken

    def unmerge_all(self, copies: int | None = None) -> None:
        """unmerge_and_remove_all_rmap_items, when 2 is written to run.  Swapped ptes stay as they are.

        With ``copies`` there is no page for more than so many: it ends there, in the middle of an mm.
        """
        for mm in list(self.mms):
            for vma in [] if mm.dead else mm.vmas:
                if vma.flags.mergeable and vma.anon_vma is not None:
                    broken = self.break_ksm(vma, vma.start, vma.end, copies)
                    if copies is not None:
                        copies -= broken
                        if copies < 0:
                            self.cursor = None
                            return
            for addr in sorted(mm.items):
                self._drop(mm.items[addr])
            if mm.dead:
                self.mms.remove(mm)
                mm.registered = False
        if self.memory.semantics.unmerging_empties_tree:
            self.tree.remove_unmapped()
        self.cursor = None
        self.full_scans = 0

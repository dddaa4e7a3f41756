# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources of KSM's rmap in the forms that it has had, made up."""

from __future__ import annotations

ITEM = """
struct mm_slot { struct hlist_node link; struct mm_struct *mm; };

struct rmap_item {
	struct rmap_item *next;
	union {
		struct anon_vma *anon_vma;	/* when stable */
		int nid;
	};
	struct mm_struct *mm;
	unsigned long address;
	union {
		struct rb_node node;
		struct { struct stable_node *head; struct hlist_node hlist; };
	};
};
"""

# As since 2.6.38: references by get_anon_vma and put_anon_vma, one walk for all, a node that goes with its items.
LATE = {
    "include/linux/rmap.h": """
static inline void get_anon_vma(struct anon_vma *anon_vma)
{
	atomic_inc(&anon_vma->refcount);
}
static inline void put_anon_vma(struct anon_vma *anon_vma)
{
	if (atomic_dec_and_test(&anon_vma->refcount))
		__put_anon_vma(anon_vma);
}
""",
    "mm/ksm.c": ITEM
    + """
static void break_cow(struct rmap_item *rmap_item)
{
	struct mm_struct *mm = rmap_item->mm;

	put_anon_vma(rmap_item->anon_vma);
	mmap_read_lock(mm);
	unshare(mm, rmap_item->address);
	mmap_read_unlock(mm);
}

static void remove_node_from_stable_tree(struct stable_node *stable_node)
{
	struct rmap_item *rmap_item;

	hlist_for_each_entry(rmap_item, &stable_node->hlist, hlist) {
		rmap_item->mm->merging--;
		put_anon_vma(rmap_item->anon_vma);
		rmap_item->address &= PAGE_MASK;
		trace_removed(rmap_item, rmap_item->mm);
	}
}

static void remove_rmap_item_from_tree(struct rmap_item *rmap_item)
{
	if (rmap_item->address & STABLE_FLAG) {
		hlist_del(&rmap_item->hlist);
		put_anon_vma(rmap_item->anon_vma);
		rmap_item->head = NULL;
	}
}

static int try_to_merge_with_ksm_page(struct rmap_item *rmap_item, struct page *page)
{
	struct vm_area_struct *vma = find(rmap_item);

	if (merge_one(vma, page))
		return -EFAULT;
	rmap_item->anon_vma = vma->anon_vma;
	get_anon_vma(vma->anon_vma);
	return 0;
}

static void cmp_and_merge_page(struct rmap_item *rmap_item, struct page *page)
{
	if (try_to_merge_with_ksm_page(rmap_item, page))
		break_cow(rmap_item);
}

void rmap_walk_ksm(struct folio *folio, struct rmap_walk_control *rwc)
{
	struct stable_node *stable_node = folio_stable_node(folio);
	struct rmap_item *rmap_item;
	int search_new_forks = 0;

again:
	hlist_for_each_entry(rmap_item, &stable_node->hlist, hlist) {
		struct anon_vma *anon_vma = rmap_item->anon_vma;
		struct anon_vma_chain *vmac;
		struct vm_area_struct *vma;

		anon_vma_lock_read(anon_vma);
		anon_vma_interval_tree_foreach(vmac, &anon_vma->rb_root, 0, ULONG_MAX) {
			vma = vmac->vma;
			if ((rmap_item->mm == vma->vm_mm) == search_new_forks)
				continue;
			if (!rwc->rmap_one(folio, vma, rmap_item->address, rwc->arg))
				return;
		}
		anon_vma_unlock_read(anon_vma);
	}
	if (!search_new_forks++)
		goto again;
}

void collect_procs_ksm(struct folio *folio, struct list_head *to_kill)
{
	struct stable_node *stable_node = folio_stable_node(folio);
	struct rmap_item *rmap_item;

	hlist_for_each_entry(rmap_item, &stable_node->hlist, hlist) {
		struct anon_vma *av = rmap_item->anon_vma;

		for_each_process(tsk) {
			struct anon_vma_chain *vmac;

			anon_vma_interval_tree_foreach(vmac, &av->rb_root, 0, ULONG_MAX)
				if (vmac->vma->vm_mm == tsk->mm)
					add_to_kill(tsk, vmac->vma, to_kill);
		}
	}
}
""",
}

# As in 2.6.33's first form: a counter of KSM's own, callers that drop before they undo, a walk for each purpose.
EARLY = {
    "mm/ksm.c": ITEM
    + """
static void hold_anon_vma(struct rmap_item *rmap_item, struct anon_vma *anon_vma)
{
	rmap_item->anon_vma = anon_vma;
	atomic_inc(&anon_vma->ksm_refcount);
}

static void drop_anon_vma(struct rmap_item *rmap_item)
{
	struct anon_vma *anon_vma = rmap_item->anon_vma;

	if (atomic_dec_and_lock(&anon_vma->ksm_refcount, &anon_vma->lock)) {
		spin_unlock(&anon_vma->lock);
		anon_vma_free(anon_vma);
	}
}

static void break_cow(struct rmap_item *rmap_item)
{
	down_read(&rmap_item->mm->mmap_sem);
	break_ksm(rmap_item->mm, rmap_item->address);
	up_read(&rmap_item->mm->mmap_sem);
}

static void remove_rmap_item_from_tree(struct rmap_item *rmap_item)
{
	hlist_del(&rmap_item->hlist);
	drop_anon_vma(rmap_item);
	rmap_item->address &= PAGE_MASK;
}

static int try_to_merge(struct rmap_item *rmap_item, struct rmap_item *tree_rmap_item, struct vm_area_struct *vma)
{
	hold_anon_vma(rmap_item, vma->anon_vma);
	if (insert(rmap_item)) {
		drop_anon_vma(tree_rmap_item);
		break_cow(tree_rmap_item);
		drop_anon_vma(rmap_item);
		break_cow(rmap_item);
	}
	return 0;
}
"""
    + "".join(
        f"""
int {name}(struct page *page)
{{
	struct stable_node *stable_node = page_stable_node(page);
	struct rmap_item *rmap_item;
	struct hlist_node *hlist;
	int ret = 0;
	int search_new_forks = 0;
again:
	hlist_for_each_entry(rmap_item, hlist, &stable_node->hlist, hlist) {{
		struct anon_vma *anon_vma = rmap_item->anon_vma;
		struct vm_area_struct *vma;

		list_for_each_entry(vma, &anon_vma->head, anon_vma_node) {{
			if ((rmap_item->mm == vma->vm_mm) == search_new_forks)
				continue;
			ret = {one}(page, vma, rmap_item->address);
		}}
	}}
	if (!search_new_forks++)
		goto again;
	return ret;
}}
"""
        for name, one in (("page_referenced_ksm", "page_referenced_one"), ("try_to_unmap_ksm", "try_to_unmap_one"))
    ),
}

# As before the patch: the items' own mms, and no anon_vma.
BEFORE = {
    "mm/ksm.c": ITEM.replace("struct anon_vma *anon_vma;", "unsigned long filler;")
    + """
int try_to_unmap_ksm(struct page *page)
{
	struct rmap_item *rmap_item;
	struct hlist_node *hlist;

	hlist_for_each_entry(rmap_item, hlist, &page_stable_node(page)->hlist, hlist) {
		vma->vm_mm = rmap_item->mm;
		vma->vm_start = rmap_item->address;
		try_to_unmap_one(page, vma, rmap_item->address);
	}
	return 0;
}
"""
}

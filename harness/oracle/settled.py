# SPDX-License-Identifier: GPL-2.0-or-later
"""What KSM's counters must say when full scans change nothing any more, by a census.

After run=2 and scans of memory that nobody touches there are no KSM pages without a node, and all is exact.  After a roam
there may be some, as many as there are KSM frames without a stable node (``nodeless``): then each number has bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from harness.findings import Tier
from harness.oracle.census import Census, CensusPte, places_of
from harness.oracle.judge import Difference, pages
from harness.oracle.nodeless import Bounds, Nodeless
from harness.oracle.records import Fields, decimal

_WHY = {
    "pages_shared": "stable nodes with an item: after full scans, KSM frames in mergeable vmas (stable_tree_append)",
    "pages_sharing": "stable items beyond the first of each node: mergeable ptes of KSM frames (stable_tree_append)",
    "pages_unshared": "items in the unstable tree: one for each frame that has found no equal (unstable_tree_search_insert)",
    "pages_volatile": "rmap_items in neither tree: further ptes of a frame that is in the unstable tree (pages_volatile_show)",
    "ksm_rmap_item": "one object for each present anonymous page in a mergeable vma (alloc_rmap_item, free_rmap_item)",
}


def judge_settled(census: Census, nodeless: Nodeless, obs: Fields) -> Iterator[Difference]:
    """ksmd's counters, after full scans that changed nothing any more."""
    merged, plain = census.merged_frames(), census.plain_frames()
    files = obs.record("ksm")
    bounds = _counters(census, nodeless, len(merged), plain)
    seen = {name: decimal(files.get(name)) for name in bounds}
    all_items, told = census.items(), [number for number in seen.values() if number is not None]
    if nodeless.count and len(told) == len(bounds) and sum(told) != all_items:
        low, high = bounds["pages_volatile"]
        rest = all_items - sum(told) + (seen["pages_volatile"] or 0)
        bounds["pages_volatile"] = max(low, rest), min(high, rest)
    slab = obs.data.get("slab")
    if isinstance(slab, Mapping) and slab.get("ksm_rmap_item") is not None:
        bounds["ksm_rmap_item"], seen["ksm_rmap_item"] = (all_items, all_items), decimal(slab["ksm_rmap_item"])
    for name, (low, high) in bounds.items():
        number = seen[name]
        if number is None or low <= number <= high:
            continue
        leak, range_ = name == "ksm_rmap_item", str(low) if low == high else f"{low} to {high}"
        yield Difference(
            kind="item-leak" if leak else f"counter-{name}", op="settle", tier=Tier.ACCOUNTING, prop="P6" if leak else "P14",
            summary=f"{name} is {number} where a census of all ptes gives {range_}", expected=f"{name} {range_}",
            seen=f"{name} {number}", why=_WHY[name],
        )  # fmt: skip
    yield from _judge_left_alone(census, nodeless, merged, plain, decimal(files.get("max_page_sharing")))


def _counters(census: Census, nodeless: Nodeless, shared: int, plain: Mapping[int, CensusPte]) -> dict[str, Bounds]:
    """Each counter's least and greatest value; the same if every KSM page has a node."""
    items, stable = census.items(), census.stable_items()
    frames, (few, many), unshared = nodeless.frames()[0], nodeless.items(), nodeless.unshared(plain)
    nodes = shared - frames
    return {
        "pages_shared": (nodes, nodes),
        "pages_sharing": (stable - many - nodes, stable - few - nodes),
        "pages_unshared": unshared,
        "pages_volatile": (items - (stable - few) - unshared[1], items - (stable - many) - unshared[0]),
    }


def _judge_left_alone(
    census: Census, nodeless: Nodeless, merged: Mapping[int, int], plain: Mapping[int, CensusPte], limit: int | None
) -> Iterator[Difference]:
    """Equal pages that ksmd comes to are merged, all but one where no node of their content has room."""
    room = {census.frames[pfn][0].tag for pfn, n in merged.items() if limit is None or n < limit}
    alike = Counter(pte.tag for pte in plain.values())
    left = [pte for pte in plain.values() if alike[pte.tag] > 1 or pte.tag in room]
    # ksmd tries to merge with a page without a node in vain, scan after scan.
    excused = {pte.tag for pte in left} & nodeless.contents
    if len(excused) <= nodeless.frames()[1]:
        left = [pte for pte in left if pte.tag not in excused]
    if left:
        yield Difference(
            kind="not-ksm", op="settle", tier=Tier.ACCOUNTING, prop="P14", places=places_of(left),
            summary=f"{pages(len(left))} are not merged with equal pages that ksmd has met, scan after scan",
            expected="one KSM page for equal contents", seen="plain pages of their own",
            why="cmp_and_merge_page finds a node of this content with room (is_page_sharing_candidate), or an equal page in the "
            "unstable tree",
        )  # fmt: skip

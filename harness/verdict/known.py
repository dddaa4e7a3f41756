# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports that a correct KSM gets from a check of the kernel's own which is wrong: data, each with its source.

Such a report stops the guest like any other, so the workload is not judged, and its reason says which one it was.  An entry
fits one report: the check by its words, and the way to it by its functions.  What does not fit wholly is a crash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.results import CrashReport


@dataclass(frozen=True)
class KnownDefect:
    """``lines`` are regular expressions that match in the report's text one behind the other."""

    summary: str
    lines: tuple[str, ...]


# docs/findings.md has the reasoning ("A debugging check that stops a correct kernel", "A warning about a page that is rightly
# mapped").
KNOWN = (
    KnownDefect(
        "VM_BUG_ON_PAGE(PageKsm(page)) in vma_address(), where ksmd has made the page a KSM page while folio_referenced(), "
        "which does not lock an ordinary anonymous page, walks its ptes (mm/rmap.c, mm/internal.h of 6.1; docs/findings.md)",
        (
            r"page dumped because: VM_BUG_ON_PAGE\(PageKsm\(page\)\)",
            r"kernel BUG at \S*mm/internal\.h:\d+!",
            r"\brmap_walk_anon\+0x",
            r"\bfolio_referenced\+0x",
            r"\bshrink_active_list\+0x",
        ),
    ),
    KnownDefect(
        "WARN_ON_ONCE(page_mapped(page)) in remove_stable_node() at run=2 or where a knob of the trees is turned, of a page that "
        "a process maps which ksmd does not scan (mm/ksm.c of 3.9 to 5.3, without 9a63236f1ad8; docs/findings.md)",
        (
            r"WARNING: [^\n]*mm/ksm\.c:\d+ remove_stable_node\+0x",
            r"\b(?:run|max_page_sharing|merge_across_nodes)_store\+0x",
        ),
    ),
)  # fmt: skip


def known_defect(report: CrashReport) -> KnownDefect | None:
    """The entry that fits the report."""
    for defect in KNOWN:
        at = 0
        for line in defect.lines:
            match = re.compile(line).search(report.text, at)
            if match is None:
                break
            at = match.end()
        else:
            return defect
    return None

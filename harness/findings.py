# SPDX-License-Identifier: GPL-2.0-or-later
"""What the oracle says when prediction and observation differ."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Tier(enum.StrEnum):
    """How serious a finding is."""

    SAFETY = "safety"  # content, unmap, leak, crash
    ACCOUNTING = "accounting"  # counters
    HEURISTIC = "heuristic"  # ageing, cost


@dataclass(frozen=True)
class Finding:
    """One difference between what the model predicts and what the guest observed.

    ``prop`` is the property that is broken ("P1"), ``kind`` a short word for how ("still-mapped", "counter",
    "content", "leak", …), ``op`` the kind of the operation after which it shows ("reclaim").  These three make the
    signature, which therefore holds no numbers, names of processes or addresses.
    """

    prop: str
    kind: str
    op: str
    tier: Tier
    workload: str
    seq: int  # record of the journal at which it shows
    summary: str  # one line in an mm developer's words
    expected: str
    seen: str
    why: str
    actors: tuple[str, ...] = ()
    pages: str = ""  # for example "C.a[0..255]"
    follows: bool = False  # may be a mere consequence of an earlier finding of the same workload

    @property
    def signature(self) -> str:
        """The same on every target and run, so that twelve cells with one cause are one problem."""
        return f"{self.prop}:{self.kind}:{self.op}"

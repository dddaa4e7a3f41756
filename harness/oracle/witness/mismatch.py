# SPDX-License-Identifier: GPL-2.0-or-later
"""One thing in the kernel's memory that is not as it must be, and how such things become differences."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from harness.findings import Tier
from harness.oracle.judge import Difference, Places

Place = tuple[str, str, int]
"""A page of an area: actor, area, index."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold: ``kind`` is what findings call a breach of it, ``why`` names the kernel's code that makes it hold."""

    kind: str
    why: str
    tier: Tier = Tier.SAFETY


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A rule is broken.  It is told at the first look that shows it, and again only when its ``state`` is another."""

    rule: Rule
    subject: Hashable  # what it is of, the same at each look
    text: str  # a clause
    expected: str
    seen: str
    places: tuple[Place, ...] = ()
    focus: tuple[int, ...] = ()  # addresses of what is to be marked in a drawing
    state: Hashable = None


def differences(mismatches: Iterable[Mismatch], op: str, after: str) -> list[Difference]:
    """One difference for each kind.  ``after`` names the operation, ``op`` its kind."""
    kinds: dict[str, list[Mismatch]] = {}
    for mismatch in mismatches:
        kinds.setdefault(mismatch.rule.kind, []).append(mismatch)
    return [_difference(kind, found, op, after) for kind, found in kinds.items()]


def _difference(kind: str, found: list[Mismatch], op: str, after: str) -> Difference:
    first, places = found[0], Places()
    for place in dict.fromkeys(p for mismatch in found for p in mismatch.places):
        places.add(*place)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Difference(
        kind=kind,
        op=op,
        tier=first.rule.tier,
        places=places,
        expected=first.expected,
        seen=first.seen,
        why=first.rule.why,
        summary=f"{first.text}{more}, after {after}",
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""What people have found out about survivors, in a file of their own (TOML)::

["rmap_walk_ksm.drop.3fa2c1"]
verdict = "equivalent"        # or "gap", "not observable"
reason = "why, from the kernel's source"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import tomlfile
from harness.errors import UsageError

EQUIVALENT = "equivalent"  # no program can tell it from the unmodified kernel
GAP = "gap"  # a workload or a rule of the model could catch it, and none does yet
NOT_OBSERVABLE = "not observable"  # differs, but in nothing that a guest could be asked for (time, say)
VERDICTS = (EQUIVALENT, GAP, NOT_OBSERVABLE)


@dataclass(frozen=True)
class Argument:
    """What is argued of one mutant."""

    verdict: str
    reason: str


def _entry(name: str, data: object, path: Path) -> Argument:
    if not isinstance(data, dict) or not data.keys() <= {"verdict", "reason"}:
        raise UsageError(f'{path}: ["{name}"] must have verdict and reason, and nothing else')
    verdict, reason = data.get("verdict"), data.get("reason")
    if verdict not in VERDICTS:
        raise UsageError(f'{path}: ["{name}"].verdict is {verdict!r}; write one of {", ".join(VERDICTS)}')
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f'{path}: ["{name}"] gives no reason')
    return Argument(verdict, " ".join(reason.split()))


def load(path: Path | None) -> Mapping[str, Argument]:
    """Arguments by the mutants' names.  UsageError names file and entry."""
    if path is None:
        return {}
    data = tomlfile.read(path)
    return {name: _entry(name, value, path) for name, value in data.items()}

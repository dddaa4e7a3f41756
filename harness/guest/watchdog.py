# SPDX-License-Identifier: GPL-2.0-or-later
"""When to stop waiting for a guest: a pure function of what was seen and of the time."""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

from harness.guest.plan import Limits


class Bark(enum.StrEnum):
    """Which deadline has passed."""

    TOKEN = "no token from init"
    SILENCE = "no token from init, and nothing on the console"
    PROGRESS = "no record in the journal"
    WORKLOAD = "the workload takes too long"
    BOOT = "the boot takes too long"
    POWEROFF = "the guest does not power itself off"


@dataclass(frozen=True)
class Seen:
    """The times of what was seen, in seconds of one monotonic clock; None: not yet."""

    started: float
    console: float  # last byte
    hello: float | None = None
    record: float | None = None  # last record of the journal, or last command to the guest
    workload: float | None = None  # command to run the current workload
    poweroff: float | None = None  # command to power off

    def later(self, seconds: float) -> Seen:
        """The same with a time left out in which the guest was paused: all of it happened that much later."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Seen(**{name: at + seconds for name, at in moved.items() if at is not None})


@dataclass(frozen=True)
class Overdue:
    """A deadline that has passed."""

    bark: Bark
    seconds: float  # the deadline, scaled

    def __str__(self) -> str:
        return f"{self.bark} for {self.seconds:.0f} s"


def slowness(boot_seconds: float, expected: float) -> float:
    """How much slower than an idle machine the guest is, from its time to hello; never below 1."""
    return max(1.0, boot_seconds / expected) if expected > 0 else 1.0


def check(now: float, seen: Seen, scale: float, limits: Limits) -> Overdue | None:
    """The deadline that has passed, None to go on.

    Before hello the guest's slowness is unknown, and ``scale`` stands for nothing.
    """
    if seen.hello is None:
        tests = [(Bark.SILENCE, max(seen.started, seen.console), limits.silence), (Bark.TOKEN, seen.started, limits.token)]
    elif seen.poweroff is not None:
        tests = [(Bark.POWEROFF, seen.poweroff, limits.poweroff * scale)]
    else:
        tests = [(Bark.BOOT, seen.started, limits.boot * scale)]
        if seen.workload is not None:
            last = max(seen.workload, seen.record or seen.hello)
            tests[:0] = [(Bark.PROGRESS, last, limits.progress * scale), (Bark.WORKLOAD, seen.workload, limits.workload * scale)]
    for bark, since, allowed in tests:
        if now - since >= allowed:
            return Overdue(bark, allowed)
    return None

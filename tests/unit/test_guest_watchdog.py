# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest

from harness.guest.plan import Limits
from harness.guest.watchdog import Bark, Seen, check, slowness

LIMITS = Limits(token=100, silence=30, progress=10, workload=50, boot=200, poweroff=5)
BOOTING = Seen(started=1000, console=1000)
RUNNING = Seen(started=1000, console=1002, hello=1002, record=1003, workload=1003)


@pytest.mark.parametrize(
    ("now", "seen", "scale", "bark"),
    [
        (1029, BOOTING, 1, None),
        (1030, BOOTING, 1, Bark.SILENCE),
        (1050, replace(BOOTING, console=1049), 1, None),
        (1100, replace(BOOTING, console=1099), 1, Bark.TOKEN),
        (1012, RUNNING, 1, None),
        (1013, RUNNING, 1, Bark.PROGRESS),
        (1013, replace(RUNNING, console=1013), 1, Bark.PROGRESS),  # a console that talks is no progress
        (1013, RUNNING, 3, None),
        (1033, RUNNING, 3, Bark.PROGRESS),
        (1053, replace(RUNNING, record=1052), 1, Bark.WORKLOAD),
        (1053, replace(RUNNING, record=1052), 2, None),
        (1060, replace(RUNNING, record=1003, workload=1055), 1, None),  # the command itself counts
        (1200, replace(RUNNING, record=1199, workload=1195), 1, Bark.BOOT),
        (1300, replace(RUNNING, poweroff=1296), 1, None),
        (1301, replace(RUNNING, poweroff=1296), 1, Bark.POWEROFF),
        (1301, replace(RUNNING, poweroff=1296), 2, None),
        (1100, replace(RUNNING, workload=None), 1, None),  # between workloads only the boot counts
    ],
)
def test_deadlines(now: float, seen: Seen, scale: float, bark: Bark | None) -> None:
    overdue = check(now, seen, scale, LIMITS)
    assert (overdue.bark if overdue else None) == bark


def test_words() -> None:
    assert str(check(1033, RUNNING, 3, LIMITS)) == "no record in the journal for 30 s"


@pytest.mark.parametrize(("took", "expected", "scale"), [(0.5, 1.0, 1.0), (1.0, 1.0, 1.0), (60.0, 1.2, 50.0), (3.0, 0.0, 1.0)])
def test_slowness(took: float, expected: float, scale: float) -> None:
    assert slowness(took, expected) == pytest.approx(scale)


def test_the_time_that_a_guest_is_paused_counts_against_no_deadline() -> None:
    seen = Seen(started=0, console=1, hello=2, record=100, workload=50)
    assert seen.later(1000) == Seen(started=1000, console=1001, hello=1002, record=1100, workload=1050)
    assert check(1101, seen, 1.0, Limits()) is not None
    assert check(1101, seen.later(1000), 1.0, Limits()) is None

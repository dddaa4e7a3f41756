# SPDX-License-Identifier: GPL-2.0-or-later
"""What a configuration (a file of kconfigs/) wants of the guest, beside its kernel's config: lines ``KEY: VALUE`` in that file.

    guest: KEY=VALUE      init's business (guest-images/settings.c): it finds harness.KEY=VALUE on the kernel's command line
    boot: WORD            one more kernel parameter
    smp: N                CPUs, at least
    memory: FACTOR        times the target's memory, at least
    patience: FACTOR      on all deadlines
    with: NAME            another such file comes with this one (harness.kernel.fragments.included)

Several configurations may want the same; what they cannot have is two values of one ``guest:`` setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.kernel.fragments import SETTING, read_text

_PAIR = re.compile(r"(?P<key>[a-z][a-z0-9_]*)=(?P<value>[\w.+-]+)")
_WORD = re.compile(r"[^\s\"]+")
_NUMBERS = {"smp": (1, 256), "memory": (1, 64), "patience": (1, 1000)}


@dataclass(frozen=True)
class Settings:
    """All that the configurations of a run want of its guests."""

    guest: tuple[tuple[str, str], ...] = ()
    boot: tuple[str, ...] = ()
    smp: int = 0  # 0: the target's own
    memory: float = 1.0
    patience: float = 1.0

    @property
    def parameters(self) -> tuple[str, ...]:
        """Words for the kernel's command line."""
        return (*self.boot, *(f"harness.{key}={value}" for key, value in self.guest))


def read(paths: Iterable[Path]) -> Settings:
    """The settings of all these files.  UsageError names the line that is wrong, or the two that contradict one another."""
    guest: dict[str, tuple[str, str]] = {}  # by key: value and where it stands
    boot: list[str] = []
    numbers = {"smp": 0.0, "memory": 1.0, "patience": 1.0}
    for path in paths:
        for where, key, value in _lines(path):
            if key == "guest" and (pair := _PAIR.fullmatch(value)):
                first = guest.setdefault(pair["key"], (pair["value"], where))
                if first[0] != pair["value"]:
                    raise UsageError(
                        f"{pair['key']}: {first[1]} wants {first[0]}, but {where} wants {pair['value']}; take one of the two out"
                    )
            elif key == "boot" and _WORD.fullmatch(value):
                boot += [value] if value not in boot else []
            elif key in numbers:
                numbers[key] = max(numbers[key], _number(key, value, where))
            elif key != "with":
                raise UsageError(
                    f"{where}: {key}: {value} is no setting; there are guest: KEY=VALUE, boot:, smp:, memory: and patience:"
                )
    pairs = tuple((key, value) for key, (value, _) in guest.items())
    return Settings(pairs, tuple(boot), int(numbers["smp"]), numbers["memory"], numbers["patience"])


def _lines(path: Path) -> list[tuple[str, str, str]]:
    text = read_text(path)
    name = path.stem if path.suffix == ".config" else path.name
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := SETTING.fullmatch(line.partition(" #")[0].strip()):
            found.append((f"{name}:{number}", match["key"], match["value"]))
    return found


def _number(key: str, value: str, where: str) -> float:
    low, high = _NUMBERS[key]
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not low <= number <= high or (key == "smp" and number != int(number)):
        raise UsageError(f"{where}: {key}: {value} is not a number from {low} to {high}")
    return number

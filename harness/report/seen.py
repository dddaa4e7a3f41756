# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen of many kernels on many targets: several runs as one table (docs/kernels.md)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.report.markdown import escaped, table
from harness.results import CellResult, RunResult, Verdict, WorkloadResult


@dataclass(frozen=True)
class _Seen:
    """A cell, and what its run says of it."""

    kernel: str  # the column
    cell: CellResult
    run: RunResult

    @property
    def day(self) -> str:
        """ISO 8601."""
        return self.run.started.partition("T")[0]


class _Notes:
    """Reasons, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """That of a reason; the same reason has the same number."""
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    def text(self) -> str:
        """A numbered list."""
        return "".join(f"{number}. {escaped(text)}\n" for text, number in self._numbers.items())


def describe(runs: Iterable[RunResult], fragments: Mapping[str, Sequence[str]]) -> str:
    """Markdown: a row for each target, a column for each kernel, of several runs of one the newest; then why not all passed.

    ``fragments``: by target, those of its own, which say nothing of a kernel's configuration.
    """
    seen: dict[tuple[str, str], _Seen] = {}
    for run in sorted(runs, key=lambda run: run.started):
        for cell in run.cells:
            kernel = _kernel(run, cell, fragments.get(cell.target))
            seen[cell.target, kernel] = _Seen(kernel, cell, run)
    kernels = sorted({kernel for _, kernel in seen}, key=_by_number)
    known = list(fragments)
    targets = sorted({t for t, _ in seen}, key=lambda t: (known.index(t) if t in known else len(known), t))
    notes = _Notes()
    rows = [[target, *(_cell(seen.get((target, kernel)), notes) for kernel in kernels)] for target in targets]
    parts = [table(["target", *kernels], rows)]
    if text := notes.text():
        parts.append(text)
    parts.append(table(["kernel", "seen", "by", "compiler", "QEMU"], [_circumstances(k, seen.values()) for k in kernels]))
    return "\n".join(parts)


def _kernel(run: RunResult, cell: CellResult, own: Sequence[str] | None) -> str:
    """What the column is called: the kernel as it was named, what it is, and its configuration if that is not the usual one."""
    more = [name for name in cell.facts.get("configuration", "").split() if own is not None and name not in own]
    return ", ".join([run.kernel, *filter(None, [cell.facts.get("release", "")]), *more])


def _by_number(kernel: str) -> list[tuple[int, str]]:
    """Words in alphabetical order, numbers by their size: 6.1 before 6.12."""
    return [(int(n or 0), word) for word, n in re.findall(r"([^0-9]+)|([0-9]+)", kernel)]


def _cell(seen: _Seen | None, notes: _Notes) -> str:
    if seen is None:
        return ""
    counts = Counter(w.verdict for w in seen.cell.tests)
    words = []
    for verdict in Verdict:
        if not counts[verdict]:
            continue
        numbers = {notes.number(_why(w)) for w in seen.cell.tests if w.verdict is verdict is not Verdict.PASS}
        words.append(f"{counts[verdict]} {verdict}" + "".join(f" [{n}]" for n in sorted(numbers)))
    return ", ".join(words)


def _why(workload: WorkloadResult) -> str:
    signatures = ", ".join(dict.fromkeys(f.signature for f in workload.findings if not f.follows))
    return f"{workload.workload}, {workload.verdict}: {signatures or workload.reason or 'no reason given'}"


def _circumstances(kernel: str, seen: Iterable[_Seen]) -> list[str]:
    mine = [s for s in seen if s.kernel == kernel]
    days = sorted({s.day for s in mine})
    compilers = dict.fromkeys(_compiler(s.cell.facts.get("compiler", "")) for s in mine)
    qemus = dict.fromkeys(s.cell.facts.get("qemu", "").removeprefix("QEMU emulator version ") for s in mine)
    versions = dict.fromkeys(f"ksm-harness {s.run.version}" for s in mine)
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return [kernel, when, *("; ".join(filter(None, texts)) for texts in (versions, compilers, qemus))]


def _compiler(line: str) -> str:
    """Its name and version without the target: ``gcc 12.2.0`` of powerpc64-linux-gnu-gcc (Debian 12.2.0-13) 12.2.0."""
    found = re.search(r"\b(gcc|clang)\b.*?(\d+(?:\.\d+)+)\W*$", line)
    return f"{found[1]} {found[2]}" if found else line

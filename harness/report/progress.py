# SPDX-License-Identifier: GPL-2.0-or-later
"""Live progress per cell: a few lines that change on a terminal, plain throttled lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.report.text import line, seconds

PLAIN_INTERVAL = 15.0  # seconds between two plain lines of one cell in the same stage


@dataclass(frozen=True)
class _State:
    stage: str
    detail: str
    fraction: float | None
    since: float  # when this stage began
    printed: float  # when a plain line last told of it


class Progress:
    """Use as a context manager; ``cell`` may be called from any thread.

    On a terminal one line per cell is kept up to date.  Elsewhere (CI, a pipe) a line is printed when a cell's stage
    changes, and at most every 15 seconds within one.
    """

    def __init__(self, file: TextIO | None = None, live: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = file or sys.stderr
        self._clock = clock
        self._lock = threading.Lock()
        self._cells: dict[str, _State] = {}
        self._live: Live | None = None
        if live if live is not None else self.file.isatty():
            console = Console(file=self.file, highlight=False, markup=False, emoji=False)
            self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._render)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def cell(self, cell: str, stage: str, detail: str = "", fraction: float | None = None) -> None:
        """What a cell is doing; ``fraction`` (0 to 1) if it is known how far it is."""
        now = self._clock()
        with self._lock:
            old = self._cells.get(cell)
            changed = old is None or old.stage != stage
            since = now if old is None or changed else old.since
            due = self._live is None and (old is None or changed or now - old.printed >= PLAIN_INTERVAL)
            printed = now if due or old is None else old.printed
            self._cells[cell] = _State(stage, detail, fraction, since, printed)
            if due:
                percent = f" ({fraction:.0%})" if fraction is not None else ""
                print(line(f"{cell}: {stage}" + (f" {detail}" if detail else "") + percent), file=self.file, flush=True)

    def done(self, cell: str, text: str) -> None:
        """A cell's last word; it stays on the screen."""
        with self._lock:
            self._cells.pop(cell, None)
            if self._live is None:
                print(line(f"{cell}: {text}"), file=self.file, flush=True)
                return
        self._live.console.print(Text(line(f"{cell}: {text}")))

    def say(self, text: str) -> None:
        """A line for the user that is not of one cell, above the live lines."""
        if self._live is None:
            print(line(text, 2000), file=self.file, flush=True)
        else:
            self._live.console.print(Text(line(text, 2000), overflow="fold"))

    def _render(self) -> Table:
        with self._lock:
            states = {name: replace(state) for name, state in self._cells.items()}
        grid = Table.grid(padding=(0, 2))
        for _ in range(5):
            grid.add_column(no_wrap=True)
        now = self._clock()
        for name, state in states.items():
            bar = ProgressBar(total=1.0, completed=state.fraction, width=24) if state.fraction is not None else Text("")
            grid.add_row(
                Text(line(name), style="bold"), Text(line(state.stage)), bar, Text(line(state.detail, 60), style="dim"),
                Text(seconds(round(now - state.since)) if now - state.since >= 10 else "", style="dim"),
            )  # fmt: skip
        return grid

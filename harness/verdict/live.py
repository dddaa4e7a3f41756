# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle at work while the guest lives: it reads the journals of a cell as they grow.

It works in a thread of its own, so that a slow oracle keeps nobody waiting: neither the guest, which goes on, nor the event
loop that serves it.  What it reads are the files that anybody may judge again later, and the code is the same.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from harness import looks
from harness.findings import Finding
from harness.guest.record import numbered
from harness.journal.reader import Record
from harness.oracle import Oracle
from harness.verdict.account import Account, Replay
from harness.verdict.judging import counts
from harness.verdict.replay import MakeOracle, Replayer

PIECE = 1 << 14  # bytes between two looks at whether the judgement is still wanted
PAUSE = 0.02  # seconds that the journals are left to grow: a record at a time is not worth waking for

OnFinding = Callable[[Finding], None]


class Live:
    """Judges a cell that is running.  Use as a context manager around ``run_cell``, with ``record`` as its ``on_record``.

    ``on_finding`` gets each finding that counts against the kernel, in the judging thread, as soon as it is known.  After the
    guest has ended ``finish`` gives what judge_cell() takes as ``replayed``.
    """

    def __init__(self, directory: Path, on_finding: OnFinding, make: MakeOracle = Oracle) -> None:
        self._directory = directory
        self._on_finding = on_finding
        self._make = make
        self._boots: dict[int, tuple[IO[bytes], Replayer]] = {}
        self._looks: list[looks.Reader] = []
        self._wake = threading.Event()
        self._hurry = threading.Event()  # somebody waits for what is there
        self._caught_up = threading.Condition()
        self._asked = self._done = 0
        self._ended = self._abandoned = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"oracle of {directory.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._abandoned = True
        self._end()
        for file, _ in self._boots.values():
            file.close()
        for reader in self._looks:
            reader.close()

    def record(self, boot: int, record: Record) -> None:
        """The journal of this boot has grown."""
        if boot not in self._boots:
            with contextlib.suppress(OSError):  # it will be judged from the files, or be missed there
                file = (self._directory / numbered("journal.jsonl", boot)).open("rb", buffering=0)
                self._looks.append(looks.Reader(self._directory / looks.name(boot)))
                self._boots[boot] = file, Replayer(self._make, self._looks[-1])
        self._wake.set()

    def looked(self) -> None:
        """The second witness has looked, and the next record is still to come."""
        self._wake.set()

    def settle(self) -> None:
        """Wait until all that is there by now has been judged."""
        with self._caught_up:
            self._asked += 1
            mine = self._asked
            self._hurry.set()
            self._wake.set()
            self._caught_up.wait_for(lambda: self._done >= mine or not self._thread.is_alive())

    def finish(self) -> dict[int, Replay]:
        """The journals replayed to their ends, by boot.  No boot is running any more.  May take as long as the oracle does."""
        self._end()
        if self._failure is not None:
            raise self._failure
        return {number: replayer.finish() for number, (_, replayer) in self._boots.items()}

    def _end(self) -> None:
        self._ended = True
        self._hurry.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            ended = False
            while not ended:
                self._wake.wait()
                self._hurry.wait(PAUSE)
                self._wake.clear()
                self._hurry.clear()
                ended, asked = self._ended, self._asked  # before the last look
                for file, replayer in list(self._boots.values()):
                    self._catch_up(file, replayer)
                self._settled(asked)
        except BaseException as e:  # raised again in finish()
            self._failure = e
        self._settled(sys.maxsize)

    def _settled(self, asked: int) -> None:
        with self._caught_up:
            self._done = asked
            self._caught_up.notify_all()

    def _catch_up(self, file: IO[bytes], replayer: Replayer) -> None:
        while not self._abandoned and (piece := file.read(PIECE)):
            self._tell(replayer.feed(piece))
        if not self._abandoned:
            self._tell(replayer.look())

    def _tell(self, found: list[tuple[Account, Finding]]) -> None:
        for account, finding in found:
            if counts(account, finding):
                self._on_finding(finding)

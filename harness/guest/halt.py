# SPDX-License-Identifier: GPL-2.0-or-later
"""The order to end a cell before its workloads are through."""

from __future__ import annotations


class Halt:
    """May be given from any thread; the guest is stopped within a moment, and no other is started in this cell.

    ``reason`` is that of the first order, "" as long as there is none.
    """

    def __init__(self) -> None:
        self.reason = ""

    def order(self, reason: str) -> None:
        """End it, for this reason."""
        self.reason = self.reason or reason

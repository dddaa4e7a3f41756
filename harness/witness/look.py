# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at a paused kernel: memory to Graph."""

from __future__ import annotations

from harness.graph import AnonVma, Graph
from harness.witness.follow import Follower, TooMuch
from harness.witness.ksm import Ksm
from harness.witness.layout import Layout
from harness.witness.memory import Memory
from harness.witness.mm import AddressSpaces


class Looker:
    """Looks again and again at one boot's kernel.  Nothing in the memory raises."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self._memory = memory
        self._layout = layout
        self._before: dict[int, AnonVma] = {}

    def look(self) -> Graph:
        """What is there now.  The kernel does not run meanwhile."""
        self._memory.forget()
        follower = Follower(self._memory, self._layout)
        ksm, spaces = Ksm(follower), AddressSpaces(follower)
        former: dict[int, AnonVma] = {}
        try:
            ksm.read()
            spaces.processes()
            for slot in ksm.slots:
                spaces.add_mm(slot.mm, 0, "", f"mm of slot {slot.address:#x}")
            for item in ksm.items.values():
                spaces.want(item.anon_vma, f"anon_vma of item {item.address:#x}")
            spaces.close()
            former = spaces.former(self._before)
            ksm.read_pages()
        except TooMuch as e:
            follower.faults.append(str(e))
        self._before = spaces.anon_vmas
        return Graph(
            items=ksm.items,
            nodes=ksm.nodes,
            chains=ksm.chains,
            unstable=tuple(ksm.unstable),
            anon_vmas=spaces.anon_vmas,
            former=former,
            vmas=spaces.vmas,
            mms=spaces.mms,
            slots=tuple(ksm.slots),
            pages=ksm.pages,
            counters=ksm.counters,
            faults=tuple(follower.faults),
        )

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest that makes no progress can still tell, gathered before it is stopped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from harness.guest.console import Console
from harness.guest.monitor import Monitor
from harness.targets import Target

# sysrq: print everything on the console; blocked tasks, what the CPUs do, memory, all tasks.
LOUD, BLOCKED, CPUS, MEMORY, TASKS = "8", "w", "l", "m", "t"
ANSWER = "sysrq: "


@dataclass(frozen=True)
class Evidence:
    """What was asked and what came back.  ``samples`` are answers to w and l, a moment apart each."""

    status: str  # QMP's query-status; "" if QEMU did not answer
    samples: tuple[str, ...] = ()
    rest: str = ""  # memory, all tasks
    nmi: str = ""  # console after an NMI; "" if none was injected
    registers: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """The kernel answered sysrq at least once."""
        return any(ANSWER in text for text in self.samples)

    def write(self, path: Path, why: str) -> None:
        """As a text for people."""
        parts = [f"Asked because: {why}\nQMP query-status: {self.status or 'no answer'}\n"]
        parts += [f"\n=== sysrq w and l, sample {n} ===\n{text or '(nothing)'}\n" for n, text in enumerate(self.samples, 1)]
        parts.append(f"\n=== sysrq m and t ===\n{self.rest}\n" if self.rest else "")
        parts.append(f"\n=== console after an NMI ===\n{self.nmi}\n" if self.nmi else "")
        parts += [f"\n=== info registers, {n} ===\n{text}\n" for n, text in enumerate(self.registers, 1)]
        path.write_text("".join(parts).replace("\r", ""), encoding="utf-8", errors="replace")


async def press(target: Target, console: Console, monitor: Monitor, key: str) -> None:
    """One sysrq key by the console."""
    if target.sysrq == "break":
        await monitor.line_break()
        console.send(key.encode())
    else:  # drivers/tty/hvc/hvc_console.c: ctrl-o, then the key
        console.send(b"\x0f" + key.encode())


async def gather(target: Target, console: Console, monitor: Monitor, scale: float, flood: bool) -> Evidence:
    """Ask QEMU and the kernel.  Takes a few seconds times ``scale``.  ``flood``: the console is never quiet anyway."""
    most = (1 if flood else 5) * scale
    status = await monitor.status()
    if status != "running":
        return Evidence(status, registers=(await monitor.human("info registers -a"),))

    async def keys(*wanted: str, quiet: float = 0.5) -> str:
        collecting = asyncio.ensure_future(console.collect(quiet * scale, most))
        await asyncio.sleep(0)
        for key in wanted:
            await press(target, console, monitor, key)
            # The next key before the driver has taken this one would be swallowed: sysrq takes one per break.
            await asyncio.sleep(0.1 * scale)
        return await collecting

    registers = [await monitor.human("info registers -a")]
    await keys(LOUD, quiet=0.2)
    samples = []
    for _ in range(4):
        samples.append(await keys(BLOCKED, CPUS))
        registers.append(await monitor.human("info registers -a"))
        if ANSWER not in samples[0]:
            break
    found = Evidence(status, tuple(samples), registers=tuple(registers))
    if found.answered:
        return Evidence(status, found.samples, await keys(MEMORY, TASKS), registers=found.registers)
    nmi = ""
    if target.nmi:
        collecting = asyncio.ensure_future(console.collect(1.5 * scale, 5 * scale))
        await asyncio.sleep(0)
        await monitor.nmi()
        nmi = await collecting
    return Evidence(status, found.samples, "", nmi, found.registers)

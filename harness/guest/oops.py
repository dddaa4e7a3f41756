# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel complaints in a console text: recognised, and cut out whole.

The texts come from the kernel's own places: x86 arch/x86/mm/fault.c and kernel/traps.c, arm64 mm/fault.c and
kernel/traps.c, powerpc mm/fault.c and kernel/traps.c; kernel/panic.c, lib/bug.c, mm/page_alloc.c (bad_page),
mm/debug.c (dump_page), mm/slub.c, mm/kasan/report.c, kernel/kcsan/report.c, kernel/locking/lockdep.c, kernel/rcu/tree_stall.h,
kernel/watchdog.c, kernel/hung_task.c, mm/oom_kill.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.results import CrashReport


@dataclass(frozen=True)
class Kind:
    """One kind of complaint: how its first line looks (behind time stamp and level), and whether it makes a CRASH."""

    name: str
    start: str
    fatal: bool = True
    closes: str = ""  # regular expression of its last line, if it has one
    patience: int = 3  # foreign lines in a row inside a report


_TRACE_END = r"---\[ end trace"

# The first that fits wins, so the special stand before the general.
KINDS = (
    Kind("panic", r"Kernel panic - not syncing", closes=r"---\[ end Kernel panic"),
    Kind("kasan", r"BUG: KASAN:|BUG: KMSAN:|BUG: KFENCE:", closes=r"={40,}"),
    # A data race is no misdeed in itself: an unmodified kernel has many that its authors think harmless.
    Kind("kcsan", r"BUG: KCSAN:", fatal=False, closes=r"={40,}"),
    Kind("ubsan", r"UBSAN:", closes=r"={40,}|-{3}\[ end trace"),
    Kind("soft-lockup", r"watchdog: BUG: soft lockup|BUG: soft lockup|BUG: workqueue lockup", fatal=False),
    Kind("hung-task", r"INFO: task \S+ (?:blocked for more than|is blocked on)", fatal=False),
    Kind("rcu-stall", r"rcu: INFO: \S+ (?:self-)?detected (?:expedited )?stalls?", fatal=False),
    Kind("rcu-stall", r"INFO: \S+ (?:self-)?detected stalls?|rcu: \S+ kthread starved for", fatal=False),
    Kind("oom", r"\S+(?: \S+)* invoked oom-killer:|(?:Memory cgroup out|Out) of memory: Kill", fatal=False),
    Kind(
        "lockdep",
        r"WARNING: (?:possible |inconsistent |suspicious RCU|bad unlock|held lock|lock held|Nested lock|Invalid wait"
        r"|\S+-safe ->|HARDIRQ|SOFTIRQ|RECLAIM_FS).*|BUG: Invalid wait context|INFO: (?:possible |inconsistent |suspicious RCU)"
        r"|BUG: (?:held lock freed|using smp_processor_id|MAX_LOCK)|DEBUG_LOCKS_WARN_ON",
        patience=10,  # it talks in sentences
    ),
    Kind("bug", r"kernel BUG at ", closes=_TRACE_END),
    # By kernel/panic.c before 3.11, since, and by the newest.
    Kind("warning", r"WARNING: at \S+:\d+ |WARNING: CPU: \d+ PID: \d+ at |WARNING: \S+:\d+ at ", closes=_TRACE_END),
    Kind("oops", r"BUG: (?:[Kk]ernel NULL pointer dereference|[Uu]nable to handle|stack guard page)", closes=_TRACE_END),
    Kind("oops", r"Unable to handle kernel |Internal error: |Oops(?: - [^:]*)?: |Unrecoverable ", closes=_TRACE_END),
    Kind("oops", r"general protection fault|invalid opcode: |stack segment: |int3: |divide error: ", closes=_TRACE_END),
    Kind("oops", r"double fault:|PANIC: double fault|traps: PANIC|Bad mode in |kernel stack overflow", closes=_TRACE_END),
    Kind("slub", r"BUG \S+ \((?:Tainted|Not tainted)[^)]*\): "),
    Kind("slub", r"BUG \S+ \(.*\): "),
    Kind("bug", r"list_(?:add|del)\S* corruption|slab-(?:out|use)\S*:", closes=_TRACE_END),
    Kind("bug", r"BUG: (?!KCSAN:|soft lockup|workqueue lockup)"),  # for the live console, which does not take the first that fits
    # Memory offlining dumps pages too, so a dump is a crash only by what follows it.
    Kind("page-dump", r"page: ?\S* ?(?:refcount:|is uninitialized)|page dumped because: ", fatal=False),
)

_STAMP = re.compile(r"(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ?")
_LEVEL = re.compile(r"<\d+>")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\0]")
_STARTS = [(kind, re.compile(kind.start)) for kind in KINDS]
_CLOSES = {kind.name: re.compile(kind.closes) for kind in KINDS if kind.closes}
_FATAL = "|".join(kind.start for kind in KINDS if kind.fatal).encode()

# For the live console: the begin of a fatal report, in a text without and with time stamps.
FATAL_PLAIN = re.compile(rb"(?m)^(?:<\d+>)?(?:%b)" % _FATAL)
FATAL_STAMPED = re.compile(rb"(?m)\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ?(?:%b)" % _FATAL)

# What belongs to a report: dumps of registers, stacks, pages, memory.
_BODY = re.compile(
    r"\s|(?:Call [Tt]race|stack backtrace):|\[<[0-9a-f]{8,16}>\]"
    r"|CPU[: ]|Hardware name|Modules linked in|Workqueue:|Code:|Instruction dump|Kernel Offset|Memory Limit"
    r"|(?:[RE]?(?:[ABCD]X|[SBI]P|[SD]I)|E?FLAGS|R\d\d|[C-G]S|[CD]R\d|PGD|PKRU|DAR|DSISR)\b|pc :|lr :|sp :|pstate:|x\d+ ?:|NIP|LR "
    r"|GPR|MSR|CFAR|REGS:|SRR|IRQMASK|XER|-+ interrupt|\[[0-9a-f]{16}\]|</?[A-Z_]+>|Mem abort|Data abort|E[CA] = |ESR = |#PF:"
    r"|FSC = |ISV = |CM = |\S+ pgtable|SMP |[BL]E PAGE_SIZE|Dumping ftrace|-+\[|page[:_ ]|head:|flags:|raw:|anon |ksm |memcg"
    r"|invalid mapping|pfn:|aops:|addr:|file:|index:|task:|rcu:|NMI backtrace|Sending NMI|INFO: |BUG:? |Slab |Object |Redzone "
    r"|Padding |Bytes b4|FIX |Allocated |Freed |0x\(?[0-9a-f_]|Disabling lock|[=-]{20,}|The buggy|Read of size|Write of size"
    r"|Memory state|irq event|hardirqs|softirqs|watchdog:|oom-kill|Mem-Info|active_anon|Node \d|lowmem_reserve|Tasks state"
    r"|Free swap|Total swap|Swap cache|\d+ (?:total |page)|memory: usage|Out of memory|oom_reaper|Faulting instruction"
    r"|Kernel attempted|(?:<?[0-9a-fX]{8}>? ){2}|Exception stack|Oops|\"echo 0|note: |Tasks in|DMA|Normal|Movable"
)
# What follows the line that ends a trace and is of the same death.
_AFTERMATH = re.compile(
    r"Kernel panic - not syncing: .*(?:[Ff]atal exception|Attempted to kill)|Kernel Offset|Rebooting in|SMP: stopping"
    r"|CPU features:|Memory Limit:|(?:[RE]?(?:[ABCD]X|[SBI]P|[SD]I)|R\d\d|[C-G]S|[CD]R\d|PKRU)\b|Code:|note: |-+\[ end |$"
)
_CUT_HERE = re.compile(r"-+\[ cut here \]-+|={20,}$")
_LOOK_BACK = 8  # lines between a "cut here" and the line that names the kind: WARN's own message
_MOST_LINES = 400  # of one report


@dataclass(frozen=True)
class _Line:
    number: int  # from 1
    body: str  # without time stamp, level, escapes
    stamped: bool


def _lines(text: str) -> list[_Line]:
    """Where the kernel prints in the middle of someone else's line, that is two lines of the same number."""
    out = []
    for number, line in enumerate(text.split("\n"), 1):
        line = _ESCAPE.sub("", line)
        stamps = list(_STAMP.finditer(line))
        head = line[: stamps[0].start()] if stamps else line
        if head or not stamps:
            out.append(_Line(number, _LEVEL.sub("", head, count=1), False))
        for stamp, after in zip(stamps, [*(s.start() for s in stamps[1:]), len(line)], strict=False):
            out.append(_Line(number, line[stamp.end() : after], True))
    return out


def unstamped(line: str) -> str:
    """A line without time stamp, level and escapes."""
    return _STAMP.sub("", _LEVEL.sub("", _ESCAPE.sub("", line), count=1), count=1).strip()


def _kind(body: str) -> Kind | None:
    for kind, start in _STARTS:
        if start.match(body):
            return kind
    return None


class _Report:
    """A report that grows line by line, from ``first`` in the list of all lines."""

    def __init__(self, kind: Kind, title: str, first: int) -> None:
        self.kind = kind
        self.title = title
        self.first = first
        self.last = first  # its last own line
        self.closed = False
        self.foreign = 0

    def takes(self, at: int, body: str, kind: Kind | None) -> bool:
        """Whether the line ``at`` still belongs here; if so, it is taken in."""
        if at - self.first >= _MOST_LINES:
            return False
        if not body.strip():
            return True
        if self.closed:
            own = bool(_AFTERMATH.match(body))
        elif kind is not None:
            own = bool(_AFTERMATH.match(body)) or self._joined(kind, body)
        else:
            own = bool(_BODY.match(body))
            self.foreign = 0 if own else self.foreign + 1
            if not own:
                return self.foreign <= self.kind.patience
        if own:
            self.last = at
            close = _CLOSES.get(self.kind.name)
            self.closed = self.closed or bool(close and close.match(body))
        return own

    def _joined(self, kind: Kind, body: str) -> bool:
        """A report may go on in words that would begin one of their own."""
        mine, new = self.kind.name, kind.name
        if mine == "page-dump":  # says less than what asked for it
            self.kind, self.title = kind, body.strip()
            return True
        if new == "page-dump" or (new == "oops" and mine in ("bug", "oops")):
            return True
        if self.title.startswith(("list_", "slab-")):  # CHECK_DATA_CORRUPTION: a line, then BUG or WARN
            return new in ("bug", "warning") and not body.startswith("BUG: ")
        return (new == mine == "rcu-stall") or (new == mine == "oom" and "invoked oom-killer" not in body)


def _begin(lines: list[_Line], at: int, floor: int) -> int:
    """Where the report whose telling line is ``at`` begins: at its "cut here" line if it has one."""
    for back in range(at - 1, max(floor, at - _LOOK_BACK) - 1, -1):
        if _CUT_HERE.match(lines[back].body):
            return back
    return at


def extract(text: str) -> tuple[CrashReport, ...]:
    """All complaints in a console text, whole, in their order.

    The text may be cut anywhere and hold anything.  If the kernel stamps its lines with the time, only such lines
    begin a report: what a program prints is not the kernel's word.
    """
    lines = _lines(text)
    raw = text.split("\n")
    stamped = any(line.stamped for line in lines)
    reports: list[_Report] = []
    open_report: _Report | None = None
    for at, line in enumerate(lines):
        kind = _kind(line.body) if line.stamped or not stamped else None
        if open_report is not None and not open_report.takes(at, line.body, kind):
            open_report = None
        if open_report is None and kind is not None:
            floor = reports[-1].last + 1 if reports else 0
            open_report = _Report(kind, line.body.strip(), _begin(lines, at, floor))
            open_report.last = at
            reports.append(open_report)
    return tuple(_finish(report, lines, raw) for report in reports)


def _finish(report: _Report, lines: list[_Line], raw: list[str]) -> CrashReport:
    first, last = lines[report.first].number, lines[report.last].number
    text = "\n".join(_ESCAPE.sub("", line) for line in raw[first - 1 : last]).rstrip("\n") + "\n"
    return CrashReport(report.kind.name, report.title[:300], text, first, report.kind.fatal)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of the command line."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import NoReturn

from harness import __version__, paths
from harness.errors import UsageError
from harness.source.spec import FORMS
from harness.store import parse_size

EPILOG = """\
exit codes: 0 judged good, 1 judged bad, 125 could not judge, 129 usage or bad input, 128 an error of our own,
130 interrupted; so that `git bisect run ksm-harness run --kernel tree:. --only SIGNATURE …` understands them"""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, exit code 129."""

    def error(self, message: str) -> NoReturn:
        """Bad words on the command line."""
        raise UsageError(f"{message}; see {self.prog} --help")


def _names(text: str) -> tuple[str, ...]:
    """A comma separated list.  None of its names is empty, since "nothing" is seldom what was meant by one."""
    names = tuple(text.split(","))
    if not all(name.strip() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name in it; give one or more names with one comma between them")
    return names


def _configs(text: str) -> tuple[str, ...]:
    """A list of names and files, or a file that has a comma in its name."""
    return (text,) if paths.is_file(Path(text)) else _names(text)


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r:.80} is not a whole number")
    return int(text)


def _jobs(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r:.80} is not a whole number from 1 to 256")
    return int(text)


def _size(text: str) -> int:
    """In bytes."""
    try:
        return parse_size(text)
    except UsageError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _memory(text: str) -> int:
    """In MiB; half of it goes to each of two nodes."""
    size = _size(text)
    mib = size if text.strip().isdigit() else size >> 20
    if not 128 <= mib <= 1 << 20 or mib % 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 128M to 1024G, in steps of 2 MiB")
    return mib


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0.01 <= factor <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a factor from 0.01 to 1000")
    return factor


def _signature(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no signature; one is for example P1:still-mapped:reclaim")
    return text


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier() or not value or any(c.isspace() for c in value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _add_kernel(parser: argparse.ArgumentParser, patch: bool = True) -> None:
    parser.add_argument("--kernel", metavar="SPEC", default="debian:6.1",
                        help=f"{FORMS} (default: %(default)s)")  # fmt: skip
    parser.add_argument("--target", metavar="T[,T…]", type=_names, default="x86_64",
                        help='targets, or groups of them as "list targets" has them: "all" are the four architectures, '
                        '"every" all there are (default: %(default)s)')  # fmt: skip
    if patch:
        parser.add_argument("--patch", metavar="FILE", type=Path, action="append", default=[],
                            help="apply to a private copy of the tree; may be given again, in order")  # fmt: skip
    parser.add_argument("--config", metavar="NAME|FILE[,…]", type=_configs, action="extend", default=[],
                        help="configurations: of kconfigs/ (`list configs`), or files; may be given again")  # fmt: skip
    parser.add_argument("--cc", metavar="PROGRAM", default="",
                        help="the compiler (default: the target's gcc; clang with --make-arg LLVM=1)")  # fmt: skip
    parser.add_argument("--cross-compile", metavar="PREFIX",
                        help="of gcc and binutils, as in aarch64-linux-gnu- (default: the target's)")  # fmt: skip
    parser.add_argument("--make-arg", metavar="X=Y", action="append", default=[],
                        help="one more variable for make, as in LLVM=1 or KCFLAGS=-O1; may be given again")  # fmt: skip
    parser.add_argument("--targets", metavar="FILE", type=Path, dest="table", help="a target table of your own (TOML)")


def _add_semantics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--semantics", metavar="FILE", type=Path,
                        help="what this kernel does otherwise on purpose, declared and reviewed (TOML)")  # fmt: skip


def _add_guest(parser: argparse.ArgumentParser, patience: float) -> None:
    """How workloads are run."""
    parser.add_argument("--workload", metavar="W[,W…]", type=_names, default="all",
                        help='workloads; "all" leaves out those on request (default: %(default)s)')  # fmt: skip
    parser.add_argument("--arg", metavar="KEY=VALUE", type=_key_value, action="append", default=[],
                        help="hand this to the workloads, for example cycles=400")  # fmt: skip
    parser.add_argument("--workload-source", metavar="PATH", type=Path, action="append", default=[],
                        help="C files of workloads of your own, or a directory of them")  # fmt: skip
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="default: %(default)s")
    parser.add_argument("--require-kvm", action="store_true", help="no fallback to TCG: exit 125 if KVM does not work")
    parser.add_argument("--boot-arg", metavar="ARG", action="append", default=[], help="one more kernel parameter")
    parser.add_argument("--smp", metavar="N", type=_jobs, default=0, help="CPUs of a guest (default: the target's, one)")
    parser.add_argument("--memory", metavar="SIZE", type=_memory, default=0,
                        help="memory of a guest, as in 1G or 768 (MiB) (default: the target's)")  # fmt: skip
    parser.add_argument("--patience", metavar="FACTOR", type=_factor, default=patience,
                        help="multiply all deadlines for guests (default: %(default)s)")  # fmt: skip
    parser.add_argument("--witness", action="store_true",
                        help="look at the kernel's own structures, too, after each operation (needs drgn)")  # fmt: skip
    _add_semantics(parser)
    parser.add_argument("--verbose", action="store_true", help="show every command that is run")


def _add_run(commands: argparse._SubParsersAction[Parser]) -> None:
    run = commands.add_parser("run", help="from kernel source to a verdict", epilog=EPILOG)
    _add_kernel(run)
    _add_guest(run, 1.0)
    run.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where reports go (default: %(default)s)")
    run.add_argument("--jobs", metavar="N", type=_jobs, default=os.cpu_count() or 1,
                     help="guests at a time (default: %(default)s)")  # fmt: skip
    run.add_argument("--fail-fast", action="store_true",
                     help="stop a target's guest at its first finding (heuristic ones apart), crash or hang")  # fmt: skip
    run.add_argument("--hold", action="store_true",
                     help="pause a guest at its first finding, tell how drgn and gdb get at it, and wait for Enter")  # fmt: skip
    run.add_argument("--only", metavar="SIGNATURE", type=_signature,
                     help="only this finding, crash or hang is bad, and all that is wrong otherwise is 125: for git bisect run. "
                     "A signature as reports have it (P1:still-mapped:reclaim), or a pattern (CRASH:*)")  # fmt: skip
    run.add_argument("--require", metavar="P[,P…]", type=_names, default=(),
                     help="properties that must be judged, by one workload at least, in every target: else 125")  # fmt: skip
    run.add_argument("--expect", metavar="FILE", type=Path,
                     help="what passes and what is skipped, as `ksm-harness expect` records it: a new skip is 125")  # fmt: skip
    run.add_argument("--json", action="store_true", help="print run.json instead of the table")


MUTATE_EPILOG = """\
exit codes: 0 all mutants were killed, 1 one survived or a benign one (its file's name begins with B) was flagged,
125 something could not be judged or built; the others as for run.  A survivor that --argued calls equivalent is none."""


def _add_mutate(commands: argparse._SubParsersAction[Parser]) -> None:
    mutate = commands.add_parser("mutate", help="how many broken kernels are caught", epilog=MUTATE_EPILOG)
    _add_kernel(mutate, patch=False)
    _add_guest(mutate, 0.5)
    mutate.add_argument("--patches", metavar="DIR", type=Path, required=True, help="mutants: each *.patch of this directory")
    mutate.add_argument("--only", metavar="M[,M…]", type=_names, default=(),
                        help="of these, only those named (without .patch)")  # fmt: skip
    mutate.add_argument("--out", metavar="DIR", type=Path, default=Path("out-mutate"),
                        help="where results go; what is known there is not done again (default: %(default)s)")  # fmt: skip
    mutate.add_argument("--jobs", metavar="N", type=_jobs, default=os.cpu_count() or 1,
                        help="mutants on their way at a time (default: %(default)s)")  # fmt: skip
    mutate.add_argument("--argued", metavar="FILE", type=Path, help="what is argued of survivors (TOML)")
    mutate.add_argument("--keep-killed", action="store_true",
                        help="do not run again what earlier workloads or an earlier oracle killed")  # fmt: skip
    mutate.add_argument("--write-doc", metavar="FILE", type=Path, help="put the table into this Markdown file")
    mutate.add_argument("--json", action="store_true", help="print mutate.json instead of the table")


def _add_mutants(commands: argparse._SubParsersAction[Parser]) -> None:
    mutants = commands.add_parser("mutants", help="make broken kernels from a kernel's source, as patches for mutate")
    mutants.add_argument("--kernel", metavar="SPEC", default="debian:6.1",
                         help="as for run, but none that is a ready image (default: %(default)s)")  # fmt: skip
    mutants.add_argument("--out", metavar="DIR", type=Path, required=True, help="a new directory for the patches")
    mutants.add_argument("--function", metavar="F[,F…]", type=_names, default=(),
                         help="of these functions, patterns as in a shell (default: those that KSM's rmap lives in)")  # fmt: skip
    mutants.add_argument("--count", metavar="N", type=_number, default=0, help="no more than N, from all functions alike")
    mutants.add_argument("--seed", metavar="S", type=_number, default=1, help="which N (default: %(default)s)")
    mutants.add_argument("--json", action="store_true")


def _add_store(commands: argparse._SubParsersAction[Parser]) -> None:
    store = commands.add_parser("store", help="what is kept between runs")
    actions = store.add_subparsers(dest="action", required=True, metavar="list|gc")
    listing = actions.add_parser("list", help="what is in the store, the last used first")
    listing.add_argument("--json", action="store_true")
    gc = actions.add_parser("gc", help="remove what was not used for longest")
    gc.add_argument("--max-size", metavar="SIZE", type=_size, default="20G", help="what may stay (default: %(default)s)")
    gc.add_argument("--json", action="store_true")


def make_parser() -> Parser:
    """The whole command line."""
    parser = Parser(prog="ksm-harness", epilog=EPILOG, description="Proves on real guests that a kernel still swaps out "
                    "KSM pages which a fork has duplicated.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"ksm-harness {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_run(commands)
    build = commands.add_parser("build", help="the kernel only")
    _add_kernel(build)
    build.add_argument("--json", action="store_true")
    build.add_argument("--verbose", action="store_true", help="show every command that is run")
    contains = commands.add_parser("contains", help="whether a tree carries the patch, by looking at its source",
                                   epilog="exit codes: 0 yes, 1 partly or no, 129 no kernel tree")  # fmt: skip
    contains.add_argument("kernel", metavar="SPEC", help=FORMS)
    contains.add_argument("--patch", metavar="FILE", type=Path, action="append", default=[],
                          help="with this patch on top; may be given again, in order")  # fmt: skip
    contains.add_argument("--json", action="store_true")
    for name, text in (("judge", "the oracle again over a stored run, no guest"), ("report", "the reports again")):
        again = commands.add_parser(name, help=text)
        again.add_argument("directory", metavar="DIR", type=Path)
        if name == "judge":
            _add_semantics(again)
        again.add_argument("--json", action="store_true", help="print run.json instead of the table")
    expect = commands.add_parser("expect", help="record what a good run came to, for --expect of the next")
    expect.add_argument("directory", metavar="DIR", type=Path, nargs="+", help="of a run; several with different targets")
    expect.add_argument("--out", metavar="FILE", type=Path, help="where to (default: standard output)")
    seen = commands.add_parser("table", help="what several runs came to, kernels by targets, as Markdown")
    seen.add_argument(
        "directory", metavar="DIR", type=Path, nargs="+", help="of a run; of two of the same kernel the newer counts"
    )
    seen.add_argument("--targets", metavar="FILE", type=Path, dest="table")
    seen.add_argument("--title", default="what was seen", help="of the part that --write-doc replaces (default: %(default)s)")
    seen.add_argument("--write-doc", metavar="FILE", type=Path, help="put the table into this Markdown file")
    _add_mutate(commands)
    _add_mutants(commands)
    listing = commands.add_parser("list", help="targets, workloads, kernels or configs")
    listing.add_argument("what", choices=("targets", "workloads", "kernels", "configs"))
    listing.add_argument("--targets", metavar="FILE", type=Path, dest="table")
    listing.add_argument("--workload-source", metavar="PATH", type=Path, action="append", default=[])
    listing.add_argument("--json", action="store_true")
    doctor = commands.add_parser("doctor", help="what this host can do, what is missing, and what mends it")
    doctor.add_argument("--target", metavar="T[,T…]", type=_names, default="all")
    doctor.add_argument("--targets", metavar="FILE", type=Path, dest="table")
    doctor.add_argument("--json", action="store_true")
    _add_store(commands)
    return parser

# SPDX-License-Identifier: GPL-2.0-or-later
"""The words of the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

from harness import __version__
from harness.errors import UsageError

EPILOG = """\
exit codes: 0 judged good, 1 judged bad, 125 could not judge, 129 usage or bad input, 128 an error of our own,
130 interrupted; so that `git bisect run ksm-harness run --kernel tree:. --out ../ksm-out …` understands them"""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, exit code 129."""

    def error(self, message: str) -> NoReturn:
        """Bad words on the command line."""
        raise UsageError(f"{message}; see {self.prog} --help")


def _jobs(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of guests from 1 to 256")
    return int(text)


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0.01 <= factor <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a factor from 0.01 to 1000")
    return factor


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier() or not value or any(c.isspace() for c in value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _add_kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernel", metavar="SPEC", default="debian:6.1",
                        help="debian:6.1, debian:6.1=VERSION, tree:PATH or image:PATH (default: %(default)s)")  # fmt: skip
    parser.add_argument("--target", metavar="T[,T…]", default="x86_64", help='targets, or "all" (default: %(default)s)')
    parser.add_argument("--patch", metavar="FILE", type=Path, action="append", default=[],
                        help="apply to a private copy of the tree; may be given again, in order")  # fmt: skip
    parser.add_argument("--config", metavar="NAME|FILE", action="append", default=[],
                        help="one more config fragment: of kconfigs/, or a file; may be given again")  # fmt: skip
    parser.add_argument("--targets", metavar="FILE", type=Path, dest="table", help="a target table of your own (TOML)")


def _add_run(commands: argparse._SubParsersAction[Parser]) -> None:
    run = commands.add_parser("run", help="from kernel source to a verdict", epilog=EPILOG)
    _add_kernel(run)
    run.add_argument("--workload", metavar="W[,W…]", default="all", help="workloads (default: all)")
    run.add_argument("--arg", metavar="KEY=VALUE", type=_key_value, action="append", default=[],
                     help="hand this to the workloads, for example cycles=400")  # fmt: skip
    run.add_argument("--workload-source", metavar="PATH", type=Path, action="append", default=[],
                     help="C files of workloads of your own, or a directory of them")  # fmt: skip
    run.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where reports go (default: %(default)s)")
    run.add_argument("--jobs", metavar="N", type=_jobs, default=os.cpu_count() or 1,
                     help="guests at a time (default: %(default)s)")  # fmt: skip
    run.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="default: %(default)s")
    run.add_argument("--require-kvm", action="store_true", help="no fallback to TCG: exit 125 if KVM does not work")
    run.add_argument("--boot-arg", metavar="ARG", action="append", default=[], help="one more kernel parameter")
    run.add_argument("--patience", metavar="FACTOR", type=_factor, default=1.0,
                     help="multiply all deadlines for guests, for very slow kernels or hosts")  # fmt: skip
    run.add_argument("--fail-fast", action="store_true",
                     help="stop a target's guest at its first finding (heuristic ones apart), crash or hang")  # fmt: skip
    run.add_argument("--json", action="store_true", help="print run.json instead of the table")
    run.add_argument("--verbose", action="store_true", help="show every command that is run")


def _add_store(commands: argparse._SubParsersAction[Parser]) -> None:
    store = commands.add_parser("store", help="what is kept between runs")
    actions = store.add_subparsers(dest="action", required=True, metavar="list|gc")
    listing = actions.add_parser("list", help="what is in the store")
    listing.add_argument("--json", action="store_true")
    gc = actions.add_parser("gc", help="remove what was not used for longest")
    gc.add_argument("--max-size", metavar="SIZE", default="20G", help="what may stay (default: %(default)s)")
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
    for name, text in (("judge", "the oracle again over a stored run, no guest"), ("report", "the reports again")):
        again = commands.add_parser(name, help=text)
        again.add_argument("directory", metavar="DIR", type=Path)
        again.add_argument("--json", action="store_true", help="print run.json instead of the table")
    listing = commands.add_parser("list", help="targets, workloads or kernels")
    listing.add_argument("what", choices=("targets", "workloads", "kernels"))
    listing.add_argument("--targets", metavar="FILE", type=Path, dest="table")
    listing.add_argument("--workload-source", metavar="PATH", type=Path, action="append", default=[])
    listing.add_argument("--json", action="store_true")
    doctor = commands.add_parser("doctor", help="what this host can do, what is missing, and what mends it")
    doctor.add_argument("--target", metavar="T[,T…]", default="all")
    doctor.add_argument("--targets", metavar="FILE", type=Path, dest="table")
    doctor.add_argument("--json", action="store_true")
    _add_store(commands)
    return parser

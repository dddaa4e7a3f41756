# SPDX-License-Identifier: GPL-2.0-or-later
"""From argv to an exit code.  No exception gets past here, so that none can end as 1, which would mean *judged bad*."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness.errors import ExitCode, HarnessError, UsageError


def _interrupted(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _expected(error: BaseException) -> BaseException:
    """What a task group wraps: our own error if there is one, else the first."""
    while isinstance(error, BaseExceptionGroup):
        ours = [e for e in error.exceptions if isinstance(e, HarnessError)]
        error = (ours or error.exceptions)[0]
    return error


def _own_error(error: BaseException) -> ExitCode:
    with tempfile.NamedTemporaryFile("w", prefix="ksm-harness-", suffix=".traceback", delete=False) as f:
        traceback.print_exception(error, file=f)
    print(f"ksm-harness: an error of our own: {type(error).__name__}: {error}; see {f.name}", file=sys.stderr)
    return ExitCode.OWN_ERROR


def silence_stdout() -> None:
    """Whoever read stdout has gone; what is still buffered must not become a second error at shutdown."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _end_with(error: BaseException) -> ExitCode:
    error = _expected(error)
    if isinstance(error, HarnessError):
        print(f"ksm-harness: {error}", file=sys.stderr)
        return error.code
    if isinstance(error, KeyboardInterrupt):
        print("ksm-harness: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    if isinstance(error, (BrokenPipeError, SystemExit)):  # rich makes SystemExit(1) of a closed pipe
        silence_stdout()
        return ExitCode.OWN_ERROR
    if isinstance(error, OSError) and error.errno is not None:
        print(f"ksm-harness: {error.strerror}: {error.filename or 'no file named'}", file=sys.stderr)
        return ExitCode.CANNOT_JUDGE
    return _own_error(error)


def _need_a_place() -> None:
    """UsageError where the current directory, which paths are relative to, has been removed."""
    try:
        Path.cwd()
    except OSError as e:
        raise UsageError(f"the current directory: {e.strerror}; change to one that is there") from e


def main(argv: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    signal.signal(signal.SIGTERM, _interrupted)
    logging.getLogger("harness").setLevel(logging.INFO)
    logging.getLogger("harness").addHandler(logging.NullHandler())
    try:
        # Here, so that a broken installation is our error and not the kernel's.
        from harness.cli.commands import COMMANDS
        from harness.cli.parser import make_parser

        _need_a_place()
        try:
            options = make_parser().parse_args(argv)
        except SystemExit as e:  # argparse: --help, --version
            return int(e.code or 0)
        if getattr(options, "verbose", False):
            logging.getLogger("harness").addHandler(logging.StreamHandler())
        code = int(COMMANDS[options.command](options))
        print(end="", flush=True)
        return code  # noqa: TRY300 - nothing of ours may get past here
    except BaseException as e:
        return int(_end_with(e))

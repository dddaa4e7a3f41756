# SPDX-License-Identifier: GPL-2.0-or-later
"""What several commands do alike: names to things, and the log of a directory."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness import declared, outdir, targets
from harness.errors import UsageError, meant, unwritable
from harness.guest import settings
from harness.image import WorkloadInfo, workload_table
from harness.kernel import Wanted, wanted
from harness.kernel.fragments import find, included
from harness.oracle.semantics import DECLARABLE
from harness.pipeline import RunPlan
from harness.store import Store, keep_free
from harness.targets import Target

log = logging.getLogger("harness")


def fragment_files(names: Sequence[str]) -> tuple[Path, ...]:
    """Configurations by name or path, and those that come with them."""
    return tuple(included(find(name) for name in names))


def tools_of(options: argparse.Namespace, wanted_targets: Sequence[Target]) -> Wanted:
    """The compiler and make's variables that are asked for.  UsageError for what cannot be."""
    if options.cross_compile is not None and len(wanted_targets) > 1:
        names = ", ".join(target.name for target in wanted_targets)
        raise UsageError(f"--cross-compile {options.cross_compile} cannot be right for several targets ({names}); name one")
    return wanted(options.cc, options.cross_compile, options.make_arg)


def workloads_of(names: Sequence[str], table: Mapping[str, WorkloadInfo]) -> tuple[WorkloadInfo, ...]:
    """Those that are named, each once; "all" means all but those which are run on request only."""
    wanted_names: list[str] = []
    for name in names:
        if name not in table and name != "all":
            raise UsageError(f"there is no workload {name!r}{meant(name, table)}; there are {', '.join(table)}")
        wanted_names += [name] if name in table else [usual for usual, workload in table.items() if not workload.on_request]
    return tuple(table[name] for name in dict.fromkeys(wanted_names))


MOST_PARAMETERS = 1500
"""Characters of a user's kernel parameters: COMMAND_LINE_SIZE is 2048 on all targets, and the harness has some of its own."""


def boot_args_of(words: Sequence[str]) -> list[str]:
    """Kernel parameters as they are given.  UsageError for what no command line can carry."""
    for word in words:
        if not word.strip() or not word.isprintable():
            raise UsageError(f"--boot-arg {word!r}: a kernel parameter is not empty and has printable characters only")
    if (length := len(" ".join(words))) > MOST_PARAMETERS:
        raise UsageError(
            f"--boot-arg: {length} characters in all; a kernel's command line has room for {MOST_PARAMETERS} of yours"
        )
    return list(words)


def declared_in(path: Path | None) -> tuple[declared.Declared, ...]:
    """What ``--semantics`` declares, nothing without one."""
    return declared.load(path, DECLARABLE) if path else ()


def guests_plan(options: argparse.Namespace) -> RunPlan:
    """What ``run`` and ``mutate`` are told alike: the kernel, the guests, what runs in them and where it goes."""
    wanted_targets = targets.choose(options.target, targets.table(options.table))
    fragments = fragment_files(options.config)
    wants = settings.read(fragments)
    return RunPlan(
        kernel=options.kernel,
        targets=wanted_targets,
        workloads=workloads_of(options.workload, workload_table(options.workload_source)),
        out=options.out.absolute(),
        args=tuple(options.arg),
        fragments=fragments,
        tools=tools_of(options, wanted_targets),
        extra=tuple(path.absolute() for path in options.workload_source),
        jobs=options.jobs,
        accel=options.accel,
        require_kvm=options.require_kvm,
        append=" ".join([*wants.parameters, *boot_args_of(options.boot_arg)]),
        smp=options.smp or wants.smp,
        memory=options.memory,
        memory_factor=wants.memory,
        patience=options.patience * wants.patience,
        witness=options.witness,
        declared=declared_in(options.semantics),
        command=("ksm-harness", *sys.argv[1:]),
    )


def open_store() -> Store:
    """The user's store.  UsageError where the environment says of it what cannot be."""
    keep_free()
    return Store()


@contextlib.contextmanager
def logged(path: Path, more: bool = False) -> Iterator[None]:
    """With all that is done told in the file ``path``; ``more``: after what is there already."""
    try:
        handler = logging.FileHandler(path, mode="a" if more else "w", encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        raise unwritable(path, e, outdir.ADVICE) from e
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()

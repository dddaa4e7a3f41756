# SPDX-License-Identifier: GPL-2.0-or-later
"""What each command does.  Each gives its exit code; errors are raised and become a line and a code in main()."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import doctor, expectation, outdir, pipeline, store, targets
from harness.cli.common import declared_in, fragment_files, guests_plan, logged, open_store, tools_of
from harness.cli.main import silence_stdout
from harness.cli.mutation import make_mutants, mutate
from harness.cli.storage import keep_store
from harness.errors import ExitCode, unwritable
from harness.guest import settings
from harness.image import workload_table
from harness.kernel import build, contained, fragments, patches
from harness.report import Progress, exit_code, judge, load_run, markdown, report, seen, show, show_rows
from harness.report.runfile import to_data
from harness.resources import directory
from harness.results import RunResult
from harness.source import check_spec, debian, parse_spec, resolve
from harness.targets import Target


def _print_run(run: RunResult, out: Path, as_json: bool) -> None:
    """Whoever should read it may have gone: the reports are written, and the exit code is still the verdict's."""
    try:
        if as_json:
            print(json.dumps(to_data(run), indent=1))
        else:
            show(run, [out / "report.html", out / "junit.xml", out / "run.json"])
        print(end="", flush=True)
    except (BrokenPipeError, SystemExit):  # rich makes SystemExit(1) of the former
        silence_stdout()


def run(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness run``."""
    plan = dataclasses.replace(
        guests_plan(options),
        patches=tuple(options.patch),
        fail_fast=options.fail_fast,
        only=options.only or "",
        require=tuple(dict.fromkeys(options.require)),
        expect=expectation.load(options.expect) if options.expect else None,
        hold=options.hold,
    )
    pipeline.check(plan)
    kept = open_store()
    with outdir.taken(plan.out), logged(plan.out / outdir.LOG), Progress() as progress:
        result = pipeline.execute(plan, kept, progress)
    _print_run(result, plan.out, options.json)
    return exit_code(result)


def build_kernels(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness build``."""
    spec, kept = parse_spec(options.kernel), open_store()
    check_spec(spec)
    kept.collect()
    wanted = targets.choose(options.target, targets.table(options.table))
    tools = tools_of(options, wanted)
    rows = []
    with Progress() as progress:
        source = resolve(spec, kept)
        for target in wanted:

            def tell(text: str, fraction: float | None, name: str = target.name) -> None:
                progress.cell(name, "kernel", text, fraction)

            kernel = build(
                source, target, kept, patches=options.patch, fragments=fragment_files(options.config), progress=tell, tools=tools
            )
            for warning in kernel.warnings:
                progress.say(f"{target.name}: {warning}")
            rows.append(
                {"target": target.name, "release": kernel.release, "cached": kernel.cached, "seconds": round(kernel.seconds, 1)}
                | {"key": kernel.key, "directory": str(kernel.directory)}
            )
    show_rows(rows, options.json)
    return ExitCode.GOOD


def tell_whether_contained(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness contains SPEC``."""
    spec, kept = parse_spec(options.kernel), open_store()
    spec.need_source("whether it carries the patch is seen in")
    check_spec(spec)
    patches.load(options.patch)
    with Progress() as progress:
        progress.cell("source", "looking", str(spec))
        source = resolve(spec, kept)
        answer = contained(source, options.patch, kept)
    if options.json:
        pieces = [dataclasses.asdict(piece) for piece in answer.pieces]
        told = {"kernel": str(spec), "release": source.release, "tree": source.identity, "answer": str(answer.presence)}
        print(json.dumps(told | {"carried": answer.carried, "history": answer.history, "pieces": pieces}, indent=1))
    else:
        print(f"{' + '.join([source.label, *(path.name for path in options.patch)])}: {answer.presence}")
        for line in ([answer.history] if answer.history else []) + list(answer.lines):
            print(f"  {line}")
    return ExitCode.GOOD if answer.carried else ExitCode.BAD


def judge_again(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness judge DIR``."""
    result = judge(options.directory.absolute(), declared_in(options.semantics) or None)
    _print_run(result, options.directory.absolute(), options.json)
    return exit_code(result)


def record_expectation(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness expect DIR …``."""
    text = expectation.to_toml(expectation.recorded(load_run(directory) for directory in options.directory))
    if options.out is None:
        print(text, end="")
        return ExitCode.GOOD
    try:
        store.write_atomically(options.out, text)
    except OSError as e:
        raise unwritable(options.out, e, "name another file with --out") from e
    return ExitCode.GOOD


def report_again(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness report DIR``."""
    result, _ = report(options.directory.absolute())
    _print_run(result, options.directory.absolute(), options.json)
    return ExitCode.GOOD


def _kernel_rows(kept: store.Store) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for entry in sorted((kept.root / "src").iterdir()):
        series, _, version = entry.name.removeprefix("debian-").partition("-")
        if entry.name.startswith("debian-") and version:
            rows.append({"spec": f"debian:{series}={version}", "state": "source in the store"})
    known = {str(row["spec"]).partition("=")[0] for row in rows}
    offered = debian.offered(kept) or ["6.1"]
    rows += [{"spec": spec, "state": "to be downloaded"} for n in offered if (spec := f"debian:{n}") not in known]
    rows += [{"spec": "tree:PATH", "state": "your own tree"}, {"spec": "git:PATH@REV", "state": "a revision of a repository"}]
    return [
        *rows,
        {"spec": "tarball:FILE", "state": "a source archive"},
        {"spec": "image:PATH", "state": "a built kernel"},
        {"spec": "distro:X.Y", "state": "Debian's own built kernel"},
    ]


def _target_rows(table: Mapping[str, Target]) -> list[dict[str, object]]:
    keys = ("name", "group", "kernel_arch", "byteorder", "page_size", "qemu", "cpu_tcg", "memory", "append")
    rows = [{key: getattr(target, key) for key in keys} for target in table.values()]
    return [row | {"group": row["group"] or targets.ALL} for row in rows]


def _config_rows(table: Mapping[str, Target], as_json: bool) -> list[dict[str, object]]:
    """Those that --config takes by name: what no target has of itself.  Their options are many, and told in JSON."""
    used = {name for target in table.values() for name in target.fragments}
    rows: list[dict[str, object]] = []
    for path in sorted(directory("kconfigs").glob("*.config")):
        if path.stem not in used:
            wants = settings.read([path])
            guest = [f"{key}={value}" for key, value in wants.guest]
            options = [str(option) for option in fragments.read(path)]
            kernel: object = options if as_json else f"{len(options)} options" if options else ""
            rows.append({"name": path.stem, "about": fragments.about(path), "guest": guest, "kernel": kernel})
    return rows


def list_things(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness list``."""
    if options.what == "targets":
        rows: Sequence[Mapping[str, object]] = _target_rows(targets.table(options.table))
    elif options.what == "workloads":
        table = workload_table(options.workload_source)
        rows = [
            {"name": w.name, "properties": list(w.properties), "in_all": not w.on_request, "shows": w.title}
            for w in table.values()
        ]
    elif options.what == "configs":
        rows = _config_rows(targets.table(options.table), options.json)
    else:
        rows = _kernel_rows(open_store())
    show_rows(rows, options.json)
    return ExitCode.GOOD


def examine(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness doctor``."""
    wanted = targets.choose(options.target, targets.table(options.table))
    checks = doctor.examine(wanted, open_store())
    show_rows([dataclasses.asdict(check) for check in checks], options.json)
    return ExitCode.GOOD if all(check.ok for check in checks) else ExitCode.CANNOT_JUDGE


def tabulate(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness table DIR …``."""
    fragments = {name: target.fragments for name, target in targets.table(options.table).items()}
    text = seen.describe([load_run(directory) for directory in options.directory], fragments)
    if options.write_doc:
        markdown.write_part(options.write_doc, options.title, text)
    else:
        print(text, end="")
    return ExitCode.GOOD


COMMANDS = {
    "run": run,
    "build": build_kernels,
    "contains": tell_whether_contained,
    "judge": judge_again,
    "report": report_again,
    "table": tabulate,
    "expect": record_expectation,
    "mutate": mutate,
    "mutants": make_mutants,
    "list": list_things,
    "doctor": examine,
    "store": keep_store,
}

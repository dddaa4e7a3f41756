# SPDX-License-Identifier: GPL-2.0-or-later
"""``ksm-harness mutate`` and ``mutants``: how many broken kernels are caught, and making them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness import outdir, witness
from harness.cli.common import guests_plan, logged, open_store
from harness.cli.main import silence_stdout
from harness.errors import ExitCode, UsageError, unwritable
from harness.mutation import argued, campaign, document, generator, junit, mutant, mutationfile, table
from harness.mutation.mutationfile import Score
from harness.report import Progress, markdown, show_rows
from harness.source import check_spec, parse_spec, resolve

LOG = "mutate.log"


def _take(out: Path) -> None:
    """``out``, made if need be.  UsageError when it holds something that is not ours."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        ours = mutationfile.is_ours(out) or all(entry.name == LOG for entry in out.iterdir())
    except OSError as e:
        raise unwritable(out, e, outdir.ADVICE) from e
    if not ours:
        raise UsageError(f"--out {out} holds something that is no campaign of ours; name an empty or a new directory")


def _plan(options: argparse.Namespace) -> campaign.MutationPlan:
    run = guests_plan(options)
    return campaign.MutationPlan(
        run=run,
        mutants=mutant.read(options.patches, options.only),
        workloads=run.workloads,
        out=run.out,
        arguments=argued.load(options.argued),
        keep_killed=options.keep_killed,
    )


def _print(score: Score, out: Path, as_json: bool) -> None:
    try:
        if as_json:
            print(json.dumps(score.data(), indent=1))
        else:
            show_rows(table.rows(score))
            print(f"\n{table.summary(score)}\n  {out / mutationfile.NAME}")
        print(end="", flush=True)
    except (BrokenPipeError, SystemExit):  # rich makes SystemExit(1) of the former
        silence_stdout()


def mutate(options: argparse.Namespace) -> ExitCode:
    """Try all mutants; the exit code is that of the worst."""
    plan = _plan(options)
    spec = parse_spec(plan.run.kernel)
    spec.need_source("mutants need")
    check_spec(spec)
    if spec.kind == "tree":
        outdir.refuse_inside(plan.out, Path(spec.value))
    if plan.run.witness:
        witness.check()
    if options.write_doc:
        markdown.check(options.write_doc)
    kept = open_store()
    _take(plan.out)
    with logged(plan.out / LOG, more=True), Progress() as progress:
        score = campaign.execute(plan, kept, progress)
    junit.write(plan.out, score)
    if options.write_doc:
        document.write(options.write_doc, f"{options.patches.name}, {options.kernel}, {','.join(options.target)}", score)
    _print(score, plan.out, options.json)
    return score.exit_code()


def _write_patches(out: Path, made: list[generator.Made]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UsageError(f"--out {out} is not empty; name an empty or a new directory")
        for one in made:
            (out / f"{one.name}.patch").write_text(one.file, encoding="utf-8")
    except OSError as e:
        raise unwritable(Path(e.filename or out), e, outdir.ADVICE) from e


def make_mutants(options: argparse.Namespace) -> ExitCode:
    """``ksm-harness mutants``."""
    spec = parse_spec(options.kernel)
    spec.need_source("mutants are made from")
    source = resolve(spec, open_store())
    made: list[generator.Made] = []
    for path in generator.FILES:
        try:
            file = source.files.read(path)
            if file is None:
                raise FileNotFoundError("there is no such file")
            text = file.content.decode()
            made += generator.mutants(path, text, options.function)
        except (OSError, ValueError) as e:
            raise UsageError(f"{options.kernel}: cannot make mutants of {path}: {e}") from e
    if not made:
        raise UsageError(f"{options.kernel}: no function {', '.join(options.function)} in {', '.join(generator.FILES)}")
    made = generator.choose(made, options.count, options.seed) if options.count else made
    _write_patches(options.out, made)
    rows = [{"mutant": m.name, "function": m.function, "operator": m.operator, "line": f"{m.path}:{m.line}"} for m in made]
    show_rows([row | {"does": m.words} for row, m in zip(rows, made, strict=True)], options.json)
    return ExitCode.GOOD

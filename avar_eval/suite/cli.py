"""`avar-eval suite`."""

import contextlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from avar_eval.command_line import interruptible
from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.ranks import launched
from avar_eval.run.options import asking_options
from avar_eval.terminal import say


@examples(
    "avar-eval suite suite.yaml --output avar-runs/suite",
    "avar-eval suite suite.yaml --output avar-runs/suite --limit 20",
    "avar-eval suite suite.yaml --output avar-runs/suite --cluster ray",
    "avar-eval suite suite.yaml --output avar-runs/suite --cluster ray://auto --cluster-workers 2 --parallel 4",
    "avar-eval suite suite.yaml --output avar-runs/suite --dry-run",
    "avar-eval suite suite.yaml --output avar-runs/suite --slurm",
)
@asking_options("limit", "data_dir", "cluster", "cluster_workers")
def suite(
    *,
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="SUITE.yaml", help="Models, tasks, and how they are asked.")],
    output: Annotated[Path, typer.Option(help="Folder for the runs, one in it each, and suite.json.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is to be asked, how long it may take, and what is finished.")
    ] = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Write OUTPUT/suite.sbatch, which runs it on Slurm, and nothing else.")
    ] = False,
    parallel: Annotated[
        int, typer.Option(min=1, help="Runs at a time, of those on a cluster (with --cluster-workers) or at endpoints.")
    ] = 1,
    asked: Mapping[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print suite.json and nothing else.")] = False,
) -> None:
    """Ask all models of SUITE.yaml its tasks, and print the wide table. Run again to resume.

    A model that fails leaves the others running, and is named at the end. Options on the command line go before those
    of the file.
    """
    if (source := context.get_parameter_source("data_dir")) is not None and source.name == "ENVIRONMENT":
        asked = {**asked, "data_dir": None}  # which runs follow where the file names no folder
    if slurm and dry_run:
        raise UsageError("give either --slurm or --dry-run")
    if launched().count > 1:
        raise UsageError("a suite starts its own processes: start it without a launcher")
    # Libraries print, and standard output is for the results.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.suite.read import read_suite
        from avar_eval.suite.run import run_suite

        planned = read_suite(file, output, asked)
        if slurm:
            from avar_eval.suite.slurm import write_slurm

            script = write_slurm(planned, output, asked, parallel)
        elif dry_run:
            from avar_eval.suite.estimate import estimate, estimates_json, print_estimates

            found = estimate(planned, output)
        else:
            state = run_suite(planned, output, parallel)
    if slurm:
        say(f"written: {script}; look at it, then: sbatch {shlex.quote(str(script))}")
        return
    if dry_run:
        if as_json:
            say(estimates_json(found), end="")
        else:
            print_estimates(found, output)
        return
    if as_json:
        say(state.to_json(), end="")
    else:
        from avar_eval.suite.report import print_suite

        print_suite(state, output)
    if any(run.status == "failed" for run in state.runs):
        raise typer.Exit(1)

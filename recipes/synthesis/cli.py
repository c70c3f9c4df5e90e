"""`avar-train synthesize`. Light: nothing heavy is imported before it is needed."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from avar_eval.cluster.address import check_cluster
from avar_eval.command_line import check_choice, interruptible
from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.run.options import asking_options
from avar_eval.terminal import say

if TYPE_CHECKING:
    from avar_eval.recipes.synthesis.rows import Stage

_STAGES = ("describe", "reason", "anchor", "finish")


@examples(
    "avar-train synthesize vard_coldstart --output vard --dry-run",
    "avar-train synthesize my_recipe.yaml --output vard --stage reason --limit 20",
)
@asking_options("cluster", "cluster_workers")
def synthesize(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or vard_coldstart.")],
    output: Annotated[Path, typer.Option(help="Folder for replies, finished rows and report.")],
    stage: Annotated[str, typer.Option(help="Go no further: describe, reason, anchor or finish.")] = "finish",
    limit: Annotated[int | None, typer.Option(min=1, help="The first N questions, a sample of all sources.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say requests, tokens, dollars and hours; ask nothing.")
    ] = False,
    inspect: Annotated[
        int | None, typer.Option(min=1, help="Ask nothing: N finished rows with their pictures, as a page.")
    ] = None,
    *,
    asked: Mapping[str, Any],
) -> None:
    """Visual-anchored reflection data (VARD): describe, reason, anchor, with checks. Run again to resume."""
    check_choice("--stage", stage, _STAGES)
    where = asked["cluster"] if asked["cluster"] is None else _cluster(asked["cluster"])
    from avar_eval.recipes.synthesis.recipe import read_recipe

    read, upto = read_recipe(recipe), cast("Stage", stage)
    with contextlib.redirect_stdout(sys.stderr), interruptible():  # standard output is for what was made
        if inspect is not None:
            from avar_eval.recipes.synthesis.page import write_page

            made = str(write_page(read, output, inspect))
        elif dry_run:
            from avar_eval.recipes.synthesis.estimate import estimate, table

            shown = table(*estimate(read, output, stage=upto, limit=limit))
        else:
            from avar_eval.recipes.synthesis.engine import Cluster
            from avar_eval.recipes.synthesis.pipeline import synthesize

            cluster = None if where is None else Cluster(where, asked["cluster_workers"])
            report = synthesize(read, output, stage=upto, limit=limit, cluster=cluster)
            kept = sum(counts["kept"] for counts in report["sources"].values())
            made = f"{kept} rows finished in {output}" if stage == "finish" else f"{output / 'report.md'}"
    if dry_run and inspect is None:
        from avar_eval.console import wide_console

        wide_console().print(shown)
    else:
        say(made)


def _cluster(given: str) -> str:
    """Which cluster is meant. Raises UsageError."""
    try:
        return str(check_cluster(given))
    except ValueError as error:
        raise UsageError(f"--cluster {given}: {error}") from error

"""`avar-eval score` and `avar-eval compare`: what responses that are there are worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from avar_eval.command_line import (
    IncludeOption,
    JudgeKeyOption,
    JudgeOption,
    JudgeRateOption,
    JudgeUrlOption,
    interruptible,
)
from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.judge.model import judge_from_options
from avar_eval.run.options import asking_options
from avar_eval.terminal import say


@examples(
    "avar-eval score avar-runs/a",
    "avar-eval score --task mathvista --responses responses.jsonl --output judged.jsonl",
)
@asking_options("data_dir")
def score(
    *,
    run_dir: Annotated[Path | None, typer.Argument(help="Folder of a finished run.")] = None,
    task: Annotated[str | None, typer.Option(help="Task of --responses.")] = None,
    responses: Annotated[
        Path | None,
        typer.Option(
            help="JSON Lines: id, response, optionally model and finish_reason; or samples of lmms-eval (.jsonl), a "
            "table of VLMEvalKit (.xlsx, .tsv)."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Whose the --responses are, where their lines do not say.")] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add a row of each model to the leaderboard, as of an external backend.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Where the judged responses go, as JSON Lines.")] = None,
    include_path: IncludeOption = None,
    asked: Mapping[str, Any],
    judge: JudgeOption = None,
    judge_url: JudgeUrlOption = None,
    judge_key_env: JudgeKeyOption = None,
    judge_rate: JudgeRateOption = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON and nothing else.")] = False,
) -> None:
    """Judge responses without generating: a run's again, or those of a file."""
    judge_model = judge_from_options(judge, judge_url, judge_key_env, judge_rate)
    if run_dir is not None:
        if task or responses or output or model or add:
            raise UsageError("give either RUN_DIR or --task and --responses: a run's own files are rewritten")
        from avar_eval.results.run_table import print_results
        from avar_eval.score.rescore import score_run

        with interruptible():
            results = score_run(run_dir, asked["data_dir"], judge_model)
        if as_json:
            say(results.to_json(), end="")
        else:
            print_results(results, run_dir)
        return
    if not task or not responses:
        raise UsageError("give the folder of a finished run, or --task NAME and --responses FILE")
    from avar_eval.results.verdict_tables import print_scores
    from avar_eval.score.response_file import UNNAMED, score_responses, scores_to_json
    from avar_eval.tasks.catalog import find_avar_tasks

    entries = find_avar_tasks(task.split(","))
    if len(entries) > 1:
        raise UsageError("--task takes one task: its --responses are those of one benchmark")
    with interruptible():
        scored = score_responses(entries[0], responses, asked["data_dir"], output, judge_model, model or UNNAMED)
        if add:
            from avar_eval.score.external_row import add_rows

            scored = iter(add_rows(entries[0], responses, list(scored), judge_model))
        if as_json:
            for part in scores_to_json(scored):
                say(part, end="")
        else:
            print_scores(entries[0].name, ((one.model, one.result) for one in scored), output)


@examples(
    "avar-eval compare avar-runs/a avar-runs/b",
    "avar-eval compare avar-runs/a avar-runs/b --json",
)
@asking_options("data_dir")
def compare(
    *,
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs; each is compared with the first.")],
    show: Annotated[
        int,
        typer.Option(min=0, help="Rows to show of each task and direction: prompt, reference, both responses' ends."),
    ] = 0,
    include_path: IncludeOption = None,
    asked: Mapping[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON and nothing else.")] = False,
) -> None:
    """Compare runs row by row with the first: differences, intervals, p values, and the rows that changed.

    Rows that a run lacks are left out and counted. --data-dir adds scores and means that need a benchmark's rows.
    """
    from avar_eval.results.compare import compare as compare_runs
    from avar_eval.results.compare import comparisons_to_json

    if len(runs) < 2:
        raise UsageError("give the folders of two runs or more: each is compared with the first")
    comparisons = compare_runs(*runs, data_dir=asked["data_dir"])
    if as_json:
        say(comparisons_to_json(comparisons))
    else:
        from avar_eval.results.comparison_table import print_comparisons

        print_comparisons(runs[0], runs[1:], comparisons, show)

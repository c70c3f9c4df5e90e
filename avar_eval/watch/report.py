"""What `avar-eval watch` prints: the scores of a run's steps."""

from pathlib import Path

from avar_eval.console import wide_console
from avar_eval.number_format import count
from avar_eval.results.cells import percent_cell, score_cell
from avar_eval.tables import Column, FittedTable
from avar_eval.terminal import say
from avar_eval.watch.complete import BEST_NAME
from avar_eval.watch.scoring import Scoring, scored_steps


def print_scored(of: Scoring) -> None:
    """One row a step and task: the benchmark's score, VAS and the shares of responses without an answer."""
    scored = scored_steps(of)
    if not scored:
        say(f"nothing is scored: {of.output_dir} holds no complete checkpoint yet")
        return
    keys = (Column(heading, text=True, key=True) for heading in ("step", "model", "task"))
    table = FittedTable([*keys, *map(Column, ("n", "score %", "VAS", "truncated %", "unparsed %"))])
    best = (of.output_dir / BEST_NAME).resolve().name
    for step, results in scored.items():
        model = results.protocol["model"]
        name = f"{model} (best)" if step and best == Path(model).name else model
        for task, result in results.tasks.items():
            metrics = result.metrics
            score = (result.headline.values if result.headline else {}).get("strict", metrics["accuracy"])
            table.add_row(
                str(step),
                name,
                task,
                count(metrics["truncated"].n),
                percent_cell(score),
                score_cell(metrics["vas"], result.vas_band),
                percent_cell(metrics["truncated"]),
                percent_cell(metrics["unparsed"]),
            )
    console = wide_console()
    console.print(table)
    console.print(f"over the steps, as a picture: avar-leaderboard curve {of.run}", highlight=False, soft_wrap=True)

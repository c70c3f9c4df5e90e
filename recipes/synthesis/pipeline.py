"""The command: select, ask stage after stage, write what is finished. Run again, it goes on where it was stopped."""

from pathlib import Path
from typing import Any

from avar_eval.errors import AvarError, UsageError
from avar_eval.folder_lock import FolderLock
from avar_eval.models.spending import CostLimitError
from avar_eval.progress import Bar
from avar_eval.recipes.synthesis.engine import Cluster
from avar_eval.recipes.synthesis.finish import write_rows
from avar_eval.recipes.synthesis.recipe import STAGES, Recipe, StageName
from avar_eval.recipes.synthesis.rows import ALL_STAGES, Rows, Stage
from avar_eval.recipes.synthesis.selection import questions, select
from avar_eval.recipes.synthesis.survey import take_survey, total_spent, write_report


class NothingFinishedError(AvarError):
    """No row has passed all checks.

    What to do: Read report.md: it says at which stage rows were lost and why.
    """


def synthesize(
    recipe: Recipe,
    folder: Path,
    *,
    stage: Stage = "finish",
    limit: int | None = None,
    shown: bool = True,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Run all stages up to and with `stage` on the first `limit` questions; returns the content of report.json.

    shown: whether progress is. cluster: where stages without an endpoint run. Raises UsageError for a cluster that no
    stage would use, ClusterError where there is none, NothingFinishedError after everything is written if no row is
    finished, CostLimitError and BackendError where a stage cannot go on, and what selecting raises; replies are kept.
    """
    if cluster is not None and all(recipe.stage(name).backend == "api" for name in STAGES):
        raise UsageError("--cluster: every stage has an endpoint, which spreads its work itself; leave it out")
    with FolderLock(folder) as lock:
        selection = select(recipe, folder)
        with Rows(recipe, folder, lock) as rows:
            count = sum(1 for _ in questions(folder, limit))
            for name in STAGES[: ALL_STAGES.index(stage) + 1]:
                _ask(rows, name, count, limit, shown, cluster)
            if stage == "finish":
                survey = write_rows(rows, selection, questions(folder, limit))
            else:
                survey = take_survey(rows, selection, questions(folder, limit))
            report = write_report(folder, survey)
    if stage == "finish" and not sum(survey.kept.values()):
        raise NothingFinishedError(f"none of {count} rows is finished: {folder / 'report.md'} says what became of them")
    return report


def _ask(rows: Rows, name: StageName, count: int, limit: int | None, shown: bool, cluster: Cluster | None) -> None:
    asker = rows.askers[name]
    left: float | None = None
    if rows.recipe.cost_limit is not None:
        left = rows.recipe.cost_limit - total_spent(rows) + asker.spent()
        if left <= 0:
            raise CostLimitError(f"the recipe's cost_limit of {rows.recipe.cost_limit:g} dollars is spent")
    most = count * asker.model.samples
    with Bar(name, most, shown=shown) as bar:
        asker.ask(rows.requests(name, questions(rows.folder, limit)), most, left, lambda: bar.advance(1), cluster)

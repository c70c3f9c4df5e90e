"""`.eval_results/*.yaml`: scores for the leaderboards that the hub keeps of benchmarks that are tagged there.

https://huggingface.co/docs/hub/eval-results: a data set is a benchmark if it has the tag `benchmark:official`, and its
`eval.yaml` names the tasks. Both are asked of the hub, and nothing of ours is told it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from httpx import HTTPError
from huggingface_hub import EvalResultEntry, HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from avar_eval.leaderboard.row import Row
from avar_eval.number_format import percent
from avar_eval.tasks.catalog import TaskEntry, catalog
from avar_eval.user_files import parse_yaml, read_text

_TAG: Final = "benchmark:official"
_UNREACHABLE: Final = (HTTPError, HfHubHTTPError, OfflineModeIsEnabled, OSError)


@dataclass
class TaggedBenchmarks:
    """Benchmarks that the hub lists. known: by data set, the tasks of its `eval.yaml`, none of one that is not tagged.

    problem: why the hub could not be asked, if it could not.
    """

    api: HfApi
    known: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    problem: str | None = None

    def task_id(self, entry: TaskEntry) -> str | None:
        """What the hub calls a task: of its data set's tasks the one of its split and configuration; None without."""
        if entry.embedded is not None or "/" not in entry.dataset or self.problem is not None:
            return None
        if entry.dataset not in self.known:
            try:
                self.known[entry.dataset] = self._tasks(entry.dataset)
            except _UNREACHABLE as error:
                self.problem = f"{type(error).__name__}: {error}".split("\n")[0]
                return None
        configs = {name or "default" for name in entry.configs}
        fitting = [
            str(task["id"])
            for task in self.known[entry.dataset]
            if task.get("split", entry.split) == entry.split and task.get("config", min(configs)) in configs
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _tasks(self, dataset: str) -> list[dict[str, Any]]:
        if _TAG not in (self.api.dataset_info(dataset).tags or []):
            return []
        told = parse_yaml(read_text(Path(self.api.hf_hub_download(dataset, "eval.yaml", repo_type="dataset"))))
        tasks = told.get("tasks", []) if isinstance(told, dict) else []
        return [task for task in tasks if isinstance(task, dict) and "id" in task]


def eval_results(rows: Iterable[Row], hub: TaggedBenchmarks, source_url: str | None) -> dict[str, EvalResultEntry]:
    """By task, the entry of each row whose benchmark is tagged: value in percent by the published rule, if it has one.

    Only of whole benchmarks, of the model as it is (not steered), and where it was not trained on their data.
    """
    found: dict[str, EvalResultEntry] = {}
    for row in rows:
        entry = catalog().get(row.task)
        if entry is None or row.limit is not None or row.steering is not None or row.trained_on:
            continue
        value, low, high = (
            (row.score, row.score_low, row.score_high)
            if row.official is None
            else (row.official, row.official_low, row.official_high)
        )
        if value is None or (task_id := hub.task_id(entry)) is None:
            continue
        interval = percent(value, (low, high)).partition("\n")[2].strip("[]")
        notes = [
            f"{row.score_name} by {'the published rule' if row.official is not None else 'the strict rule'}",
            f"95 % interval {interval}" if interval else "no interval",
            f"n = {row.n}" + (f", {row.left_out} left out" if row.left_out else ""),
            f"avar-eval protocol {row.run_id}",
            row.mark,
        ]
        found[row.task] = EvalResultEntry(
            dataset_id=entry.dataset,
            task_id=task_id,
            value=round(100 * value, 2),
            dataset_revision=row.data_revision,
            date=row.added,
            source_url=source_url,
            source_name=None if source_url is None else "avar-eval",
            notes="; ".join(notes),
        )
    return found

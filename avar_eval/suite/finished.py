"""Whether a finished run of a suite is still what the suite asks for, from what the run recorded of itself."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from avar_eval.errors import AvarError
from avar_eval.results.schema import RESULTS_NAME, Results, ResultsError, read_results, read_task_records
from avar_eval.run.cards import planned_protocol
from avar_eval.suite.loaded_tasks import LoadedTasks
from avar_eval.suite.read import PlannedRun
from avar_eval.suite.weights import FolderWeights
from avar_eval.tasks.catalog import TaskEntry, grader_version, is_judged
from avar_eval.terminal import note

_ASK_AND_JUDGE: Final = ("avar-eval", "lmms-eval")
"""Packages whose other version may ask or judge otherwise; what computes is left out, which asks nothing anew."""


class FinishedRuns:
    """Looks at finished runs; weights and tasks are read once for all of them."""

    def __init__(self, tasks: LoadedTasks) -> None:
        self._weights, self._tasks = FolderWeights(), tasks

    def difference(self, run: PlannedRun, folder: Path) -> str | None:
        """What makes a run in its folder another one than is planned now; None if it is the same, and whole.

        What `avar-eval run` would find in the same folder by asking again: other options or settings, weights, rows,
        rules or versions, and rows that were left out, which may be had now.
        """
        if not (folder / RESULTS_NAME).exists():
            return f"its {RESULTS_NAME} is gone"
        try:
            results = read_results(folder)
        except ResultsError as error:
            return str(error)
        if left_out := sum(task.left_out.n for task in results.tasks.values()):
            return f"rows were left out: {left_out}"
        if results.protocol.get("command") != run.command:
            return f"it was asked by another command, {results.protocol.get('command')}"
        sha256 = self._weights.sha256(run.model)
        if sha256 is not None and results.protocol.get("weights_sha256") != sha256:
            return "its weights have changed"
        if changed := _changed_settings(run, results):
            return f"its settings have changed: {', '.join(changed)}"
        if judged_anew := [task.name for task in run.tasks if not _same_rules(task, results)]:
            return f"the rules that judge have changed: {', '.join(judged_anew)}"
        return self._changed_tasks(run, results, folder)

    def _changed_tasks(self, run: PlannedRun, results: Results, folder: Path) -> str | None:
        try:
            asked = read_task_records(folder, results.tasks)
        except ResultsError as error:
            return str(error)
        changed = []
        for task in run.tasks:
            recorded = asked[task.name].task_sha256
            if recorded is None:
                return "an earlier version finished it, which did not record of which rows it is"
            try:
                if self._tasks.sha256(task, run.model) != recorded:
                    changed.append(task.name)
            except AvarError as error:
                note(
                    f"note: {run.name} stays as it is; whether the rows of {task.name} have changed is unknown: {error}"
                )
        return f"rows or code of these tasks have changed: {', '.join(changed)}" if changed else None


def _changed_settings(run: PlannedRun, results: Results) -> Sequence[str]:
    """The fields of the protocol in which the run as it is planned now is another one."""
    planned: dict[str, Any] = planned_protocol(run.model, run.tasks)
    versions = results.protocol.get("versions") or {}
    recorded = {name: results.protocol.get(name) for name in planned}
    planned |= {package: version(package) for package in _ASK_AND_JUDGE}
    recorded |= {package: versions.get(package) for package in _ASK_AND_JUDGE}
    if run.judge is not None:  # one that `avar-eval score` has added is no reason to lose its verdicts
        planned["judge"] = run.judge.identity()
        judge = results.protocol.get("judge") or {}
        recorded["judge"] = {name: of for name, of in judge.items() if name != "changed"}
    as_written = json.loads(json.dumps(planned))
    return [name for name, of in as_written.items() if recorded[name] != of]


def _same_rules(task: TaskEntry, results: Results) -> bool:
    """Whether today's rules judged a task's responses; an included task's are part of its code."""
    today = grader_version(task.name) if is_judged(task.name) else None
    return today is None or set((results.protocol.get("grader") or {}).get(task.name, ())) <= {today}

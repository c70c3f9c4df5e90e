"""The tasks of a suite as they are now, each loaded once for all models that are asked it."""

from pathlib import Path
from typing import TYPE_CHECKING

from avar_eval.errors import AvarError
from avar_eval.run.model import ResolvedModel
from avar_eval.tasks.catalog import TaskEntry

if TYPE_CHECKING:
    from avar_eval.run.loaded_task import LoadedTask

_Rows = tuple[str, Path | None, bool]
"""A task, and where its rows come from."""


class LoadedTasks:
    """Loads a task when it is first asked for; what kept it from being loaded is raised for every model."""

    def __init__(self) -> None:
        self._loaded: "dict[_Rows, LoadedTask | AvarError]" = {}
        self._sha256: dict[tuple[_Rows, int | None], str] = {}

    def ids(self, task: TaskEntry, model: ResolvedModel) -> list[str]:
        """Of the rows that a model is asked. Raises AvarError where they cannot be had."""
        return list(self._load(task, model).benchmark.rows)[: model.asking.limit]

    def sha256(self, task: TaskEntry, model: ResolvedModel) -> str:
        """Of the task with the rows that a model is asked: see `task_sha256`. Raises as `ids` does."""
        key = (_rows(task, model), model.asking.limit)
        if key not in self._sha256:
            self._sha256[key] = self._load(task, model).sha256(model.asking.limit)
        return self._sha256[key]

    def _load(self, task: TaskEntry, model: ResolvedModel) -> "LoadedTask":
        key = _rows(task, model)
        if key not in self._loaded:
            from avar_eval.run.loaded_task import LoadedTask

            try:
                self._loaded[key] = LoadedTask.of(task, model)
            except AvarError as error:
                self._loaded[key] = error
        found = self._loaded[key]
        if isinstance(found, AvarError):
            raise found
        return found


def _rows(task: TaskEntry, model: ResolvedModel) -> _Rows:
    return task.name, model.asking.data_dir, model.asking.allow_outside

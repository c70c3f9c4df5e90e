"""Which tasks there are, read from the folders' YAML files. Light: imports neither lmms-eval nor datasets."""

import importlib
import string
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from avar_eval.answers import FinishReason, Judgement
from avar_eval.errors import UsageError
from avar_eval.names import unknown_name
from avar_eval.tasks.groups import groups

TASKS_FOLDER = Path(__file__).parent

Judge = Callable[[Mapping[str, Any], str, FinishReason | None], Judgement]
"""(row, response, finish reason or None) -> judgement"""


class TaskEntry(BaseModel):
    """One task.

    folder: the benchmark's module. data: its folder in a data folder (default: `folder`). configs: the hub dataset's
    configurations, one after the other; [None] for one without. split: one split of the hub, or several ("a+b").
    process_docs: the function in `folder` that gives the hub's rows the form of a data folder. id: names a row, a
    column or a template of columns ("{id}_v{variant}"). images: columns with pictures. where: column values (one, or a
    list of them) that tell the task's rows from others of the same dataset. rows: how many the benchmark's authors
    publish. headline: the metric that is the benchmark's score. missing_is_wrong: the benchmark counts a row without a
    response as not right, where others leave it out. embedded, target: the functions (`module.name` in the folder) that
    make the rows and read a row's answer; target may be a column instead.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    folder: str
    data: str
    dataset: str
    revision: str | None
    configs: list[str | None]
    split: str
    process_docs: str | None
    version: float
    description: str
    id: str
    images: list[str]
    where: dict[str, str | int | list[str]] = {}
    rows: int | None = None
    headline: str = "accuracy"
    missing_is_wrong: bool = False
    embedded: str | None = None
    target: str
    aliases: list[str] = []

    @property
    def id_columns(self) -> list[str]:
        """The columns that make up a row's id."""
        return [name for _, name, _, _ in string.Formatter().parse(self.id) if name] or [self.id]

    def row_id(self, row: Mapping[str, Any]) -> str:
        """What names a row."""
        return self.id.format_map(row) if "{" in self.id else str(row[self.id])

    def selects(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the dataset belongs to the task."""
        return all(
            row[column] in value if isinstance(value, list) else row[column] == value
            for column, value in self.where.items()
        )


class _TaskLoader(yaml.SafeLoader):
    """Reads a task's YAML without importing the functions that it names."""


def _function_name(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_TaskLoader.add_constructor("!function", _function_name)


@cache
def catalog() -> dict[str, TaskEntry]:
    """All tasks by name."""
    entries = (_read(path) for path in sorted(TASKS_FOLDER.glob("*/*.yaml")))
    return {entry.name: entry for entry in entries}


def _config(path: Path) -> dict[str, Any]:
    """A task's YAML over the one that it includes, if any."""
    with path.open(encoding="utf-8") as file:
        config: dict[str, Any] = yaml.load(file, _TaskLoader)
    included = config.pop("include", None)
    return config if included is None else _config(path.parent / included) | config


def _read(path: Path) -> TaskEntry:
    config = _config(path)
    return TaskEntry(
        name=config["task"],
        folder=path.parent.name,
        dataset=config["dataset_path"],
        revision=config["dataset_kwargs"].get("revision"),
        configs=config["dataset_kwargs"].get("configs", [None]),
        split=config["test_split"],
        process_docs=config.get("process_docs"),
        embedded=config["dataset_kwargs"].get("embedded"),
        target=config["doc_to_target"],
        **{"data": path.parent.name} | config["metadata"],
    )


def find_tasks(names: Iterable[str]) -> list[TaskEntry]:
    """The entries of names of tasks and groups or aliases of tasks, in the order asked for, each once.

    Raises UsageError (none, unknown).
    """
    known = {alias: [entry.name] for entry in catalog().values() for alias in (entry.name, *entry.aliases)}
    known |= {name: group.task_names() for name, group in groups().items()}
    found: dict[str, TaskEntry] = {}
    for name in names:
        if name.lower() not in known:
            raise unknown_name("task", name, known, listed_by="avar-eval tasks")
        found |= {task: catalog()[task] for task in known[name.lower()]}
    if not found:
        raise UsageError("name at least one task; `avar-eval tasks` lists them")
    return list(found.values())


def hooks_of(task: str) -> Any:
    """The `task.py` of the folder of a task of the catalog, which says what is special about the benchmark.

    judge(row, response, finish_reason) -> Judgement     strict verdict, and the official rule's
    needed_pictures(row) -> columns                      optional; without: all of the entry's `images`
    cluster(row) -> str                                  optional: rows that are not independent; without: the row's id
    parts(rows) -> {name: Units or MeanOf}               optional: what the benchmark's own metrics are shares of
    guess_chance(row) -> share or None                   optional: where the official rule has no verdict because it
                                                         guesses, how probably the guess is right

    All but `needed_pictures` get rows without the columns of pictures.
    """
    return importlib.import_module(f"avar_eval.tasks.{catalog()[task].folder}.task")


def function_of(entry: TaskEntry, name: str) -> Callable[..., Any]:
    """A function that a task's YAML names as `module.name`."""
    module, _, function = name.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(f"avar_eval.tasks.{entry.folder}.{module}"), function)
    return found


def question_and_target(task: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """A row's question with its options, as the benchmark words it, and its gold answer."""
    entry = catalog()[task]
    question = hooks_of(task).doc_to_text(row, {"prompt_style": "direct"})
    target = function_of(entry, entry.target)(row) if "." in entry.target else row[entry.target]
    return str(question), str(target)


def judge_of(task: str) -> Judge:
    """How responses to a task of the catalog are judged."""
    judge: Judge = hooks_of(task).judge
    return judge

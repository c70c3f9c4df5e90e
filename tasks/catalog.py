"""Which tasks there are, read from the folders' YAML files. Light: imports neither lmms-eval nor datasets."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from avar_eval.answers import FinishReason, Judgement
from avar_eval.errors import UsageError
from avar_eval.names import unknown_name

TASKS_FOLDER = Path(__file__).parent

Judge = Callable[[Mapping[str, Any], str, FinishReason | None], Judgement]
"""(row, response, finish reason or None) -> judgement"""


class TaskEntry(BaseModel):
    """One task. id: row field that names a row; folder: the benchmark's module; images: row fields with pictures."""

    model_config = ConfigDict(extra="forbid")

    name: str
    folder: str
    dataset: str
    revision: str | None
    split: str
    version: float
    description: str
    id: str
    images: list[str]
    aliases: list[str] = []


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
        split=config["test_split"],
        **config["metadata"],
    )


def find_tasks(names: Iterable[str]) -> list[TaskEntry]:
    """The entries of task names or aliases, in the order asked for, each once. Raises UsageError (none, unknown)."""
    known = {alias: entry for entry in catalog().values() for alias in (entry.name, *entry.aliases)}
    found: dict[str, TaskEntry] = {}
    for name in names:
        if name.lower() not in known:
            raise unknown_name("task", name, known)
        entry = known[name.lower()]
        found[entry.name] = entry
    if not found:
        raise UsageError(f"name at least one task of: {', '.join(sorted(known))}")
    return list(found.values())


def judge_of(task: str) -> Judge:
    """How responses to a task of the catalog are judged: the `judge` of its folder's `task.py`."""
    judge: Judge = importlib.import_module(f"avar_eval.tasks.{catalog()[task].folder}.task").judge
    return judge

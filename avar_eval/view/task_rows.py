"""A task's rows where they are at hand: the pictures that records were asked with, and gold answers."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from avar_eval.errors import AvarError
from avar_eval.pictures import UNREADABLE, allowed_outside, open_picture, whole_pictures_only
from avar_eval.tasks.catalog import TaskEntry, gold_answer, load_function, task_hooks, task_named
from avar_eval.tasks.files import DataError, checked_path, read_rows


@dataclass(frozen=True)
class TaskRows:
    """A task's rows. problem: why there are none, in words for the reader of the page."""

    problem: str | None
    _row: Callable[[str], Mapping[str, Any] | None]
    _visuals: Callable[[Mapping[str, Any]], list[Image.Image]]
    _reference: Callable[[Mapping[str, Any]], str | None]

    @classmethod
    def of(cls, task: str, data_dir: Path | None, allow_outside: bool = False) -> "TaskRows":
        """The rows, embedded, of a data folder, or from the hub's cache or the hub; without them none has a picture."""
        try:
            entry = task_named(task)
            return _lmms_eval_rows(entry) if entry.form == "lmms-eval" else _our_rows(entry, data_dir, allow_outside)
        except KeyError:
            problem = f"this avar-eval does not know the task {task}: --include-path takes the folder that has it"
        except AvarError as error:
            problem = str(error)
        return cls(problem, lambda _: None, lambda _: [], lambda _: None)

    def visuals(self, row_id: str) -> list[Image.Image] | None:
        """The row's pictures as a model is given them; None where they are not at hand or cannot be read."""
        row = self._row(row_id)
        try:
            with whole_pictures_only():
                return None if row is None else self._visuals(row)
        except (AvarError, KeyError, TypeError, *UNREADABLE):
            return None

    def reference(self, row_id: str) -> str | None:
        """The row's gold answer, as far as it is at hand."""
        row = self._row(row_id)
        return None if row is None else self._reference(row)


def data_folder(command: str) -> Path | None:
    """The --data-dir of a run's command line, if it had one and that folder is there."""
    named = command_option(command, "--data-dir")
    return Path(named).expanduser() if named and Path(named).expanduser().is_dir() else None


def command_option(command: str, *flags: str) -> str | None:
    """What a run's command line has after one of these flags, the first that it has; None without any."""
    try:
        words = shlex.split(command)
    except ValueError:  # a run's files are other people's
        return None
    for word, following in pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        if flag in flags:
            return (value if equals else following) or None
    return None


def _our_rows(entry: TaskEntry, data_dir: Path | None, allow_outside: bool) -> TaskRows:
    doc_to_visual: Callable[[Mapping[str, Any]], list[Image.Image]] = task_hooks(entry.name).doc_to_visual
    visuals = doc_to_visual
    row_of: Callable[[str], Mapping[str, Any] | None]
    if entry.embedded is not None:
        row_of = {entry.row_id(row): row for row in load_function(entry, entry.embedded)(entry.split)}.get
    elif data_dir is not None:
        row_of = {entry.row_id(row): row for row in read_rows(entry, data_dir)}.get
        allowed = allow_outside or allowed_outside()

        def visuals(row: Mapping[str, Any]) -> list[Image.Image]:
            named = [name for name in entry.images if row[name]]
            paths = {name: checked_path(entry, data_dir, dict(row), name, allowed) for name in named}
            return doc_to_visual({**row, **{name: open_picture(path) for name, path in paths.items()}})
    else:
        from avar_eval.tasks.hub import rows_from_hub  # datasets

        rows = rows_from_hub(entry)
        numbers = {entry.row_id(row): number for number, row in enumerate(rows.remove_columns(entry.images))}

        def row_of(row_id: str) -> Mapping[str, Any] | None:
            return rows[numbers[row_id]] if row_id in numbers else None

    def reference(row: Mapping[str, Any]) -> str | None:
        return gold_answer(entry.name, {name: value for name, value in row.items() if name not in entry.images})

    return TaskRows(None, row_of, visuals, reference)


def _lmms_eval_rows(entry: TaskEntry) -> TaskRows:
    """Of a task in lmms-eval's form: a row's id is its number."""
    from avar_eval.tasks.lmms_eval_tasks import load_lmms_eval_task  # lmms-eval

    task = load_lmms_eval_task(entry)
    rows = task.eval_docs

    def row(row_id: str) -> Mapping[str, Any] | None:
        number = int(row_id) if row_id.isdecimal() else -1
        return rows[number] if 0 <= number < len(rows) else None

    def visuals(row: Mapping[str, Any]) -> list[Image.Image]:
        try:
            found = task.doc_to_visual(dict(row))
        except Exception as error:  # a function of the task's, which may fail in any way
            raise DataError(f"{entry.name} cannot show its pictures: {error}") from error
        return [one for one in found or [] if isinstance(one, Image.Image)]

    return TaskRows(None, row, visuals, lambda _: None)

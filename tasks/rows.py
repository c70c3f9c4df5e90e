"""How our benchmarks become lmms-eval tasks: where their rows come from, and what is reported of a judged response."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import lmms_eval.models  # noqa: F401  # before others of it: turns lmms-eval's debug messages off
from lmms_eval.api.task import ConfigurableMessagesTask

from avar_eval.answers import Judgement
from avar_eval.in_words import shown
from avar_eval.pictures import allowed_outside
from avar_eval.records.record import JudgementRecord, Response
from avar_eval.tasks.catalog import Judge, TaskEntry, catalog, get_judge, grader_version
from avar_eval.tasks.files import DataError, with_pictures
from avar_eval.tasks.hub import rows_from_hub

DATA_DIR_VARIABLE = "AVAR_DATA_DIR"
"""Environment variable with the folder of prepared benchmarks (`--data-dir`): plain lmms-eval follows it too."""


class RowsTask(ConfigurableMessagesTask):  # type: ignore[misc]
    """An lmms-eval chat task whose rows come from this package, from a local folder or from the hub.

    `dataset_kwargs` holds `embedded` (a function split -> rows) or `revision`. data_dir: folder of prepared benchmarks
    (None: what AVAR_DATA_DIR names, if it does). allow_outside: whether rows may name pictures outside of it. Rows
    whose picture is missing or broken are left out and named in `left_out` (id -> reason).
    """

    def __init__(self, config: dict[str, Any], data_dir: Path | None = None, allow_outside: bool = False) -> None:
        self.left_out: dict[str, str] = {}
        self._data_dir, self._allow_outside = data_dir, allow_outside
        settings = {key: value for key, value in config.items() if key != "class"}
        # lmms-eval would cut the thinking out before it judges: ours is judged whole, and carries its record.
        process_results = response_metrics(get_judge(config["task"]), grader_version(config["task"]))
        ours = {"process_results": process_results, "reasoning_tags": "none"}
        super().__init__(config=settings | ours)

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        """Fill `dataset` with the rows of the test split. Raises DataError."""
        entry = catalog()[self.config.task]
        kwargs = dataset_kwargs or {}
        data_dir = self._data_dir or os.environ.get(DATA_DIR_VARIABLE)
        if "embedded" in kwargs:
            rows = datasets.Dataset.from_list(list(kwargs["embedded"](entry.split)))
        elif data_dir:
            rows, self.left_out = rows_from_folder(Path(data_dir), entry, self._allow_outside)
        else:
            rows = _rows_from_hub(entry)
        self.dataset = datasets.DatasetDict({entry.split: rows})
        self.dataset_no_image = datasets.DatasetDict({entry.split: rows.remove_columns(entry.images)})


def _rows_from_hub(entry: TaskEntry) -> datasets.Dataset:
    try:
        return rows_from_hub(entry)
    except DataError as error:
        raise DataError(
            f"{error}; where there is a network, `avar-eval data fetch {entry.name} --data-dir DIR` makes a folder "
            "that --data-dir takes anywhere"
        ) from error


_NO_TABLE = (TypeError, ValueError, OverflowError)
"""What pyarrow raises for a column of numbers and texts, or with a number of more than 64 bits."""


def _no_table(entry: TaskEntry, rows: Sequence[Mapping[str, Any]]) -> str:
    """The column that no table can hold, and why."""
    for name in dict.fromkeys(name for row in rows for name in row):
        kinds = {type(row[name]): row for row in reversed(rows) if row.get(name) is not None}
        try:
            datasets.Dataset.from_dict({name: [row.get(name) for row in rows]})
        except _NO_TABLE:
            held = [f"{shown(row[name])} in row {entry.row_id(row)}" for row in reversed(kinds.values())]
            wanted = "write it alike in all rows" if len(held) > 1 else "write it as a text, or leave it out"
            return f"`{name}` is {' and '.join(held[:2])}: {wanted}"
    return "their fields differ: give all rows the same ones"


def rows_from_folder(
    data_dir: Path, entry: TaskEntry, allow_outside: bool = False
) -> tuple[datasets.Dataset, dict[str, str]]:
    """The task's rows with their pictures, and why others, by id, are left out for want of one. Raises DataError."""
    rows, left_out = with_pictures(entry, data_dir, allow_outside or allowed_outside())
    try:
        dataset = datasets.Dataset.from_list(rows)
    except _NO_TABLE as error:
        raise DataError(f"the rows of {data_dir / entry.data} do not make a table: {_no_table(entry, rows)}") from error
    for column in entry.images:
        dataset = dataset.cast_column(column, datasets.Image())
    return dataset, left_out


def response_metrics(
    judge: Judge, grader: str | None = None
) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, float | None]]:
    """A task's `process_results`: judges a response and reports what its record knows of it.

    grader: the version of `judge` (None: unknown); a record that it has judged is not judged again. Without a record
    (a plain lmms-eval model) VAS is unknown (None), which the aggregation leaves out.
    """

    def process_results(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | None]:
        response = results[0]
        record = response.record if isinstance(response, Response) else None
        finish_reason = record.finish_reason if record else None
        judgement: Judgement | JudgementRecord | None = record.judgement if record else None
        if judgement is None or judgement.grader != grader:
            judgement = judge(row, str(response), finish_reason)
        attention = record.attention if record else None
        return {
            "accuracy": float(judgement.correct),
            "official": None if judgement.official is None else float(judgement.official),
            "truncated": float(finish_reason == "length" or judgement.state == "truncated"),
            "unparsed": float(judgement.state == "unparsed"),
            "vas": attention.user.vas if attention and attention.user else None,
            "vas_response": attention.response.vas if attention and attention.response else None,
        }

    return process_results


def mean_of_known(values: Iterable[float | None]) -> float:
    """The mean of the values that are known; nan if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")

"""How our benchmarks become lmms-eval tasks: where their rows come from, and what is reported of a judged response."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from lmms_eval.api.task import ConfigurableMessagesTask
from PIL import Image

from avar_eval.errors import AvarError
from avar_eval.pictures import whole_pictures_only
from avar_eval.records import Response
from avar_eval.tasks.catalog import Judge, TaskEntry, catalog, judge_of

DATA_DIR_VARIABLE = "AVAR_DATA_DIR"
"""Environment variable with the folder of prepared benchmarks (`--data-dir`): plain lmms-eval follows it too."""


class DataError(AvarError):
    """A benchmark's rows cannot be had or are damaged."""


class RowsTask(ConfigurableMessagesTask):  # type: ignore[misc]
    """An lmms-eval chat task whose rows come from this package, from a local folder or from the hub.

    `dataset_kwargs` holds `embedded` (a function split -> rows) or `revision`. Rows whose picture is missing are left
    out and named in `left_out`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.left_out: list[str] = []
        settings = {key: value for key, value in config.items() if key != "class"}
        # lmms-eval would cut the thinking out before it judges: ours is judged whole, and carries its record.
        ours = {"process_results": response_metrics(judge_of(config["task"])), "reasoning_tags": "none"}
        super().__init__(config=settings | ours)

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        """Fill `dataset` with the rows of the test split. Raises DataError."""
        entry = catalog()[self.config.task]
        kwargs = dataset_kwargs or {}
        data_dir = os.environ.get(DATA_DIR_VARIABLE)
        if "embedded" in kwargs:
            rows = datasets.Dataset.from_list(list(kwargs["embedded"](entry.split)))
        elif data_dir:
            rows, self.left_out = rows_from_folder(Path(data_dir) / entry.folder, entry)
        else:
            rows = _rows_from_hub(entry, self.config.process_docs)
        self.dataset = datasets.DatasetDict({entry.split: rows})
        self.dataset_no_image = datasets.DatasetDict({entry.split: rows.remove_columns(entry.images)})


def rows_from_folder(folder: Path, entry: TaskEntry) -> tuple[datasets.Dataset, list[str]]:
    """The rows of `folder/rows.jsonl` with their pictures, and the ids of rows left out for want of a picture.

    Image columns hold paths relative to the folder, or null. Raises DataError for a missing folder, a damaged line, a
    picture that cannot be read, or when no row is left.
    """
    path = folder / "rows.jsonl"
    rows, left_out = [], []
    for row in _read_lines(path, {entry.id, *entry.images}):
        pictures = {column: row[column] and folder / row[column] for column in entry.images}
        if all(picture and picture.is_file() for picture in pictures.values()):
            for picture in pictures.values():
                _check_picture(picture)
            rows.append(row | {column: str(picture) for column, picture in pictures.items()})
        else:
            left_out.append(str(row[entry.id]))
    if not rows:
        raise DataError(f"{path} has no row with its picture: put the image files beside it")
    try:
        dataset = datasets.Dataset.from_list(rows)
    except (TypeError, ValueError) as error:  # such as a column of numbers and texts
        raise DataError(f"the rows of {path} do not make a table: {error}") from error
    for column in entry.images:
        dataset = dataset.cast_column(column, datasets.Image())
    return dataset, left_out


def _read_lines(path: Path, needed: set[str]) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"there is no {path}: --data-dir takes a folder with one sub-folder a benchmark") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    rows = []
    # Not splitlines(), which also breaks at U+2028 and U+0085: JSON strings may hold those as they are.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number} is damaged ({error}): fetch the file again") from error
        if not isinstance(row, dict) or not needed <= row.keys():
            raise DataError(f"{path}, line {number} is no row with the fields {', '.join(sorted(needed))}")
        rows.append(row)
    return rows


def _check_picture(path: Path) -> None:
    try:
        with whole_pictures_only(), Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"the picture {path} is broken ({error}): fetch it again") from error


def _rows_from_hub(
    entry: TaskEntry, process: Callable[[datasets.Dataset], datasets.Dataset] | None
) -> datasets.Dataset:
    try:
        rows = datasets.load_dataset(entry.dataset, split=entry.split, revision=entry.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"the dataset {entry.dataset} is neither in the cache nor can the Hugging Face hub be reached: "
            f"give --data-dir a folder with {entry.folder}/rows.jsonl in it ({type(error).__name__})"
        ) from error
    return process(rows) if process else rows


def response_metrics(judge: Judge) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, float | None]]:
    """A task's `process_results`: judges a response and reports what its record knows of it.

    Without a record (a plain lmms-eval model) VAS is unknown (None), which the aggregation leaves out.
    """

    def process_results(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, float | None]:
        response = results[0]
        record = response.record if isinstance(response, Response) else None
        finish_reason = record.finish_reason if record else None
        judgement = judge(row, str(response), finish_reason)
        attention = record.attention if record else None
        return {
            "accuracy": float(judgement.correct),
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

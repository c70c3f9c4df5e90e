"""The rows of a benchmark from the Hugging Face hub, or from its cache on this machine. Does not import lmms-eval."""

from collections.abc import Callable

import datasets

from avar_eval.tasks.catalog import TaskEntry, load_function
from avar_eval.tasks.files import DataError


def rows_from_hub(entry: TaskEntry) -> datasets.Dataset:
    """The task's rows at the pinned revision, in the form that a data folder has, pictures in their columns.

    Raises DataError if the dataset is neither in the cache nor to be had.
    """
    try:
        parts = [
            datasets.load_dataset(entry.dataset, config, split=entry.split, revision=entry.revision)
            for config in entry.configs
        ]
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"the dataset {entry.dataset} is neither in the cache nor can it be had from the Hugging Face hub "
            f"({type(error).__name__}: {reason})"
        ) from error
    rows = datasets.concatenate_datasets(parts)
    if entry.where:
        plain = rows.select_columns(list(entry.where))
        rows = rows.select([index for index, row in enumerate(plain) if entry.selects(row)])
    process = _process_docs(entry)
    return process(rows) if process else rows


def _process_docs(entry: TaskEntry) -> Callable[[datasets.Dataset], datasets.Dataset] | None:
    """The function that the task's YAML names in `process_docs`."""
    if entry.process_docs is None:
        return None
    return load_function(entry, entry.process_docs)

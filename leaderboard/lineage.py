"""Of which training a row's model is a checkpoint, and of which family it is: models of one are not independent."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from avar_eval.leaderboard.row import Row
from avar_eval.models.registry import find_by_weights, find_model

_CHECKPOINT: Final = re.compile(
    r"(?P<training>.+?)(?:/|--)(?:checkpoint|step|epoch)[-_]?(?P<step>\d+)/?", re.IGNORECASE
)


def training_place(row: Row) -> tuple[str | None, int | None]:
    """The training that a row's model is a checkpoint of, and its step; none of a base model, which is step 0.

    A checkpoint that nobody watched is told by its name.
    """
    if row.training_run is not None:
        return (None, None) if row.training_step == 0 else (row.training_run, row.training_step)
    numbered = _CHECKPOINT.fullmatch(row.model)
    return (numbered["training"], int(numbered["step"])) if numbered else (None, None)


def base_models(rows: Iterable[Row]) -> dict[str, str]:
    """The model that each training started from, of those whose step 0 has a row."""
    return {row.training_run: row.model for row in rows if row.training_run is not None and row.training_step == 0}


def model_family(row: Row, bases: Mapping[str, str]) -> str:
    """The architecture of the registry's entry of a row's model, or of the base that it was trained from.

    bases: as of `base_models`. A model, or a training, of which neither is known is a family of its own.
    """
    training, _ = training_place(row)
    model = row.model if training is None else bases.get(training, training)
    entry = find_model(model) or find_by_weights(model)
    if entry is None:
        return model
    return entry.name if entry.bundled else entry.architecture or entry.name

"""Several sources in one file, a seeded sample of each. A mixture is a source of rows by itself.

    sources:
      - {source: geo3k, count: 2100}
      - {source: ai2d=data/ai2d, count: 1500, domain: science}
    seed: 0

A synthesis recipe is one as well: named as training data, it is its questions, before anything is synthesised.
"""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from avar_eval.errors import UsageError
from avar_eval.in_words import in_words
from avar_eval.names import listed_names
from avar_eval.recipes.sources import (
    EMBEDDED,
    Found,
    Thoughts,
    TrainingDataError,
    check_source,
    mixture_file,
    published_rows,
)
from avar_eval.user_files import read_yaml


class RowSource(BaseModel):
    """source: one, as in `train_data` of a training recipe. count: rows drawn from it (None: all that it has).

    domain: which prompts its rows get when they are synthesised; auto: what the row's own field or its source says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    count: int | None = Field(default=None, ge=1)
    domain: Literal["math", "science", "auto"] = "auto"

    @field_validator("source")
    @classmethod
    def _can_be_had(cls, source: str) -> str:
        if "," in source:
            raise ValueError("one source an entry")
        try:
            check_source(source)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return source


class Mixture(BaseModel):
    """sources: each once. seed: of the samples."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sources: list[RowSource] = Field(min_length=1)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)


def read_mixture(path: Path) -> Mixture:
    """The mixture in a file. Raises UsageError."""
    content = read_yaml(path, "the mixture")
    try:
        return Mixture.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {in_words(error)}") from None


def parts_of(sources: str) -> list[RowSource]:
    """The sources that are named, with those of a mixture in its place. Raises UsageError."""
    parts: list[RowSource] = []
    for source in listed_names(sources):
        path = mixture_file(source)
        parts += [RowSource.model_construct(source=source)] if path is None else read_mixture(path).sources
    return parts


def mixed_rows(path: Path, split: str, thoughts: Thoughts) -> Found:
    """The rows of all sources of a mixture, one source after the other, each with its `source` and `id`."""
    mixture = read_mixture(path)
    for entry in mixture.sources:
        for number, row, home in drawn_rows(entry, mixture.seed, split, thoughts):
            own = row.get("id")
            yield {**row, "source": entry.source, "id": number if own in (None, "") else own}, home


def drawn_rows(
    entry: RowSource, seed: int, split: str = "train", thoughts: Thoughts = "anchored"
) -> Iterator[tuple[int, Mapping[str, Any], Path | None]]:
    """Number, row and folder of a seeded sample, in the source's order. Rows are counted first, and then gone through.

    The embedded world, which has no end, gives its first `count` rows of that seed.
    """

    def found() -> Found:
        return published_rows(entry.source, split, entry.count, thoughts, seed)

    chosen = None
    if entry.source not in EMBEDDED:
        count = sum(1 for _ in found())
        if not count:
            raise TrainingDataError(f"{entry.source} holds no rows")
        if entry.count is not None and entry.count < count:
            chosen = frozenset(random.Random(f"{seed}/{entry.source}").sample(range(count), entry.count))
    for number, (row, home) in enumerate(found()):
        if chosen is None or number in chosen:
            yield number, row, home

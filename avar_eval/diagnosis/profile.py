"""Where a model looks, over all measured responses of a finished run: by layer, along the response, by role."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from avar_eval.attention.bands import Band, vas_band
from avar_eval.attention.record import Queries
from avar_eval.attention.steering import Steering
from avar_eval.attention.summary import QueryAttention
from avar_eval.errors import AvarError, UsageError
from avar_eval.in_words import fault_in_words
from avar_eval.records.attention import ATTENTION_LINES
from avar_eval.records.book import ATTENTION_NAME, RECORDS_NAME, RecordBookError, stream_records
from avar_eval.records.journal import JournalError, stream_lines
from avar_eval.records.record import Record
from avar_eval.results.prompting import note_on_prompts, prompting_sha256
from avar_eval.results.schema import Metric, Results, read_results, read_task_records
from avar_eval.results.summary import has_band
from avar_eval.statistics import mean_of_ratios

QUERY_SETS: tuple[Queries, ...] = ("user", "response")
PARTS = 20
"""Equal parts of a response along which its scores are averaged, so that short and long ones can be."""
_ANEW = "run the evaluation into a new --output, which measures attention anew"
LARGEST_FLOAT16 = 65504.0
"""Scores along the response are kept in float16; a greater one is counted as this."""

Row = tuple[str, str, int]
"""Task, row and sample: the same question in every run."""


class ProfileError(AvarError):
    """Runs of which no profile can be made, and why.

    What to do: Name finished runs whose attention was measured, on the same questions.
    """


class ModelProfile(BaseModel):
    """One model's profile over n responses.

    band: the paper's, of the question's VAS; None where a few responses make the mean, or the run was steered. vas,
    vas_by_layer: Eq. 2 as seen from the question's tokens (`user`) and the answer's, means over responses; vas_by_layer
    has no entry where single layers have no score. vas_along: that of the answer's tokens, averaged in
    PARTS equal parts of each answer, first to last; beyond: how many of them were beyond float16. share: query set ->
    role -> mean share (0..1) of attention.
    """

    model_config = ConfigDict(extra="forbid")

    label: str
    run: str
    n: int
    layers: int
    band: Band | None = None
    vas: dict[Queries, Metric]
    vas_by_layer: dict[Queries, list[Metric]]
    vas_along: list[float | None]
    beyond: int
    share: dict[Queries, dict[str, float]]


class Profile(BaseModel):
    """The content of profile.json: several models on the same questions of `tasks`. note: how they are not alike."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    tasks: list[str]
    models: list[ModelProfile]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class AttentionProfile:
    """A record's attention from one query set, as little as a profile needs: tens of thousands are in memory together.

    vas, vas_by_layer (nan: not defined) as in the record; share: role -> mean over its layers.
    """

    vas: float | None
    vas_by_layer: Float[np.ndarray, " layers"] | None
    share: dict[str, float]
    layers: int

    @classmethod
    def of(cls, attention: QueryAttention) -> "AttentionProfile":
        """From a record."""
        by_layer = attention.vas_by_layer
        return cls(
            vas=attention.vas,
            vas_by_layer=None if by_layer is None else np.array(by_layer, dtype=np.float64),
            share={role: float(np.mean(shares)) for role, shares in attention.share_by_layer.items()},
            layers=max(map(len, attention.share_by_layer.values())),
        )


@dataclass(frozen=True, slots=True)
class MeasuredResponse:
    """A response by its record's key, and where it and its question look."""

    key: str
    row: Row
    profiles: dict[Queries, AttentionProfile]

    @classmethod
    def of(cls, record: Record) -> "MeasuredResponse | None":
        """From a record; None where no attention was measured."""
        if record.attention is None:
            return None
        seen: dict[Queries, QueryAttention | None]
        seen = {"user": record.attention.user, "response": record.attention.response}
        profiles = {name: AttentionProfile.of(of) for name, of in seen.items() if of is not None}
        return cls(record.key, (record.task, record.row_id, record.sample), profiles)


class MeasuredRun:
    """The measured responses of one finished run, by question."""

    def __init__(self, folder: Path, tasks: Sequence[str] | None = None) -> None:
        """Raises ResultsError, RecordBookError and ProfileError, UsageError for a task that the run does not have."""
        self.folder = folder
        self.results = read_results(folder)
        self.label = _label(self.results)
        missing = [task for task in tasks or () if task not in self.results.tasks]
        if missing:
            raise UsageError(f"{folder} has no {missing[0]}: it asked {', '.join(self.results.tasks)}")
        self.tasks = list(tasks or self.results.tasks)
        asked = [key for of in read_task_records(folder, self.tasks).values() for key in of.keys]
        # an absent record is False, one without attention None
        found: dict[str, MeasuredResponse | Literal[False] | None] = dict.fromkeys(asked, False)
        for record in stream_records(folder / RECORDS_NAME):
            if record.key in found:
                found[record.key] = MeasuredResponse.of(record)
        if False in found.values():
            raise RecordBookError(f"{folder / RECORDS_NAME} lacks records of this run: run the evaluation again")
        self.records = {known.row: known for known in found.values() if known}
        if not self.records:
            raise ProfileError(f"{folder} has no measured attention: run it again with --attention on, not with an API")


def profile(runs: Sequence[MeasuredRun]) -> Profile:
    """Profiles of several runs over the questions that all of them measured. Raises ProfileError without any."""
    common = set.intersection(*(set(run.records) for run in runs))
    if not common:
        have = "; ".join(f"{run.folder} has {len(run.records)} of {', '.join(run.tasks)}" for run in runs)
        raise ProfileError(f"the runs have no measured question in common: {have}")
    rows = sorted(common)
    labels = _distinct(runs)
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    models = [_profile(run, label, rows) for run, label in zip(runs, labels, strict=True)]
    note = note_on_prompts(prompting_sha256(run.results.protocol) for run in runs)
    return Profile(tasks=tasks, models=models, note=note)


def _profile(run: MeasuredRun, label: str, rows: Sequence[Row]) -> ModelProfile:
    records = [run.records[row] for row in rows]
    seen = {name: [record.profiles[name] for record in records if name in record.profiles] for name in QUERY_SETS}
    along, beyond = _along(run.folder, [record.key for record in records])
    vas = {name: _mean([one.vas for one in of]) for name, of in seen.items()}
    asked = vas["user"]
    # a mean that a few responses make has no interval
    banded = asked.ci95 is not None and has_band(run.results.protocol)
    return ModelProfile(
        label=label,
        run=str(run.folder),
        n=len(records),
        layers=max(one.layers for of in seen.values() for one in of),
        band=vas_band(asked.value) if banded and asked.value is not None else None,
        vas=vas,
        vas_by_layer={name: curve for name, of in seen.items() if (curve := _by_layer(of))},
        vas_along=along,
        beyond=beyond,
        share={name: _shares(of) for name, of in seen.items() if of},
    )


def _mean(values: Sequence[float | None]) -> Metric:
    return Metric.of(mean_of_ratios([value for value in values if value is not None]))


def _by_layer(seen: Sequence[AttentionProfile]) -> list[Metric]:
    """The mean of each layer over responses; nothing where single layers have no score."""
    curves = [one.vas_by_layer for one in seen if one.vas_by_layer is not None]
    return [_mean(layer[~np.isnan(layer)].tolist()) for layer in np.stack(curves, axis=1)] if curves else []


def _shares(seen: Sequence[AttentionProfile]) -> dict[str, float]:
    """Role -> mean share over layers and responses."""
    return {role: float(np.mean([one.share[role] for one in seen])) for role in seen[0].share}


def _along(folder: Path, keys: Sequence[str]) -> tuple[list[float | None], int]:
    """The mean over responses of each part's mean score, and how many scores were beyond float16."""
    by_response = _response_scores(folder, keys)
    parts, beyond = [], 0
    for scores in by_response:
        if scores.size:
            beyond += int(np.isinf(scores).sum())
            parts.append(in_parts(np.minimum(scores, LARGEST_FLOAT16)))
    if not parts:
        return [None] * PARTS, 0
    table = np.stack(parts)
    known = ~np.isnan(table)
    sums = np.where(known, table, 0).sum(0)
    return [float(total / n) if n else None for total, n in zip(sums, known.sum(0), strict=True)], beyond


def _response_scores(folder: Path, keys: Sequence[str]) -> list[Float[np.ndarray, " tokens"]]:
    """The scores of each response's tokens, of the newest line of each key."""
    path = folder / ATTENTION_NAME
    found: dict[str, Float[np.ndarray, " tokens"] | None] = dict.fromkeys(keys)
    try:
        for line in stream_lines(path, ATTENTION_LINES):
            if line["key"] in found:
                found[line["key"]] = response_scores(line)
    except JournalError as error:
        raise ProfileError(f"{error}; the run's attention is damaged or missing: {_ANEW}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ProfileError(f"{path} is damaged ({fault_in_words(error)}): {_ANEW}") from error
    known = [scores for scores in found.values() if scores is not None]
    if len(known) < len(found):
        raise ProfileError(f"{path} lacks responses of this run: {_ANEW}")
    return known


def response_scores(line: Mapping[str, Any]) -> Float[np.ndarray, " tokens"]:
    """Eq. 2 of each response token, in order, from a line of attention.jsonl."""
    roles = [role for role, length in line["roles"] for _ in range(length)]
    queries = [position for first, length in line["queries"] for position in range(first, first + length)]
    chosen = [index for index, position in enumerate(queries) if roles[position] == "response"]
    return np.asarray(line["vas_by_query"], dtype=np.float64)[chosen]


def in_parts(scores: Float[np.ndarray, " tokens"]) -> Float[np.ndarray, " parts"]:
    """The mean score in each of PARTS equal parts of a response; a part shorter than a token has that token's score."""
    n = len(scores)
    starts = [part * n // PARTS for part in range(PARTS)]
    ends = [max(start + 1, (part + 1) * n // PARTS) for part, start in enumerate(starts)]
    return np.array([scores[start:end].mean() for start, end in zip(starts, ends, strict=True)])


def _label(results: Results) -> str:
    """The model, and what it was steered by."""
    steering = results.protocol.get("steering")
    return str(results.protocol["model"]) + ("" if steering is None else f", steered: {Steering(**steering)}")


def _distinct(runs: Sequence[MeasuredRun]) -> list[str]:
    """Labels; those of several runs of one model with their folders."""
    labels = [run.label for run in runs]
    return [f"{run.label} ({run.folder})" if labels.count(run.label) > 1 else run.label for run in runs]

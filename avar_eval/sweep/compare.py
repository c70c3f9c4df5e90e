"""What a sweep found: every steering beside the unsteered model, on the same rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from avar_eval.atomic import write_atomically
from avar_eval.attention.steering import Steering
from avar_eval.records.record import Record
from avar_eval.results.schema import Metric, TaskResult
from avar_eval.statistics import Linear, cluster_codes, simultaneous

SWEEP_NAME = "sweep.json"


class Comparison(BaseModel):
    """One task under one steering. difference: accuracy minus the unsteered model's, over pairs of responses.

    Its interval and p, two-sided, hold for all points of the task together (max-t): p < .05 where the interval is
    beside 0.
    """

    model_config = ConfigDict(extra="forbid")

    steering: Steering
    task: str
    accuracy: Metric
    difference: Metric
    p: float
    vas: Metric
    truncated: Metric
    unparsed: Metric


class Sweep(BaseModel):
    """The content of sweep.json. unsteered: the results of each task. protocol: the unsteered run's."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = 2
    unsteered: dict[str, TaskResult]
    comparisons: list[Comparison]
    protocol: dict[str, Any]

    def to_json(self) -> str:
        """The file's text."""
        data = self.model_dump(mode="json")
        return json.dumps({"schema": data.pop("schema_version"), **data}, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the file, atomically."""
        path = folder / SWEEP_NAME
        write_atomically(path, [self.to_json()])
        return path


def compare(
    points: Sequence[tuple[Steering, str, TaskResult, Sequence[Record]]],
    unsteered: Mapping[str, Sequence[Record]],
    cluster: Mapping[str, Callable[[str], str]],
    seed: int,
    stratum: Mapping[str, Callable[[str], str] | None] | None = None,
) -> list[Comparison]:
    """Each point of the grid beside the unsteered model; records are paired by row and sample.

    points: steering, task, its result and its records. cluster: by task, the unit that a row of that id shares with
    others, as in every interval of a run; stratum: the group of rows, all of which are always asked, that it is in,
    where the task has such. Intervals and p hold for all of a task's points together (`simultaneous`): of
    a grid without any effect the best point comes out above 0 in at most 5 %.
    """
    strata = stratum or {}
    found = [_paired(records, unsteered[task], cluster[task], strata.get(task)) for _, task, _, records in points]
    together: dict[int, tuple[float, float]] = {}
    for task in unsteered:
        of_task = [index for index, point in enumerate(points) if point[1] == task and found[index] is not None]
        known = [one for index in of_task if (one := found[index]) is not None]
        together |= dict(zip(of_task, simultaneous([difference for difference, _ in known], seed), strict=True))
    comparisons = []
    for index, (steering, task, result, _) in enumerate(points):
        one = found[index]
        p, half = together.get(index, (1.0, inf))
        value, n = (None, 0) if one is None else (one[0].value, one[1])
        ends = None if value is None or half == inf else (max(-1.0, value - half), min(1.0, value + half))
        comparisons.append(
            Comparison(
                steering=steering,
                task=task,
                accuracy=result.metrics["accuracy"],
                difference=Metric(value=value, ci95=ends, n=n),
                p=p,
                vas=result.metrics["vas"],
                truncated=result.metrics["truncated"],
                unparsed=result.metrics["unparsed"],
            )
        )
    return comparisons


def _paired(
    steered: Sequence[Record],
    unsteered: Sequence[Record],
    cluster: Callable[[str], str],
    stratum: Callable[[str], str] | None,
) -> tuple[Linear, int] | None:
    """The difference of accuracies, and the number of pairs; None without any."""
    right, plain = _correct(steered), _correct(unsteered)
    pairs = sorted(right.keys() & plain.keys())
    if not pairs:
        return None
    differences = np.array([float(right[pair]) - float(plain[pair]) for pair in pairs])
    clusters = cluster_codes([cluster(row) for row, _ in pairs], len(pairs))
    if stratum is None:
        return Linear.mean(differences, clusters), len(pairs)
    strata = cluster_codes([stratum(row) for row, _ in pairs], len(pairs))
    return Linear.stratified_mean(differences, clusters, strata), len(pairs)


def _correct(records: Sequence[Record]) -> dict[tuple[str, int], bool]:
    return {(record.row_id, record.sample): record.judgement.correct for record in records if record.judgement}

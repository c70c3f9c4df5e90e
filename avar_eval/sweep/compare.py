"""What a sweep found: every steering beside the unsteered model, on the same rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from avar_eval.atomic import write_atomically
from avar_eval.attention.steering import Steering
from avar_eval.records.record import Record
from avar_eval.results.schema import Metric, TaskResult
from avar_eval.statistics import holm, mcnemar, paired_difference, paired_permutation

SWEEP_NAME = "sweep.json"


class Comparison(BaseModel):
    """One task under one steering. difference: accuracy minus the unsteered model's, over pairs of responses.

    p: two-sided, of `test`: McNemar's exact test for one response a row, else permutation of rows. p_holm: after Holm
    over all comparisons of the sweep.
    """

    model_config = ConfigDict(extra="forbid")

    steering: Steering
    task: str
    accuracy: Metric
    difference: Metric
    p: float
    p_holm: float
    test: Literal["mcnemar", "permutation"]
    vas: Metric
    truncated: Metric
    unparsed: Metric


class Sweep(BaseModel):
    """The content of sweep.json. unsteered: the results of each task. protocol: the unsteered run's."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
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
    steering: Steering, task: str, result: TaskResult, steered: Sequence[Record], unsteered: Sequence[Record], seed: int
) -> Comparison:
    """One comparison, its p_holm still p; records are paired by row and sample."""
    right, plain = _correct(steered), _correct(unsteered)
    pairs = sorted(right.keys() & plain.keys())
    a, b = [right[pair] for pair in pairs], [plain[pair] for pair in pairs]
    rows = [row for row, _ in pairs]
    single = len(set(rows)) == len(rows)
    p = mcnemar(a, b) if single else paired_permutation(a, b, seed, rows)
    return Comparison(
        steering=steering,
        task=task,
        accuracy=result.metrics["accuracy"],
        difference=Metric.of(paired_difference(a, b, rows)),
        p=p,
        p_holm=p,
        test="mcnemar" if single else "permutation",
        vas=result.metrics["vas"],
        truncated=result.metrics["truncated"],
        unparsed=result.metrics["unparsed"],
    )


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with p after Holm."""
    ps = holm([comparison.p for comparison in comparisons])
    return [of.model_copy(update={"p_holm": p}) for of, p in zip(comparisons, ps, strict=True)]


def _correct(records: Sequence[Record]) -> dict[tuple[str, int], bool]:
    return {(record.row_id, record.sample): record.judgement.correct for record in records if record.judgement}

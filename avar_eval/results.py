"""`results.json`: what one run found, each number with its interval, and the protocol under which it was found.

It holds nothing that depends on when or where the run took place, so that a run that was killed and resumed writes
the same file as one that was not.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from avar_eval.attention.bands import Band, vas_band
from avar_eval.records import Record, write_atomically
from avar_eval.stats import Estimate, clustered_proportion, mean

RESULTS_NAME = "results.json"


class Metric(BaseModel):
    """A measured number: value and 95 % interval (None if nothing was measured), from n samples."""

    value: float | None
    ci95: tuple[float, float] | None
    n: int

    @classmethod
    def of(cls, estimate: Estimate) -> "Metric":
        """From an estimate."""
        return cls(value=estimate.value, ci95=estimate.ci95, n=estimate.n)


class LeftOut(BaseModel):
    """Rows that were not asked, and why."""

    n: int
    ids: list[str]
    reason: str


class TaskResult(BaseModel):
    """One task's numbers. metrics: accuracy, truncated, unparsed (shares, 0..1), vas and vas_response (Eq. 2)."""

    metrics: dict[str, Metric]
    vas_band: Band | None
    left_out: LeftOut


class Results(BaseModel):
    """The content of results.json. run_id: the first 16 hex digits of the protocol's hash."""

    # `schema` is a name of pydantic's own
    schema_version: Literal[1] = 1
    run_id: str
    tasks: dict[str, TaskResult]
    protocol: dict[str, Any]

    def to_json(self) -> str:
        """The file's text."""
        data = self.model_dump(mode="json")
        return json.dumps({"schema": data.pop("schema_version"), **data}, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the file, atomically."""
        path = folder / RESULTS_NAME
        write_atomically(path, [self.to_json()])
        return path


def task_result(records: Sequence[Record], left_out: Sequence[str]) -> TaskResult:
    """A task's numbers from its records; shares are clustered by row, which several samples have in common."""

    def share(values: Sequence[bool]) -> Estimate:
        return clustered_proportion(values, [record.row_id for record in records])

    judgements = [record.judgement for record in records if record.judgement]
    truncated = [
        record.finish_reason == "length" or (record.judgement is not None and record.judgement.state == "truncated")
        for record in records
    ]
    attention = [record.attention for record in records if record.attention]
    metrics = {
        "accuracy": share([judgement.correct for judgement in judgements]),
        "vas": mean([a.user.vas for a in attention if a.user and a.user.vas is not None]),
        "vas_response": mean([a.response.vas for a in attention if a.response and a.response.vas is not None]),
        "truncated": share(truncated),
        "unparsed": share([judgement.state == "unparsed" for judgement in judgements]),
    }
    vas = metrics["vas"].value
    return TaskResult(
        metrics={name: Metric.of(estimate) for name, estimate in metrics.items()},
        vas_band=None if vas is None else vas_band(vas),
        left_out=LeftOut(n=len(left_out), ids=list(left_out), reason="its picture is missing" if left_out else ""),
    )


def run_id(protocol: Mapping[str, Any]) -> str:
    """16 hex digits that name a protocol: the same command on the same weights is the same run."""
    decisive = {name: value for name, value in protocol.items() if name != "command"}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def prompt_sha256(records: Iterable[Record]) -> str:
    """One hash of all prompts of a task, whatever their order: equal hashes, equal questions."""
    lines = sorted(json.dumps([record.row_id, record.sample, record.prompt]) for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

"""One row of the leaderboard: one task of one finished run, or the mean of a group of its tasks."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from avar_eval.results.prompting import prompting_sha256
from avar_eval.results.schema import UNKNOWN_METRIC, Count, GroupResult, Headline, Metric, RunResults, TaskScores
from avar_eval.tasks.groups import groups

# Names reach terminals and tables: control characters would break both, and text that runs backwards hides them.
Name = Annotated[
    str, Field(min_length=1, max_length=500, pattern="^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+$")
]


class Training(BaseModel):
    """A checkpoint's place in the training that it comes from; step 0 is the base model. started: ISO 8601."""

    run: Name
    step: Count
    started: str | None = None


class NamedProtocol(BaseModel):
    """A named protocol, `custom` if a run changed anything of it, with the prompts that it asked in, by task."""

    name: Name
    prompts: dict[str, dict[str, str]] = {}


class ListedDecoding(BaseModel):
    """How responses were drawn; what a card does not tell of is unknown, not neutral."""

    model_config = ConfigDict(allow_inf_nan=False)

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    max_new_tokens: Count | None = None
    samples: Count | None = None
    seed: Count | None = None


class ListedTask(BaseModel):
    """What of a benchmark was asked: its version and data set, and how responses to it alone were drawn."""

    version: float | None = None
    revision: Name | None = None
    split: Name | None = None
    decoding: ListedDecoding | None = None


class ListedBackend(BaseModel):
    """What generated; `external`: another program, whose responses were judged."""

    backend: Name | None = None


class ListedJudge(BaseModel):
    """The judge model that judged beside the rules."""

    model: Name


class ListedLimits(BaseModel):
    """Of the pixels of a picture."""

    min_pixels: Count | None = None
    max_pixels: Count | None = None


class ListedProtocol(BaseModel):
    """The part of the protocol card that tells rows of the leaderboard apart; `limit` is in questions a task.

    Fields that have a default are not in the files of every version.
    """

    model: Name
    revision: Name | None
    system_prompt: str | None
    steering: dict[str, Any] | None
    prompt_sha256: dict[str, str]
    limit: Count | None
    prompt_style: str | None = None
    instruction: list[str] | None = None
    protocol: NamedProtocol | None = None
    training: Training | None = None
    trained_on: list[str] = []
    dtype: Name | None = None
    backend: ListedBackend = ListedBackend()
    decoding: ListedDecoding = ListedDecoding()
    image_limits: ListedLimits | None = None
    tasks: dict[str, ListedTask] = {}
    grader: dict[str, list[Name] | Name] = {}
    judge: ListedJudge | None = None


class ListedRun(RunResults[TaskScores, ListedProtocol]):
    """What the leaderboard reads of a results.json."""

    run_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # it names a file
    tasks: Annotated[dict[Name, TaskScores], Field(min_length=1)]
    groups: Annotated[dict[Name, GroupResult], Field(default_factory=dict)]


Mark = Literal["verified", "as reported"]
"""Whether a row's numbers were made from its run's records here, or are what a results.json says."""

MEASURES: Final = (
    "blind", "visual_gain", "mirage", "swap", "stubborn", "visual_dependence", "visual_dependence_top", "information",
    "information_after_thought", "knockout_answer", "knockout_response", "vas_without_sink", "vas_text", "vas_median",
    "vas_geometric_mean", "vas_top_rows", "vas_top_terms", "ratio_of_sums",
)  # fmt: skip
"""Metrics of a task that some runs have: whether looking mattered, and other measures of attention."""


class Measure(NamedTuple):
    """One of them: value, 95 % interval, responses."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One task of one run, or the mean of a group of them.

    Of a group `task` is its name, `score_name` is "mean", and what a mean does not have (accuracy, VAS, …) is unknown.

    `score` is the benchmark's own score, the metric `score_name`, by the strict verdict; `official` and `judge` are the
    same by the published rule's and a judge model's. `accuracy` is the share of responses that are right by the strict
    verdict. They, the ends of their intervals, `truncated`, `unparsed`, `timeout` and `judge_error` are fractions 0..1;
    VAS is a ratio (Eq. 2) without unit; an interval is at 95 %. None is unknown. `training_run` and `training_step` are
    of a checkpoint that was scored in its training, which began at `training_started` (ISO 8601). `steering` is its
    JSON with sorted keys, the hashes are SHA-256 in hexadecimal (`prompting_sha256`: of all that stands around a
    question), `limit` counts questions, `protocol` is the named one that it was asked under, `trained_on` says that the
    task's data set is known to be in the model's training data, `added` is UTC in ISO 8601. `min_pixels` and
    `max_pixels` limit pictures, `grader` is the version of the rules that judged, `judge_model` judged beside them;
    `task_version`, `data_revision` and `split` are the benchmark's. `measures`: those of MEASURES that the run has.
    """

    run_id: str
    task: str
    model: str
    revision: str | None
    n: int
    left_out: int
    score_name: str
    score: float | None
    score_low: float | None
    score_high: float | None
    official: float | None
    official_low: float | None
    official_high: float | None
    judge: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    vas: float | None
    vas_low: float | None
    vas_high: float | None
    vas_n: int
    vas_band: str | None
    vas_response: float | None
    truncated: float | None
    unparsed: float | None
    timeout: float | None
    judge_error: float | None
    steering: str | None
    limit: int | None
    training_run: str | None
    training_step: int | None
    training_started: str | None
    trained_on: bool
    protocol: str | None
    prompting_sha256: str
    system_prompt_sha256: str | None
    prompt_sha256: str | None
    added: str
    mark: Mark
    backend: str | None
    dtype: str | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    max_new_tokens: int | None
    samples: int | None
    seed: int | None
    min_pixels: int | None
    max_pixels: int | None
    grader: str | None
    judge_model: str | None
    task_version: float | None
    data_revision: str | None
    split: str | None
    measures: Mapping[str, Measure]


def run_rows(run: ListedRun, added: str, verified: Collection[str] = ()) -> Iterator[Row]:
    """A run's rows; `added` as in Row. verified: its tasks whose records were judged again."""
    of_run = _of_run(run) | {"added": added}
    for task, scores in run.tasks.items():
        yield _row(run, of_run, task, scores, "verified" if task in verified else "as reported")
    for name, group in run.groups.items():
        mean = Headline(name="mean", values=group.mean)
        of_group = Metric(n=group.mean.get("strict", UNKNOWN_METRIC).n)  # of a mean that is all there is
        known = groups().get(name)
        parts = {term.task for term in known.weights()} if known else set()
        mark: Mark = "verified" if parts and parts <= set(verified) else "as reported"
        yield _row(run, of_run, name, TaskScores(metrics={"accuracy": of_group}, headline=mean), mark)


def _of_run(run: ListedRun) -> dict[str, Any]:
    """What all rows of a run have in common; worked out once, which is what reading thousands of runs takes."""
    protocol, limits = run.protocol, run.protocol.image_limits or ListedLimits()
    asked = {name: getattr(protocol, name) for name in ("system_prompt", "prompt_style", "instruction")}
    named = {"protocol": protocol.protocol.model_dump()} if protocol.protocol else {}
    prompt = protocol.system_prompt
    return {
        "run_id": run.run_id,
        "model": protocol.model,
        "revision": protocol.revision,
        "steering": None if protocol.steering is None else json.dumps(protocol.steering, sort_keys=True),
        "limit": protocol.limit,
        "training_run": protocol.training.run if protocol.training else None,
        "training_step": protocol.training.step if protocol.training else None,
        "training_started": protocol.training.started if protocol.training else None,
        "protocol": protocol.protocol.name if protocol.protocol else None,
        "prompting_sha256": prompting_sha256(asked | named),
        "system_prompt_sha256": None if prompt is None else sha256(prompt.encode()).hexdigest(),
        "backend": protocol.backend.backend,
        "dtype": protocol.dtype,
        "min_pixels": limits.min_pixels,
        "max_pixels": limits.max_pixels,
        "judge_model": protocol.judge.model if protocol.judge else None,
        **vars(protocol.decoding),
    }


def _row(run: ListedRun, of_run: Mapping[str, Any], task: str, scores: TaskScores, mark: Mark) -> Row:
    protocol, metric = run.protocol, scores.metric
    accuracy, vas = metric("accuracy"), metric("vas")
    # a run of before there was a headline
    headline = scores.headline or Headline(name="accuracy", values={"strict": accuracy})
    score, official = headline.values.get("strict", UNKNOWN_METRIC), headline.values.get("official", UNKNOWN_METRIC)
    score_low, score_high = _ends(score)
    official_low, official_high = _ends(official)
    accuracy_low, accuracy_high = _ends(accuracy)
    vas_low, vas_high = _ends(vas)
    asked = protocol.tasks.get(task, ListedTask())
    grader = protocol.grader.get(task, [])
    if asked.decoding:
        of_run = {**of_run, **vars(asked.decoding)}
    return Row(
        task=task,
        n=accuracy.n or metric("truncated").n,  # a task without a strict verdict has no accuracy
        left_out=scores.left_out.n,
        score_name=headline.name,
        score=score.value,
        score_low=score_low,
        score_high=score_high,
        official=official.value,
        official_low=official_low,
        official_high=official_high,
        judge=headline.values.get("judge", UNKNOWN_METRIC).value,
        accuracy=accuracy.value,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        vas=vas.value,
        vas_low=vas_low,
        vas_high=vas_high,
        vas_n=vas.n,
        vas_band=scores.vas_band,
        vas_response=metric("vas_response").value,
        truncated=metric("truncated").value,
        unparsed=metric("unparsed").value,
        timeout=metric("timeout").value,
        judge_error=metric("judge_error").value,
        trained_on=task in protocol.trained_on,
        prompt_sha256=protocol.prompt_sha256.get(task),
        mark=mark,
        grader=(grader if isinstance(grader, str) else ", ".join(grader)) or None,
        task_version=asked.version,
        data_revision=asked.revision,
        split=asked.split,
        measures={
            name: Measure(found.value, *_ends(found), found.n)
            for name in MEASURES
            if (found := metric(name)).value is not None
        },
        **of_run,
    )


def _ends(metric: Metric) -> tuple[float | None, float | None]:
    return metric.ci95 or (None, None)

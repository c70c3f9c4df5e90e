"""A task in lmms-eval's own form: its rows and requests, and the numbers that its metrics give responses."""

import copy
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import lmms_eval.api.metrics  # registers the aggregations and metrics that YAML files name
import lmms_eval.models  # noqa: F401  # before others of it: turns lmms-eval's debug messages off
import numpy as np
from lmms_eval.api.instance import Instance
from lmms_eval.api.reasoning import parse_reasoning_tags_config, strip_reasoning_tags
from lmms_eval.api.task import ConfigurableMessagesTask
from lmms_eval.filters.transformation import StripThinkingFilter
from lmms_eval.utils import load_yaml_config
from tenacity import RetryError

from avar_eval.statistics import Estimate, clustered_proportion, mean
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.tasks.files import DataError
from avar_eval.tasks.folders import TaskFolderError


def load_lmms_eval_task(entry: TaskEntry) -> ConfigurableMessagesTask:
    """The task with its rows. Raises TaskFolderError for a file that lmms-eval cannot read, DataError without rows."""
    try:
        config = load_yaml_config(str(entry.file))
    except Exception as error:  # it imports what the file names
        raise TaskFolderError(f"{entry.file} cannot be read by lmms-eval: {type(error).__name__}: {error}") from error
    if config.get("output_type", "generate_until") != "generate_until" or "class" in config:
        kind = "a class" if "class" in config else f"the output_type {config['output_type']}"
        raise TaskFolderError(f"{entry.file}: {entry.name} has {kind}: avar-eval asks for text (generate_until) alone")
    kwargs = config.get("dataset_kwargs") or {}
    if huggingface_hub.get_token() is None:
        kwargs.pop("token", None)  # True asks for a login, which few of the datasets need
    try:
        task = ConfigurableMessagesTask(config=config)
    except Exception as error:  # downloads and functions of the task's, which may fail in any way
        cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
        reason = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"
        raise DataError(f"the rows of {entry.name} ({entry.dataset}, {entry.file}) cannot be had: {reason}") from error
    if task.config.auto_strip_thinking and parse_reasoning_tags_config(task_value=task.config.reasoning_tags) is None:
        for ensemble in task._filters:  # as lmms-eval's evaluator does
            ensemble.filters.insert(0, StripThinkingFilter())
    return task


def build_requests(task: ConfigurableMessagesTask, limit: int | None, samples: int) -> list[Instance]:
    """The task's questions, each as often as it is sampled."""
    task.build_all_requests(limit=limit)
    return [copy.copy(instance) for instance in task.instances for _ in range(samples)]


@dataclass(frozen=True)
class TaskMetric:
    """A metric in its own unit. is_share: whether it is a share, 0..1, as far as its values show."""

    estimate: Estimate
    is_share: bool


def task_metrics(
    task: ConfigurableMessagesTask, responses: Sequence[Mapping[int, str]], file: Path
) -> dict[str, TaskMetric]:
    """The task's own metrics as lmms-eval computes them. responses: one mapping a sample, row -> response.

    Where a metric is the mean of its values it has an interval, clustered by row; with several samples it is the mean
    over them. What a task reports that is no number is left out. Raises TaskFolderError if its functions fail.
    """
    try:
        samples = [_values_by_metric(task, sample) for sample in responses]
        names = dict.fromkeys(name for sample in samples for name in sample)
        found = {
            name: _task_metric(task, name, [sample[name] for sample in samples if name in sample]) for name in names
        }
    except Exception as error:  # functions of the task's, which may fail in any way
        cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
        raise TaskFolderError(f"{file}: its metrics fail: {type(cause).__name__}: {cause}") from error
    return {name: metric for name, metric in found.items() if metric is not None}


def _values_by_metric(task: ConfigurableMessagesTask, responses: Mapping[int, str]) -> dict[str, list[tuple[int, Any]]]:
    """By metric: rows and what the task's `process_results` gives for each, after its filters."""
    instances = []
    for instance in {one.doc_id: one for one in task.instances}.values():
        if instance.doc_id in responses:
            instances.append(copy.copy(instance))
            instances[-1].resps, instances[-1].filtered_resps = [responses[instance.doc_id]], {}
    tags = parse_reasoning_tags_config(task_value=task.config.reasoning_tags)
    docs = task.task_docs.select([instance.doc_id for instance in instances])
    rows = task.eval_docs_no_media
    several = len(task._filters) > 1
    found: dict[str, list[tuple[int, Any]]] = {}
    for ensemble in task._filters:
        ensemble.apply(instances, docs)
        for instance in instances:
            answer = instance.filtered_resps[ensemble.name]
            if tags is not None:
                answer = strip_reasoning_tags(answer if isinstance(answer, str) else answer[0], tags)
            for name, value in task.process_results(rows[instance.doc_id], [answer]).items():
                if name in task.aggregation():
                    label = f"{name},{ensemble.name}" if several else name
                    found.setdefault(label, []).append((instance.doc_id, value))
    return found


def _task_metric(
    task: ConfigurableMessagesTask, label: str, samples: Sequence[Sequence[tuple[int, Any]]]
) -> TaskMetric | None:
    """The mean over samples of what the metric's aggregation gives; None if that is no number."""
    aggregate = task.aggregation()[label.partition(",")[0]]
    aggregated = [aggregate([value for _, value in sample]) for sample in samples]
    if not all(_is_number(value) for value in aggregated):
        return None
    mean_over_samples = sum(map(float, aggregated)) / len(aggregated)
    values = [value for sample in samples for _, value in sample]
    if not all(_is_number(value) for value in values):  # such as texts, which the aggregation compares
        return TaskMetric(Estimate(mean_over_samples, None, len(values)), is_share=0 <= mean_over_samples <= 1)
    scores = [float(value) for value in values]
    is_share = all(0 <= score <= 1 for score in [mean_over_samples, *scores])
    if not math.isclose(mean_over_samples, sum(scores) / len(scores), rel_tol=1e-9, abs_tol=1e-12):
        return TaskMetric(Estimate(mean_over_samples, None, len(values)), is_share)
    rows = [row for sample in samples for row, _ in sample]
    return TaskMetric(clustered_proportion(scores, rows) if is_share else mean(scores), is_share)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real | np.bool_) and math.isfinite(float(value))

"""Whether a results.json can be what avar-eval wrote: numbers that contradict one another are refused.

What a bare file says of a run cannot be proved, and its row is marked `as reported`; what can be known to be wrong is
found here. `verify` judges a run's records again.
"""

from collections.abc import Iterator, Mapping
from math import sqrt
from pathlib import Path
from typing import Any, Final

from avar_eval.attention.bands import vas_band
from avar_eval.results.schema import (
    ATTENTION_METRICS,
    CAUSAL_NUMBERS,
    GroupResult,
    Metric,
    Results,
    ResultsError,
    TaskResult,
    run_id,
)
from avar_eval.results.summary import group_results
from avar_eval.statistics import Z_95
from avar_eval.tasks.catalog import catalog

_WHOLE: Final = ("accuracy", "truncated", "unparsed", "timeout", "judge", "judge_error", "official_guessed", "majority")
"""Shares of responses or rows that are right or not: value times n is a whole number."""
_OF_RESPONSES: Final = ("unparsed", "timeout", "official_guessed")
"""Shares of the same responses as `truncated`."""
_NUMBERS: Final = (*ATTENTION_METRICS, *CAUSAL_NUMBERS)
"""Metrics that are no shares."""
_NARROWEST: Final = 0.8
"""Times the width of Wilson's interval at n independent responses; answers that are not independent widen it."""
CLOSE: Final = 1e-9
"""Numbers that differ by less are the same, computed elsewhere."""


class ContradictionError(ResultsError):
    """A results.json contradicts itself, or its records contradict it; the message names the number.

    What to do: Score the run anew (`avar-eval score RUN_DIR`) and add it again.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} is not added: {problem}")


def check_results(results: Results, path: Path) -> None:
    """Raise ContradictionError, naming the number, for results that no run can have had."""
    if problem := next(_problems(results), None):
        raise ContradictionError(path, problem)


def _problems(results: Results) -> Iterator[str]:
    own = run_id(results.protocol)
    if results.run_id != own:
        yield f"its run_id is {results.run_id}, and that of its protocol is {own}: one of them was changed"
    for part in ("tasks", "grader"):
        named = results.protocol.get(part)
        if isinstance(named, Mapping) and named.keys() != results.tasks.keys():
            yield f"protocol.{part} names {_listed(named)}, and there are numbers of {_listed(results.tasks)}"
    seed, drawn = results.protocol.get("seed"), _part(results.protocol, "decoding").get("seed", ...)
    if drawn is not ... and "seed" in results.protocol and seed != drawn:
        yield f"its protocol has the seed {seed!r}, and its decoding {drawn!r}"
    for name, task in results.tasks.items():
        yield from (f"{name}: {problem}" for problem in _task_problems(name, task, results.protocol))
    yield from _group_problems(results)


def _task_problems(name: str, task: TaskResult, protocol: Mapping[str, Any]) -> Iterator[str]:
    of_lmms_eval = _part(_part(protocol, "tasks"), name).get("form") == "lmms-eval"
    for metric_name, metric in task.metrics.items():
        yield from _metric_problems(metric_name, metric, share=metric_name not in _NUMBERS)
    for window in task.knockout_windows:
        for part, metric in (("answer", window.answer), ("response", window.response)):
            where = "{} to {}".format(*window.layers)
            yield from _metric_problems(f"knockout of layers {where}, {part},", metric, share=False)
    for verdict, own in task.benchmark.items():
        for metric_name, metric in own.items():  # lmms-eval's are in units of their own
            yield from _metric_problems(f"{metric_name} ({verdict})", metric, share=not of_lmms_eval)
    yield from _headline_problems(task)
    yield from _count_problems(name, task, protocol)
    vas = task.metric("vas")
    # a steered model, and one whose mean a few heads or rows make, have none
    if task.vas_band is not None and (vas.value is None or task.vas_band != vas_band(vas.value)):
        yield f"its VAS of {vas.value} is not {task.vas_band}"
    if _part(protocol, "backend").get("backend") == "external" and any(task.metric(of).n for of in ATTENTION_METRICS):
        yield "responses from elsewhere show no attention, and it has a VAS"


def _metric_problems(name: str, metric: Metric, share: bool) -> Iterator[str]:
    if metric.value is None:
        if metric.ci95 is not None:
            yield f"{name} is unknown, and has an interval"
        return
    if metric.n == 0:
        yield f"{name} is {metric.value:g}, of no response"
    if metric.ci95 is None:
        return
    low, high = metric.ci95
    if not low - CLOSE <= metric.value <= high + CLOSE:
        yield f"{name} is {metric.value:g}, outside of its own interval {low:g} to {high:g}"
    if share and not (low >= -CLOSE and high <= 1 + CLOSE and 0 <= metric.value <= 1):
        yield f"{name} is a share, and its interval is {low:g} to {high:g}"


def _headline_problems(task: TaskResult) -> Iterator[str]:
    if task.headline is None:
        return
    name = task.headline.name
    for verdict, score in task.headline.values.items():
        yield from _metric_problems(f"the score ({verdict})", score, share=True)
        if name == "accuracy":
            of_metrics = {"strict": "accuracy", "official": "official", "judge": "judge"}[verdict]
            if of_metrics in task.metrics and task.metrics[of_metrics] != score:
                yield f"its {of_metrics} is {_told(task.metrics[of_metrics])}, and its score {_told(score)}"
        elif (own := task.benchmark.get(verdict, {}).get(name)) is not None and own != score:
            yield f"its {name} ({verdict}) is {_told(own)}, and its score {_told(score)}"


def _count_problems(name: str, task: TaskResult, protocol: Mapping[str, Any]) -> Iterator[str]:
    metric, answered = task.metric, task.metric("truncated").n
    if task.left_out.n != len(set(task.left_out.ids)):
        yield f"it left out {task.left_out.n} rows, and names {len(set(task.left_out.ids))}"
    for share in _WHOLE:
        value, n = metric(share).value, metric(share).n
        if value is not None and abs(value * n - round(value * n)) > max(CLOSE * n, 1e-6):
            yield f"{share} is {value:g} of {n}, which is no whole number of responses"
    for share in _OF_RESPONSES:
        if metric(share).value is not None and metric(share).n != answered:
            yield f"{share} is of {metric(share).n} responses, truncated of {answered}"
    accuracy = metric("accuracy")
    missing = task.left_out.n if _counts_missing(name) else 0
    if accuracy.value is not None and answered and accuracy.n not in (answered, answered + missing):
        yield f"accuracy is of {accuracy.n} responses, and there are {answered}"
    for other in ("official", "judge", *ATTENTION_METRICS, *task.metrics.keys() & {"majority"}):
        if metric(other).n > max(accuracy.n, answered):
            yield f"{other} is of {metric(other).n} responses, and there are {max(accuracy.n, answered)}"
    if accuracy.value is not None and accuracy.ci95 is not None:
        low, high = accuracy.ci95
        narrowest = _NARROWEST * _wilson_width(accuracy.value, accuracy.n) if accuracy.n else 0.0
        if high - low < narrowest:
            yield f"the interval of accuracy, {low:g} to {high:g}, is narrower than {accuracy.n} responses can make it"
    yield from _too_many(name, max(accuracy.n, answered), task, protocol)


def _too_many(name: str, n: int, task: TaskResult, protocol: Mapping[str, Any]) -> Iterator[str]:
    """More responses than were asked for."""
    decoding = _part(protocol, "decoding") | _part(_part(_part(protocol, "tasks"), name), "decoding")
    samples, limit, entry = decoding.get("samples"), protocol.get("limit"), catalog().get(name)
    if not isinstance(samples, int):
        return
    if isinstance(limit, int) and n > limit * samples:
        yield f"it has {n} responses, and the protocol asks for the first {limit} rows, {samples} each"
    if entry is not None and entry.rows is not None and n > entry.rows * samples:
        yield f"it has {n} responses, and the benchmark has {entry.rows} rows, asked {samples} times each"
    sampled = _part(protocol, "attention").get("samples")
    if isinstance(sampled, int) and task.metric("vas").n > sampled:
        yield f"its VAS is of {task.metric('vas').n} responses, and the protocol measures {sampled}"


def _group_problems(results: Results) -> Iterator[str]:
    computed = group_results(results.tasks, {})
    for name, group in results.groups.items():
        if name not in computed:
            yield f"it has a mean of {name}, and not all of its columns"
            return
        yield from (f"{name}: {problem}" for problem in _mean_problems(group, computed[name]))


def _mean_problems(group: GroupResult, computed: GroupResult) -> Iterator[str]:
    if group.columns.keys() != computed.columns.keys():
        yield f"its columns are {_listed(group.columns)}, and the group's are {_listed(computed.columns)}"
        return
    for label, values in group.columns.items():
        for verdict, value in values.items():
            expected = computed.columns[label].get(verdict)
            if expected is None or abs(value - expected) > CLOSE:
                yield f"its column {label} ({verdict}) is {value:g}, and that task's score is {expected}"
    for verdict, mean in group.mean.items():
        yield from _metric_problems(f"the mean ({verdict})", mean, share=True)
        follows = computed.mean.get(verdict)
        if follows is None or mean.value is None or follows.value is None or abs(mean.value - follows.value) > CLOSE:
            yield f"the mean ({verdict}) is {_told(mean)}, and that of its columns is {follows and _told(follows)}"
        elif mean.n != follows.n:
            yield f"the mean ({verdict}) is of {mean.n} responses, and its columns are of {follows.n}"


def _wilson_width(share: float, n: int) -> float:
    return 2 * Z_95 / (1 + Z_95**2 / n) * sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2))


def _counts_missing(task: str) -> bool:
    entry = catalog().get(task)
    return entry is not None and entry.missing_is_wrong


def _part(card: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a protocol card that somebody else has written: empty where it is no object."""
    part = card.get(name)
    return part if isinstance(part, dict) else {}


def _told(metric: Metric) -> str:
    if metric.value is None:
        return "unknown"
    interval = "" if metric.ci95 is None else f" [{metric.ci95[0]:g}, {metric.ci95[1]:g}]"
    return f"{metric.value:g}{interval} of {metric.n}"


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, names))) or "nothing"

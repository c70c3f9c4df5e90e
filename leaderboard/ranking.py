"""Which rows can be ranked: those of one task that were asked alike, of as many questions. The others are set apart."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from avar_eval.leaderboard.row import Row

_SHOWN: Final = 7
"""Digits of a hash that tell prompts and data sets apart."""


def _sampled(name: str) -> Callable[[Row], Any]:
    """An option that changes nothing of greedy decoding."""
    return lambda row: None if row.temperature == 0 else getattr(row, name)


SETTINGS: Final[Mapping[str, Callable[[Row], Any]]] = {
    "score": lambda row: row.score_name,
    "n": lambda row: row.n,
    "first": lambda row: row.limit,
    "left out": lambda row: row.left_out,
    "protocol": lambda row: row.protocol,
    "prompting": lambda row: row.prompting_sha256[:_SHOWN],
    "temperature": lambda row: row.temperature,
    "samples": lambda row: row.samples,
    "token limit": lambda row: row.max_new_tokens,
    "top p": _sampled("top_p"),
    "top k": _sampled("top_k"),
    "min p": _sampled("min_p"),
    "seed": _sampled("seed"),
    "repetition penalty": lambda row: row.repetition_penalty,
    "presence penalty": lambda row: row.presence_penalty or None,  # 0 is not told
    "smallest picture": lambda row: row.min_pixels,
    "largest picture": lambda row: row.max_pixels,
    "backend": lambda row: row.backend,
    "grader": lambda row: row.grader,
    "judge": lambda row: row.judge_model,
    "version": lambda row: row.task_version,
    "data": lambda row: row.data_revision and row.data_revision[:_SHOWN],
    "split": lambda row: row.split,
}
"""All that decides a score beside the model itself (weights, revision, dtype, steering), by the names that people read.

`prompting` is system prompt, prompt style and instruction, by the beginning of their hash.
"""


@dataclass(frozen=True)
class RankedRow:
    """A row with its place: one more than the rows of its class with a higher score.

    None without a score, or where the model was trained on the task's data, so that it is no measure of its ability.
    """

    rank: int | None
    row: Row


@dataclass(frozen=True)
class ComparableRows:
    """Rows of a task that were asked alike, best first. differs: those of SETTINGS that set them apart on this task."""

    task: str
    differs: Mapping[str, Any]
    rows: Sequence[RankedRow]


def comparable(row: Row) -> tuple[Any, ...]:
    """Rows of a task may be ranked if this is equal."""
    return tuple(read(row) for read in SETTINGS.values())


def ranked(rows: Iterable[Row]) -> list[ComparableRows]:
    """The rows by task and, in it, by how they were asked: the whole benchmark first, then more questions and rows."""
    found: list[ComparableRows] = []
    for task, of_task in groupby(sorted(rows, key=lambda row: row.task), key=lambda row: row.task):
        classes: dict[tuple[Any, ...], list[Row]] = {}
        for row in of_task:
            classes.setdefault(comparable(row), []).append(row)
        varying = [place for place in range(len(SETTINGS)) if len({settings[place] for settings in classes}) > 1]
        names = list(SETTINGS)
        for settings, alike in sorted(classes.items(), key=lambda of: _order(of[1])):
            found.append(ComparableRows(task, {names[place]: settings[place] for place in varying}, _ranks(alike)))
    return found


def last_of_each(rows: Sequence[Row]) -> list[Row]:
    """Of several rows of a model (of one revision, steering and named protocol) on a task the one that came last."""
    newest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = (row.model, row.revision, row.steering, row.protocol, row.task)
        if key not in newest or (newest[key].added, newest[key].run_id) < (row.added, row.run_id):
            newest[key] = row
    chosen = {(row.run_id, row.task) for row in newest.values()}
    return [row for row in rows if (row.run_id, row.task) in chosen]


def _order(alike: Sequence[Row]) -> tuple[Any, ...]:
    first = alike[0]
    best = max((row.score for row in alike if row.score is not None), default=-1.0)
    return first.limit is not None, -first.n, first.left_out, -len(alike), -best, first.added, first.run_id


def _ranks(alike: Sequence[Row]) -> list[RankedRow]:
    ordered = sorted(alike, key=lambda row: (row.score is None, -(row.score or 0), row.added, row.run_id))
    rising = [-row.score for row in ordered if row.score is not None and not row.trained_on]
    return [
        RankedRow(None if row.score is None or row.trained_on else 1 + bisect_left(rising, -row.score), row)
        for row in ordered
    ]


def told(differs: Mapping[str, Any]) -> str:
    """What sets rows apart, in words: "n 100, first 100, temperature 0.6"; empty if all rows of a task are alike."""
    return ", ".join(
        f"{name} {_value(value)}" for name, value in differs.items() if value is not None or name not in _UNTOLD
    )


_UNTOLD: Final = ("first", "top p", "top k", "min p", "seed")
"""What goes without saying where it is none: greedy decoding, all questions."""


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)

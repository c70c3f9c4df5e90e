"""Responses judged by a task's rules, on all cores when there are many. Light: no torch, no lmms-eval, no datasets."""

import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Final, NamedTuple

from avar_eval.answers import FinishReason, Judgement
from avar_eval.answers.workers import WORKERS
from avar_eval.errors import AvarError
from avar_eval.in_words import fault_in_words
from avar_eval.tasks.catalog import get_judge, task_named
from avar_eval.tasks.files import DataError
from avar_eval.terminal import note

PARALLEL_FROM: Final = 300
"""Responses from which on several processes are faster than one, starting them included."""

_CHUNK: Final = 100
# Forked processes share what has been imported and warmed up; elsewhere forking is not safe.
_START_METHOD: Final = "fork" if sys.platform == "linux" else "spawn"


class Answered(NamedTuple):
    """A response, its row without pictures, and why it ended (None: unknown)."""

    row: Mapping[str, Any]
    response: str
    finish_reason: FinishReason | None


class GradingError(AvarError):
    """The rules could not be applied.

    What to do: Report it with the row and the response that the message names; the run's records are kept.
    """


def grade_all(task: str, answered: Sequence[Answered]) -> list[Judgement]:
    """The judgements of responses to a task of the catalog, in order. Raises DataError for a row that has no answer.

    Says on standard error how fast many responses were judged.
    """
    if len(answered) < PARALLEL_FROM:
        return grade_some(task, answered)
    judgements, seconds = grade_in_parallel(task, answered)
    rate = len(answered) / seconds
    note(f"{len(answered)} responses judged in {seconds:.2f} s, {rate:,.0f} a second")
    return judgements


def grade_in_parallel(task: str, answered: Sequence[Answered]) -> tuple[list[Judgement], float]:
    """The same on all cores, and the seconds that it took by the clock, without the start of any process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    get_judge(task)  # imports what the task needs, and says what its workers have to be prepared for
    WORKERS.start()
    chunks = [answered[start : start + _CHUNK] for start in range(0, len(answered), _CHUNK)]
    judge_chunk = partial(grade_some, task)
    with ProcessPoolExecutor(min(cores, len(chunks)), multiprocessing.get_context(_START_METHOD)) as pool:
        try:
            list(pool.map(judge_chunk, [[]] * cores))  # by then the processes have started
            start = time.perf_counter()
            judgements = [judgement for part in pool.map(judge_chunk, chunks) for judgement in part]
            return judgements, time.perf_counter() - start
        except BrokenProcessPool as error:
            raise GradingError(
                f"a process that judged {task} was ended from outside: is there memory enough?"
            ) from error


def grade_some(task: str, answered: Sequence[Answered]) -> list[Judgement]:
    """The same in this process."""
    judge = get_judge(task)
    judgements = []
    for row, response, finish_reason in answered:
        try:
            judgements.append(judge(row, response, finish_reason))
        except (
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # a response never raises, a row that is not of the task does
            raise DataError(
                f"row {task_named(task).row_id(row)} of {task} cannot be judged ({fault_in_words(error)}): "
                "fetch the benchmark again"
            ) from error
    return judgements

"""A suite: its runs one after another, each in a process of its own; one that fails leaves the others running."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from avar_eval.command_line import own_command
from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.judge.model import JudgeModel
from avar_eval.results.unfinished import remove_resume, write_resume
from avar_eval.run.asking import Asking
from avar_eval.suite.checks import check_runs
from avar_eval.suite.loaded_tasks import LoadedTasks
from avar_eval.suite.process import SECONDS_TO_END, run_apart
from avar_eval.suite.read import PlannedRun, Suite
from avar_eval.suite.state import SuiteState
from avar_eval.suite.timings import add_timing, lines_of_book
from avar_eval.terminal import note

LOCK_NAME: Final = ".suite.lock"
_WAIT: Final = 3.0
"""Seconds for a suite that was just killed to be gone."""


def run_suite(suite: Suite, output: Path) -> SuiteState:
    """Do what is left of a suite; suite.json in `output` says at any time how far it is.

    Raises SuiteError before any run begins for all that would keep runs from working, AvarError if another command is
    at work on the same folder, or if it cannot be written.
    """
    with lock_suite(output):
        state = SuiteState.of(suite.runs, output, LoadedTasks())
        state.write(output)
        left = [number for number, run in enumerate(state.runs) if run.status != "finished"]
        check_runs([suite.runs[number] for number in left], output)
        write_resume(output, own_command())
        for place, number in enumerate(left, 1):
            run = suite.runs[number]
            note(f"[{place} of {len(left)}] {run.name}: {', '.join(task.name for task in run.tasks)}")
            state.set(number, "running", output)
            reason = _run(run, output)
            state.set(number, "finished" if reason is None else "failed", output, reason)
            if reason is not None:
                note(f"failed: {run.name}: {reason}")
        if all(run.status == "finished" for run in state.runs):
            remove_resume(output)
    return state


def lock_suite(output: Path) -> FolderLock:
    """Hold a suite's folder. Raises AvarError if another command does."""
    try:
        return FolderLock(output, LOCK_NAME, wait=_WAIT)
    except FolderInUseError:
        raise AvarError(
            f"another `avar-eval suite` is at work on {output}: wait for it to end, or give this one its own --output"
        ) from None
    except OSError as error:
        raise AvarError(f"cannot write to the output folder {output}: {error.strerror}") from error


@dataclass(frozen=True)
class _Job:
    """What a process needs to know of its run."""

    asked: Mapping[str, Any]
    tasks: list[str]
    folder: Path
    judge: JudgeModel | None
    command: str


def _run(run: PlannedRun, output: Path) -> str | None:
    """Do a run; returns why it failed, None if it did not. How long it took is kept for estimates."""
    folder, started = output / run.name, time.monotonic()
    before = lines_of_book(folder)
    job = _Job(run.asked, [task.name for task in run.tasks], folder, run.judge, run.command)
    failed = run_apart(partial(_evaluate, job))
    add_timing(output, run.name, time.monotonic() - started, lines_of_book(folder) - before)
    return failed.reason if failed else None


def _evaluate(job: _Job) -> None:
    """In a process of its own: the run, as `avar-eval run` does it."""
    from avar_eval.run.evaluate import RunConfig, evaluate
    from avar_eval.run.model import resolve

    FolderLock(job.folder, wait=SECONDS_TO_END).release()
    model = resolve(Asking.of(**job.asked))
    evaluate(RunConfig(model, job.tasks, job.folder, judge=job.judge, command=job.command))

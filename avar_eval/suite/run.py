"""A suite: its runs, each in a process of its own, one at a time or several; one that fails leaves the others running.

Side by side go runs that compute elsewhere: on a cluster, where Ray has a worker wait until there is room for it, or
behind an endpoint. Of those that compute on this machine itself one is under way at a time.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from avar_eval.cluster.address import ray_address
from avar_eval.command_line import own_command
from avar_eval.errors import AvarError, UsageError
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.judge.model import JudgeModel
from avar_eval.models.backend_options import ApiOptions
from avar_eval.results.unfinished import remove_resume, write_resume
from avar_eval.run.asking import Asking
from avar_eval.suite.checks import check_runs
from avar_eval.suite.loaded_tasks import LoadedTasks
from avar_eval.suite.process import SECONDS_TO_END, Apart, Failed, ending_together, first_ended
from avar_eval.suite.read import PlannedRun, Suite
from avar_eval.suite.state import SuiteState
from avar_eval.suite.timings import add_timing, lines_of_book
from avar_eval.terminal import note

LOCK_NAME: Final = ".suite.lock"
_WAIT: Final = 3.0
"""Seconds for a suite that was just killed to be gone."""


def run_suite(suite: Suite, output: Path, parallel: int = 1) -> SuiteState:
    """Do what is left of a suite; suite.json in `output` says at any time how far it is. parallel: runs at a time.

    Raises UsageError where no two runs could go side by side, SuiteError for all that would keep runs from working,
    both before any begins; AvarError if another command is at work on the same folder, or if it cannot be written.
    """
    check_parallel(suite, parallel)
    with lock_suite(output):
        state = SuiteState.of(suite.runs, output, LoadedTasks())
        state.write(output)
        left = [number for number, run in enumerate(state.runs) if run.status != "finished"]
        check_runs([suite.runs[number] for number in left], output, parallel)
        write_resume(output, own_command())
        _do(suite, left, state, output, parallel)
        if all(run.status == "finished" for run in state.runs):
            remove_resume(output)
    return state


def check_parallel(suite: Suite, parallel: int, cluster: bool = False) -> None:
    """Raise UsageError where so many runs cannot share what there is. cluster: all are to be on one, as in Slurm."""
    if parallel == 1:
        return
    elsewhere = [run for run in suite.runs if cluster or not _computes_here(run)]
    if not elsewhere:
        raise UsageError(
            f"--parallel {parallel}: all runs compute on this machine itself, where one goes after the other; give "
            "--cluster ray://auto and --cluster-workers, after `ray start --head` has made a cluster of it"
        )
    if any(run.model.backend != "api" and run.model.asking.cluster_workers is None for run in elsewhere):
        raise UsageError(
            f"--parallel {parallel} needs --cluster-workers, how many each run has: without it the first takes them all"
        )


def _computes_here(run: PlannedRun) -> bool:
    """Whether a run takes the memory and the GPUs of this machine, be it by a cluster of its own."""
    options, cluster = run.model.options, run.model.asking.cluster
    if isinstance(options, ApiOptions):
        return options.weights is not None
    return cluster is None or ray_address(cluster) is None


@dataclass(frozen=True)
class _Begun:
    """A run under way: its place in the suite, when it was begun (s), and how many responses it had then."""

    number: int
    at: float
    responses: int


def _do(suite: Suite, left: Sequence[int], state: SuiteState, output: Path, parallel: int) -> None:
    """Do these runs, in their order as far as they may begin. How long each took is kept for estimates."""
    waiting, running = list(left), dict[Apart[None], _Begun]()
    with ending_together(running):
        while waiting or running:
            here = any(_computes_here(suite.runs[begun.number]) for begun in running.values())
            fitting = (number for number in waiting if not (here and _computes_here(suite.runs[number])))
            number = next(fitting, None) if len(running) < parallel else None
            if number is not None:
                waiting.remove(number)
                run, place = suite.runs[number], len(left) - len(waiting)
                log = None if parallel == 1 else run.log(output)
                told = "" if log is None else f"; its messages: {log}"
                note(f"[{place} of {len(left)}] {run.name}: {', '.join(task.name for task in run.tasks)}{told}")
                state.set(number, "running", output)
                begun = _Begun(number, time.monotonic(), lines_of_book(output / run.name))
                running[Apart(partial(_evaluate, _Job.of(run, output)), log)] = begun
                continue
            for ended in first_ended(running):
                begun, result = running.pop(ended), ended.result()
                name = suite.runs[begun.number].name
                new = lines_of_book(output / name) - begun.responses
                add_timing(output, name, time.monotonic() - begun.at, new)
                reason = result.reason if isinstance(result, Failed) else None
                state.set(begun.number, "finished" if reason is None else "failed", output, reason)
                if reason is not None:
                    note(f"failed: {name}: {reason}")
                elif parallel > 1:
                    note(f"finished: {name}")


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

    @classmethod
    def of(cls, run: PlannedRun, output: Path) -> "_Job":
        """Of a run of the suite in `output`."""
        return cls(run.asked, [task.name for task in run.tasks], output / run.name, run.judge, run.command)


def _evaluate(job: _Job) -> None:
    """In a process of its own: the run, as `avar-eval run` does it."""
    from avar_eval.run.evaluate import RunConfig, evaluate
    from avar_eval.run.model import resolve

    FolderLock(job.folder, wait=SECONDS_TO_END).release()
    model = resolve(Asking.of(**job.asked))
    evaluate(RunConfig(model, job.tasks, job.folder, judge=job.judge, command=job.command))

"""`suite.json`: what became of each run of a suite, written as it goes, so that the same command goes on.

It holds nothing of when or where: a suite that was killed and goes on ends with the same bytes as one that was not.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from avar_eval.atomic import write_atomically
from avar_eval.in_words import fault_in_words
from avar_eval.results.schema import RESULTS_NAME
from avar_eval.suite.finished import FinishedRuns
from avar_eval.suite.loaded_tasks import LoadedTasks
from avar_eval.suite.read import SUITE_NAME, PlannedRun
from avar_eval.terminal import note
from avar_eval.user_files import read_bytes

Status = Literal["waiting", "running", "finished", "failed"]


class SuiteRun(BaseModel):
    """One run. model: what results call it. results: its results.json from the suite's folder, once it is finished.

    name: its folder. steering: as --steer takes it. seed: of its sampling; None where it is greedy. reason: why it
    failed.
    """

    model: str
    tasks: list[str]
    status: Status
    results: str | None
    name: str
    steering: str | None
    seed: int | None
    reason: str | None


class SuiteState(BaseModel):
    """The content of suite.json: runs in the order of the suite's file."""

    runs: list[SuiteRun]

    @classmethod
    def of(cls, runs: Sequence[PlannedRun], folder: Path, tasks: LoadedTasks) -> "SuiteState":
        """All runs, those finished that an earlier command of the suite has finished as they are planned now.

        Of others that it has finished standard error says why they are done again.
        """
        before, finished = _finished_before(folder), FinishedRuns(tasks)
        done = set()
        for run in runs:
            if run.name in before:
                if (difference := finished.difference(run, folder / run.name)) is None:
                    done.add(run.name)
                else:
                    note(f"again: {run.name}: {difference}")
        return cls(
            runs=[
                SuiteRun(
                    model=run.model.name,
                    tasks=[task.name for task in run.tasks],
                    status="finished" if run.name in done else "waiting",
                    results=f"{run.name}/{RESULTS_NAME}" if run.name in done else None,
                    name=run.name,
                    steering=None if run.model.asking.steering is None else str(run.model.asking.steering),
                    seed=None if run.model.decoding.greedy else run.model.decoding.seed,
                    reason=None,
                )
                for run in runs
            ]
        )

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(), indent=2, ensure_ascii=False) + "\n"

    def set(self, number: int, status: Status, folder: Path, reason: str | None = None) -> None:
        """Say what has become of a run, and write it."""
        run = self.runs[number]
        run.status, run.reason = status, reason
        run.results = f"{run.name}/{RESULTS_NAME}" if status == "finished" else None
        self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the file, atomically."""
        write_atomically(folder / SUITE_NAME, [self.to_json()])


def _finished_before(folder: Path) -> set[str]:
    """The runs that suite.json says are finished; none where there is no such file yet.

    None either, which standard error says, where it cannot be read: the runs themselves still know what they asked.
    """
    path = folder / SUITE_NAME
    try:
        state = SuiteState.model_validate_json(read_bytes(path))
    except FileNotFoundError:
        return set()
    except (OSError, ValidationError) as error:
        note(
            f"note: {path} cannot be read: {fault_in_words(error)}; it does not say which runs are finished, so each "
            "is done again, and asks only what its own record book lacks"
        )
        return set()
    return {run.name for run in state.runs if run.status == "finished"}

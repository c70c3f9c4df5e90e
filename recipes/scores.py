"""Scoring checkpoints within the training process, after each save: for small runs (`avar-eval watch` for others)."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from avar_eval.errors import AvarError, UsageError
from avar_eval.names import listed_names
from avar_eval.results.schema import RESULTS_NAME, ResultsError, read_results
from avar_eval.tasks.catalog import find_tasks
from avar_eval.terminal import note
from avar_eval.watch.complete import SCORES_NAME
from avar_eval.watch.scoring import score_waiting, scoring


@dataclass
class ScoreArguments:
    """What every checkpoint is scored on while training."""

    score_tasks: str | None = field(
        default=None,
        metadata={"help": "Tasks, by commas: score the base and each checkpoint on them. By default none."},
    )
    score_limit: int | None = field(default=None, metadata={"help": "Ask only the first N questions of each task."})
    score_attention_samples: int = field(
        default=200, metadata={"help": "Questions a task whose attention is measured."}
    )
    score_batch_size: int | None = field(default=None, metadata={"help": "Questions a batch, by default the base's."})


def check_scores(arguments: ScoreArguments, processes: int, *, saves: bool) -> None:
    """Raise UsageError for unknown tasks, without checkpoints, and where processes would wait while one scores."""
    if arguments.score_tasks is None:
        return
    find_tasks(listed_names(arguments.score_tasks))
    if not saves:
        raise UsageError("score_tasks scores checkpoints: set save_strategy to steps or epoch")
    if processes > 1:
        raise UsageError(
            f"score_tasks is for one process, and this recipe has {processes}: leave it out, and run "
            f"`avar-eval watch OUTPUT_DIR --tasks {arguments.score_tasks}` beside the training"
        )


class ScoreCheckpoints(TrainerCallback):  # type: ignore[misc] # transformers is untyped here
    """Scores the base model when training starts, and each checkpoint after it was saved; what a crash left, too.

    Training takes the same course as without: random states are as they were before. A checkpoint that cannot be
    scored is a warning.
    """

    def __init__(self, output_dir: Path, arguments: ScoreArguments, use_cpu: bool) -> None:
        self._scoring = scoring(
            output_dir,
            listed_names(arguments.score_tasks or ""),
            limit=arguments.score_limit,
            attention_samples=arguments.score_attention_samples,
            batch_size=arguments.score_batch_size,
            device="cpu" if use_cpu else None,
        )
        self._tried: set[int] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The base model, and checkpoints of before."""
        self._score()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The new checkpoint."""
        self._score()

    def _score(self) -> None:
        with _undisturbed():
            try:
                problems = score_waiting(self._scoring, self._tried)
            except AvarError as error:  # such as another process that scores into the same folder
                problems = [str(error)]
        for problem in problems:
            note(f"warning: {problem}")


class LogScores(TrainerCallback):  # type: ignore[misc] # transformers is untyped here
    """Hands the scores of checkpoints to the run's trackers, whoever made them: this process, or `avar-eval watch`.

    Each step's scores are handed on once in a process, as `score/TASK/METRIC` (VAS and other attention among them) with
    `score/step`, soon after they are there. They are no part of the training's own log.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._known: set[int] = set()
        self._hands_on = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The base's scores, and those of an earlier part of the training."""
        self._hand_on(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What is new."""
        self._hand_on(args, state, control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What is new."""
        self._hand_on(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """What is new."""
        self._hand_on(args, state, control)

    def _hand_on(self, args: Any, state: Any, control: Any) -> None:
        if self._hands_on or not state.is_world_process_zero:
            return
        self._hands_on = True  # handing on is a log, too
        try:
            for step, numbers in scores_by_step(Path(args.output_dir)).items():
                if step not in self._known:
                    self._known.add(step)
                    logs = {"score/step": step} | {f"score/{name}": value for name, value in numbers.items()}
                    # not Trainer.log: TRL would end the mean of its own metrics, and the log of the training would
                    # depend on when the scores were ready
                    self._trainer.callback_handler.on_log(args, state, control, logs)
        finally:
            self._hands_on = False


def scores_by_step(output_dir: Path) -> dict[int, dict[str, float]]:
    """Every scored step of a training, 0 for its base: `TASK/METRIC` -> value, shares as fractions 0..1."""
    found = {}
    for path in sorted((output_dir / SCORES_NAME).glob(f"step-*/{RESULTS_NAME}")):
        try:
            results = read_results(path.parent)
        except ResultsError as error:
            note(f"warning: {error}")
            continue
        found[int(path.parent.name.removeprefix("step-"))] = {
            f"{task}/{name}": metric.value
            for task, result in results.tasks.items()
            for name, metric in result.metrics.items()
            if metric.value is not None
        }
    return dict(sorted(found.items()))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)

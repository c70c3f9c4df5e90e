"""Score the checkpoints of a training while it goes on, in a process of its own."""

import gc
import time
from pathlib import Path

from avar_eval.models.training_run import read_training_run
from avar_eval.terminal import note
from avar_eval.watch.scoring import Scoring, WatchError, score_waiting, unmerged


def watch(of: Scoring, *, once: bool, timeout: float | None, pause: float) -> None:
    """Score checkpoints as they are completed, until the training says that it has finished.

    once: score what is there, and end. timeout: seconds without anything to score after which to end, None: never.
    pause: seconds between two looks. Raises WatchError at the end if a checkpoint could not be scored.
    """
    tried: set[int] = set()
    told: set[Path] = set()
    problems: list[str] = []
    last = time.monotonic()
    while True:
        finished = _finished(of.output_dir)  # asked first: what was written before it is seen below
        before = len(tried)
        new = score_waiting(of, tried)
        for problem in new:
            note(f"warning: {problem}")
        problems += new
        _report_unmerged(of, told)
        if once or finished:
            break
        if len(tried) > before:
            _give_back_memory()
            last = time.monotonic()
        elif timeout is not None and time.monotonic() - last >= timeout:
            note(f"nothing new in {of.output_dir} for {timeout / 60:g} minutes")
            break
        else:
            time.sleep(pause)
    if problems:
        raise WatchError(f"not every checkpoint is scored: {'; '.join(problems)}; the same command tries again")


def _finished(output_dir: Path) -> bool:
    training = read_training_run(output_dir)
    return training is not None and training.finished


def _report_unmerged(of: Scoring, told: set[Path]) -> None:
    for path in unmerged(of):
        if path not in told:
            told.add(path)
            note(
                f"warning: {path} holds sharded weights that only its training can load: merge them into it "
                "(`accelerate merge-weights`, or DeepSpeed's zero_to_fp32.py with --safe_serialization)"
            )


def _give_back_memory() -> None:
    """The scored model's; on a GPU that the training shares, what the allocator keeps is missed elsewhere."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

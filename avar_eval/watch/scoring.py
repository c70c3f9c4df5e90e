"""Score the checkpoints of one training: each once, also after a crash, with a row each in the leaderboard.

In OUTPUT_DIR/scores, or where the settings say, `settings.json` holds how the checkpoints are asked and `step-N` the
record book and results of step N; a step is scored when its results.json is there. Step 0 is the base model.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from statistics import mean
from typing import Any

from avar_eval.atomic import write_atomically
from avar_eval.errors import AvarError, UsageError
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.leaderboard.store import publish
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.checkpoint import find_source, resolve_checkpoint, trained_from
from avar_eval.models.engine_args import decisive
from avar_eval.models.training_run import read_training_run
from avar_eval.results.schema import RESULTS_NAME, Results, read_results
from avar_eval.run.asking import Asking
from avar_eval.run.evaluate import RunConfig, TrainingStep, evaluate
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.tasks.catalog import find_tasks
from avar_eval.terminal import note
from avar_eval.user_files import parse_json, read_bytes
from avar_eval.watch.complete import BEST_NAME, SCORES_NAME, complete_checkpoints, has_weights

SETTINGS_NAME = "settings.json"


class WatchError(AvarError):
    """Checkpoints cannot be scored.

    What to do: Name what the folder does not say: `--base`, `--run`, or `--without-base`.
    """


@dataclass(frozen=True)
class Scoring:
    """A training's output folder, how its checkpoints are asked, and where the scores go.

    run: its name; started: when it was first started, if it says so. base: the model that was trained, None leaves step
    0 out. model: what decides the answers, the same for the base and for every checkpoint; its source is the training.
    """

    output_dir: Path
    run: str
    started: str | None
    base: str | None
    tasks: list[str]
    model: ResolvedModel
    scores: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the scores, as settings.json holds it."""
        asking, decoding = self.model.asking, self.model.decoding
        known = "max_new_tokens" in asking.decoding or self.model.source.base is not None
        settings = {
            "run": self.run,
            "started": self.started,
            "base": self.base,
            "tasks": self.tasks,
            "limit": asking.limit,
            "system_prompt": self.model.system_prompt,
            "prompt_style": self.model.prompt_style,
            "max_new_tokens": decoding.max_new_tokens if known else None,
            "attention_samples": asking.attention_samples,
            "dtype": asking.dtype,
            "backend": self.model.backend,
            "attn_implementation": asking.backend_options.get("attn_implementation"),
        }
        drawn = {"temperature": decoding.temperature, "samples": decoding.samples, "seed": decoding.seed}
        later = ("image_min_pixels", "image_max_pixels", "protocol", "uniform_prompts")  # not in earlier files
        chosen = {name: value for name in later if (value := getattr(asking, name))}
        if isinstance(options := self.model.options, VllmOptions) and (of := decisive(options.engine_args)):
            chosen["engine_args"] = of
        return settings | decoding.sampling() | ({} if decoding.greedy else drawn) | chosen

    def model_of(self, step: int, model: str) -> ResolvedModel:
        """The model of a step, asked as all the others are."""
        name = model if step == 0 else f"{self.run}/checkpoint-{step}"
        return replace(self.model, asking=replace(self.model.asking, model=model, name=name), source=find_source(model))


def scoring(
    output_dir: Path,
    tasks: list[str],
    *,
    base: str | None = None,
    without_base: bool = False,
    run: str | None = None,
    scores: Path | None = None,
    **asked: Any,
) -> Scoring:
    """What to score, with what was not given taken from what the training says and from its base's registry entry.

    asked: how, as `Asking.of` takes it. Raises UsageError for unknown tasks, without a base, for an attention kernel
    that cannot be had here, or if this folder's scores were made in another way.
    """
    if not output_dir.is_dir():
        raise UsageError(f"there is no folder {output_dir}: start the training first, or see its output_dir")
    asking = Asking.of(**{**asked, "model": str(output_dir)})
    if asking.backend == "api":
        raise UsageError("--backend takes transformers, vllm, not 'api'")
    if kernel := asking.backend_options.get("attn_implementation"):
        _check_kernel(kernel, asking)
    training = read_training_run(output_dir)
    base = base or (training.base if training else _adapters_base(output_dir))
    if base is None and not without_base:
        raise UsageError(f"{output_dir} does not say which model was trained: give --base MODEL, or --without-base")
    made = Scoring(
        output_dir=output_dir,
        run=run or (training.run if training else output_dir.resolve().name),
        started=training.started if training else None,
        base=None if without_base else base,
        tasks=[task.name for task in find_tasks(tasks)],
        model=resolve(asking, trained_from(output_dir, base, trained_here=training is not None)),
        scores=scores or output_dir / SCORES_NAME,
    )
    _check_settings(made)
    return made


def _check_kernel(name: str, asking: Asking) -> None:
    if asking.backend not in (None, "transformers"):
        raise UsageError(f"--attn-implementation is an option of --backend transformers, not of {asking.backend}")
    from avar_eval.models.transformers_backend import Placement

    Placement.of(asking.device, asking.dtype, name)


def _adapters_base(output_dir: Path) -> str | None:
    """The model that another trainer's checkpoints are adapters for, if they are."""
    for path in complete_checkpoints(output_dir).values():
        base = resolve_checkpoint(str(path)).base if has_weights(path) else None
        return base.name if base else None
    return None


def _check_settings(of: Scoring) -> None:
    """Scores of one folder are comparable. Raises UsageError if there are some that were made otherwise."""
    path = of.scores / SETTINGS_NAME
    new = of.settings
    if not any(of.scores.glob("step-*")):  # such as after a mistyped --base: nothing was asked in that way
        _make_folder(of.scores)
        write_atomically(path, [json.dumps(new, indent=2, ensure_ascii=False) + "\n"])
        return
    try:
        old = parse_json(read_bytes(path))
        if not isinstance(old, dict):
            raise ValueError("no settings")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: give --output another folder") from error
    names = dict.fromkeys([*new, *old])
    changed = [f"{name} {old.get(name)!r}, now {new.get(name)!r}" for name in names if new.get(name) != old.get(name)]
    if changed:
        raise UsageError(
            f"the scores in {of.scores} were made with {'; '.join(changed)}: ask in the same way, delete that folder, "
            "or give `avar-eval watch` --output another one"
        )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WatchError(f"cannot make the folder {path}: {error.strerror}; give --output another one") from error


def scored_steps(of: Scoring) -> dict[int, Results]:
    """What has been scored so far, by step."""
    found = {int(path.parent.name.removeprefix("step-")): path for path in of.scores.glob(f"step-*/{RESULTS_NAME}")}
    return {step: read_results(path.parent) for step, path in sorted(found.items())}


def waiting(of: Scoring) -> dict[int, str]:
    """Steps to score, and the folder or name of each one's model: the base first, then the checkpoints in order."""
    done = scored_steps(of)
    models = {} if of.base is None else {0: of.base}
    models |= {step: str(path) for step, path in complete_checkpoints(of.output_dir).items() if has_weights(path)}
    return {step: model for step, model in models.items() if step not in done}


def unmerged(of: Scoring) -> list[Path]:
    """Complete checkpoints whose weights only the training itself can load."""
    return [path for path in complete_checkpoints(of.output_dir).values() if not has_weights(path)]


def score_waiting(of: Scoring, tried: set[int]) -> list[str]:
    """Score what waits, but for the steps in `tried`, which are added to; returns what went wrong, by checkpoint.

    The folder is held meanwhile, so that two processes score nothing twice. Raises WatchError if another one has it.
    """
    problems = []
    try:
        with FolderLock(of.scores):
            for step in scored_steps(of) if not tried else ():  # a crash may have come before the leaderboard had it
                publish(_folder(of, step) / RESULTS_NAME)
            while steps := [step for step in waiting(of) if step not in tried]:
                tried.add(steps[0])
                if problem := _score(of, steps[0], waiting(of)[steps[0]]):
                    problems.append(problem)
                link_best(of)
    except FolderInUseError:
        raise WatchError(f"another process is scoring into {of.scores}: wait for it to end") from None
    return problems


def _score(of: Scoring, step: int, model: str) -> str | None:
    """Score one step; returns what went wrong."""
    note(f"scoring step {step}: {model}")
    try:
        evaluate(
            RunConfig(
                of.model_of(step, model),
                of.tasks,
                _folder(of, step),
                training=TrainingStep(of.run, of.started, step),
            )
        )
    except (AvarError, OSError) as error:
        if step and step not in complete_checkpoints(of.output_dir):
            return f"step {step} was deleted while it was scored"
        return f"step {step} is not scored: {error}"
    return None


def _folder(of: Scoring, step: int) -> Path:
    return of.scores / f"step-{step}"


def headline_score(results: Results) -> float | None:
    """A run's score, 0..1: the mean over its tasks of the benchmark's own score by the strict verdict."""
    scores = [task.headline.values.get("strict") for task in results.tasks.values() if task.headline]
    known = [score.value for score in scores if score is not None and score.value is not None]
    return mean(known) if known else None


def link_best(of: Scoring) -> None:
    """Let OUTPUT_DIR/best point to the checkpoint with the highest score, the earliest of equal ones.

    Raises WatchError if something else than a link stands there.
    """
    present = complete_checkpoints(of.output_dir)
    scores = {step: headline_score(results) for step, results in scored_steps(of).items() if step in present}
    known = {step: score for step, score in scores.items() if score is not None}
    if not known:
        return
    best = present[max(known, key=lambda step: (known[step], -step))]
    link = of.output_dir / BEST_NAME
    if link.is_symlink() and os.readlink(link) == best.name:
        return
    if link.exists() and not link.is_symlink():
        raise WatchError(f"{link} is no link: move it away, the best checkpoint is to be linked there")
    new = link.with_name(f".{BEST_NAME}.{token_hex(8)}")
    new.symlink_to(best.name, target_is_directory=True)
    new.replace(link)

"""A training's steps as TRL counts them: what is generated at a time, learnt from at a time, and how often."""

import math
from pathlib import Path
from typing import Any, Final, NamedTuple

from avar_eval.recipes.mixture import parts_of
from avar_eval.recipes.recipe import Recipe
from avar_eval.recipes.sources import EMBEDDED, EMBEDDED_ROWS, rows_file
from avar_eval.user_files import open_file

_DEFAULT_EPOCHS: Final = 3.0
"""transformers' num_train_epochs."""


class Steps(NamedTuple):
    """sequences: of one optimizer step, on all processes; GRPO: responses. generated: GRPO: responses that are made at
    a time, by one policy. generations: GRPO: responses to each prompt, else 1.
    """

    processes: int
    per_device: int
    accumulation: int
    sequences: int
    generations: int
    generated: int
    iterations: int

    @property
    def prompts(self) -> int:
        """Prompts of one optimizer step; of fine-tuning its sequences."""
        return self.sequences // self.generations

    @property
    def on_policy(self) -> bool:
        """Whether every response is learnt from by the policy that made it (the ratio of Eq. 10 is 1)."""
        passes = self.generated // (self.processes * self.per_device) * self.iterations
        return self.accumulation % passes == 0

    def an_epoch(self, rows: int) -> int:
        """Optimizer steps of one pass over so many rows; the last may be smaller.

        GRPO leaves out the rows beyond the last whole generation, as TRL's RepeatSampler does.
        """
        if self.generated:
            batches = rows // (self.generated // self.generations) * self.iterations
            batches *= self.generated // (self.processes * self.per_device)
        else:
            batches = -(-rows // (self.processes * self.per_device))
        return -(-batches // self.accumulation)


def recipe_steps(recipe: Recipe) -> Steps:
    """How a recipe's steps are put together, by its options and TRL's defaults."""
    card, options = recipe.card, recipe.options
    per_device = int(options.get("per_device_train_batch_size", 8))
    accumulation = int(options.get("gradient_accumulation_steps", 1))
    together = card.processes * per_device
    is_grpo = card.method == "grpo"
    generated = options.get("generation_batch_size") or together * int(
        options.get("steps_per_generation") or accumulation
    )
    return Steps(
        processes=card.processes,
        per_device=per_device,
        accumulation=accumulation,
        sequences=together * accumulation,
        generations=int(options.get("num_generations", 8)) if is_grpo else 1,
        generated=int(generated) if is_grpo else 0,
        iterations=int(options.get("num_iterations", 1)),
    )


def training_rows(recipe: Recipe) -> int | None:
    """How many rows are trained on: counted in files on this disk, else as the recipe's card says; None if unknown."""
    limit = recipe.options.get("train_rows")
    parts = parts_of(str(recipe.options["train_data"]))
    counts = [_rows(part.source, limit) if part.count is None else part.count for part in parts]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else recipe.card.rows


def _rows(source: str, limit: Any) -> int | None:
    if source in EMBEDDED:
        return int(limit or EMBEDDED_ROWS)
    file = rows_file(Path(source)) if Path(source).exists() else None
    if file is None or file.suffix == ".json":  # a table, or a list that would have to be read whole
        return None
    with open_file(file) as lines:
        count = sum(bool(line.strip()) for line in lines)
    return count if limit is None else min(count, int(limit))


class Planned(NamedTuple):
    """Optimizer steps of a training and of each of its epochs, and the rows of one."""

    steps: int
    an_epoch: int
    epochs: float
    rows: int


def planned_steps(recipe: Recipe) -> Planned | None:
    """How many steps a training will take; None where its rows cannot be counted."""
    rows = training_rows(recipe)
    if rows is None:
        return None
    each = recipe_steps(recipe).an_epoch(rows)
    epochs = float(recipe.options.get("num_train_epochs", _DEFAULT_EPOCHS))
    limit = int(recipe.options.get("max_steps", -1))
    return Planned(limit if limit > 0 else math.ceil(epochs * each), each, epochs, rows)

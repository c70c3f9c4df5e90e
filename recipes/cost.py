"""How long a training takes and what it writes, estimated from a model's shape: enough to see days, and full disks."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from avar_eval.errors import UsageError
from avar_eval.number_format import gigabytes
from avar_eval.recipes.memory import Architecture
from avar_eval.recipes.mixture import parts_of
from avar_eval.recipes.recipe import Recipe
from avar_eval.recipes.sources import EMBEDDED, rows_file
from avar_eval.recipes.steps import planned_steps, recipe_steps


class Gpu(NamedTuple):
    """Published peaks. flops: bfloat16 operations a second, dense. bandwidth: bytes of memory a second."""

    flops: float
    bandwidth: float


GPUS: Final = {
    "A100-80GB": Gpu(312e12, 2.04e12),
    "H100-80GB": Gpu(989e12, 3.35e12),
    "RTX-4090": Gpu(165e12, 1.01e12),
}
_TABLES: Final = (".parquet", ".arrow")
_USED: Final = 0.35
"""Share of the peak operations that a training step with checkpointing reaches, assumed."""
_READ: Final = 0.6
"""Share of the peak bandwidth that generation reaches, assumed."""
_LONGEST: Final = 3.0
"""The longest response of a batch, in mean lengths, assumed: the batch is done when it is."""
_EACH_TOKEN: Final = 0.035
"""Seconds that transformers takes to launch one token's kernels, whatever the batch, assumed."""


class Hours(NamedTuple):
    """Of a whole training: what is spent learning, and generating responses (GRPO)."""

    learning: float
    generating: float


def estimated_hours(recipe: Recipe) -> Hours | None:
    """Hours on all GPUs of the recipe together; None where its shape, GPU, rows or mean lengths are not known.

    A token that is learnt from costs 8 operations for each parameter (2 forward, 4 backward, 2 again for checkpointing)
    and causal attention to what precedes it; r_visual costs another forward pass. A generated token costs reading all
    weights, shared by the responses of a batch, and its own keys and values.
    """
    card, planned, steps = recipe.card, planned_steps(recipe), recipe_steps(recipe)
    if card.architecture is None or card.gpu is None or card.mean_tokens is None or planned is None:
        return None
    shape, gpu = card.architecture, GPUS[card.gpu]
    limit = recipe.options.get("max_length" if card.method == "sft" else "max_completion_length")
    tokens = min(float(card.mean_tokens), float(limit or card.mean_tokens))
    length = tokens + (card.mean_prompt_tokens or 0)
    passes = 4.0 if card.method == "sft" else 5.0
    each = passes * length * (2 * shape.parameters + 2 * length * shape.hidden * shape.layers)
    learning = planned.steps * steps.sequences * each / (_USED * gpu.flops * steps.processes)
    generating = 0.0
    if card.method == "grpo":
        at_a_time = steps.generated // steps.processes
        rounds = planned.steps * steps.sequences / steps.generated / steps.iterations
        longest = min(float(limit or _LONGEST * tokens), _LONGEST * tokens)
        reading = 2 * shape.parameters / (_READ * gpu.bandwidth)
        token = reading if recipe.options.get("use_vllm") else max(reading, _EACH_TOKEN)
        kept = at_a_time * tokens * shape.cache_bytes(1) * (length - tokens / 2) / (_READ * gpu.bandwidth)
        generating = rounds * (longest * token + kept)
    return Hours(learning / 3600, generating / 3600)


class Disk(NamedTuple):
    """Bytes. checkpoint: of one of them. kept: how many lie there at a time, the one that is being written included."""

    checkpoint: float
    kept: int
    total: float


def estimated_disk(recipe: Recipe) -> Disk | None:
    """What the output folder grows to; None where the model's shape is not known or nothing says how many are saved.

    A checkpoint has weights and both moments in float32, and under DeepSpeed the float32 master weights once more; of
    adapters only they are saved. The trained model comes on top.
    """
    card, options = recipe.card, recipe.options
    if card.architecture is None:
        return None
    saved = _saved(recipe)
    limit = options.get("save_total_limit")
    if limit is None and saved is None:
        return None
    kept = min(of for of in (limit and int(limit) + 1, saved) if of is not None)
    trained = _trained(card.architecture, options)
    checkpoint = 16.0 * trained
    return Disk(checkpoint, kept, kept * checkpoint + 4.0 * trained)


def _trained(shape: Architecture, options: dict[str, Any]) -> float:
    return shape.lora_parameters(int(options["lora_r"])) if options.get("use_peft") else shape.parameters


def _saved(recipe: Recipe) -> int | None:
    """How many checkpoints a training saves."""
    strategy, planned = recipe.options.get("save_strategy", "steps"), planned_steps(recipe)
    if strategy == "no":
        return 0
    if planned is None:
        return None
    if strategy == "epoch":
        return -(-planned.steps // max(planned.an_epoch, 1))
    every = float(recipe.options.get("save_steps", 500))
    return int(planned.steps // (every if every >= 1 else max(every * planned.steps, 1))) + 1


def copied_rows(recipe: Recipe) -> float | None:
    """Bytes of the temporary copy of the rows, which holds the pictures that stand within them; None where a part is on
    the hub, which does not say so before it is downloaded. Pictures that rows name by their paths stay where they are.
    """
    sizes = [_copied(part.source) for part in parts_of(str(recipe.options["train_data"]))]
    known = [size for size in sizes if size is not None]
    return float(sum(known)) if len(known) == len(sizes) else None


def _copied(source: str) -> int | None:
    name, _, folder = source.partition("=")
    path = Path(folder or name)
    if source in EMBEDDED:
        return 0  # some megabytes
    if not path.exists():
        return None
    file = rows_file(path)
    files = [file] if file is not None else [of for of in path.rglob("*") if of.suffix in _TABLES]
    return sum(of.stat().st_size for of in files)


def free_space(folder: Path) -> float:
    """Bytes that can still be written where a folder is or will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return float(shutil.disk_usage(there).free)


def check_disk(recipe: Recipe) -> None:
    """Raise UsageError where the checkpoints, or the rows' copy, will not fit beside what lies on the disk."""
    copied, temporary = copied_rows(recipe) or 0.0, Path(tempfile.gettempdir())
    if copied > (free := free_space(temporary)):
        raise UsageError(
            f"the rows' temporary copy needs {gigabytes(copied)}, and {gigabytes(free)} are free at "
            f"{temporary}: set TMPDIR to a folder on another disk"
        )
    needed, folder = estimated_disk(recipe), Path(str(recipe.options["output_dir"]))
    if needed is None:
        return
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    free = free_space(folder)
    if needed.total - there > free:
        raise UsageError(
            f"{needed.kept} checkpoints of {gigabytes(needed.checkpoint)} and the trained model need "
            f"{gigabytes(needed.total - there)}, and {gigabytes(free)} are free at {folder}: give "
            "--output_dir another disk, or a lower --save_total_limit"
        )

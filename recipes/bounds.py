"""What numbers a recipe's options may have, checked before anything is loaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from avar_eval.errors import UsageError
from avar_eval.models.registry import find_model
from avar_eval.recipes.recipe import Recipe
from avar_eval.user_files import parse_json, read_text


class _Bound(NamedTuple):
    """holds: whether a number is allowed. said: which are, as the end of "must be …"."""

    holds: Callable[[float], bool]
    said: str


_ABOVE_ZERO = _Bound(lambda value: 0 < value < float("inf"), "above 0")
_NOT_NEGATIVE = _Bound(lambda value: 0 <= value < float("inf"), "0 or more")
_COUNT = _Bound(lambda value: value >= 1 and value % 1 == 0, "a whole number of at least 1")
_WHOLE = _Bound(lambda value: value >= 0 and value % 1 == 0, "a whole number, 0 or more")
_STEPS = _Bound(lambda value: value == -1 or _COUNT.holds(value), "a whole number of at least 1, or -1 for none")
_GROUP = _Bound(lambda value: value >= 2 and value % 1 == 0, "a whole number of at least 2 (Eq. 9)")
_PART = _Bound(lambda value: 0 < value <= 1, "above 0 and at most 1")
_LESS_THAN_ONE = _Bound(lambda value: 0 <= value < 1, "from 0 to below 1")

_BOUNDS: Final[Mapping[str, _Bound]] = {
    **dict.fromkeys(("learning_rate", "num_train_epochs", "temperature", "lora_alpha"), _ABOVE_ZERO),
    **dict.fromkeys(("save_steps", "eval_steps", "logging_steps", "epsilon"), _ABOVE_ZERO),
    **dict.fromkeys(("weight_decay", "max_grad_norm", "warmup_steps", "beta"), _NOT_NEGATIVE),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), _LESS_THAN_ONE),
    **dict.fromkeys(("top_p", "vllm_gpu_memory_utilization"), _PART),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), _COUNT),
    **dict.fromkeys(("gradient_accumulation_steps", "steps_per_generation", "num_iterations", "lora_r"), _COUNT),
    **dict.fromkeys(("max_length", "max_prompt_tokens", "max_completion_length", "dataset_num_proc"), _COUNT),
    **dict.fromkeys(("image_min_pixels", "image_max_pixels"), _COUNT),
    **dict.fromkeys(("train_rows", "eval_rows", "save_total_limit", "score_limit", "score_batch_size"), _COUNT),
    **dict.fromkeys(("seed", "data_seed", "data_seed_of_shapes"), _WHOLE),
    **dict.fromkeys(("dataloader_num_workers", "score_attention_samples"), _WHOLE),
    "num_generations": _GROUP,
    "max_steps": _STEPS,
}


def check_bounds(recipe: Recipe) -> None:
    """Raise UsageError for a number that no training can have.

    What is no number at all is left to TRL's parser, and the options of AGTO and VARS to their own dataclasses.
    """
    for key, bound in _BOUNDS.items():
        value = _number(recipe.options.get(key))
        if value is not None and not bound.holds(value):
            raise UsageError(f"recipe {recipe.name}: {key} must be {bound.said}, and is {recipe.options[key]}")
    check_layers(recipe)


def _number(value: Any) -> float | None:
    """A number as YAML or TRL's parser reads it: 1e-5 without a dot is a word to YAML."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def check_layers(recipe: Recipe) -> None:
    """Raise UsageError if `attention_layers` are none that the model can have."""
    layers = recipe.options.get("attention_layers")
    if layers is None:
        return
    if not (isinstance(layers, list) and layers and all(type(layer) is int and layer >= 0 for layer in layers)):
        raise UsageError(
            f"recipe {recipe.name}: attention_layers must be a list of layer numbers from 0, such as [20, 21], and is "
            f"{layers}; leave it out for all layers"
        )
    count = decoder_layers(recipe)
    if count is not None and max(layers) >= count:
        raise UsageError(
            f"recipe {recipe.name}: attention_layers holds {max(layers)}, and the decoder of "
            f"{recipe.options['model_name_or_path']} has the layers 0 to {count - 1}"
        )


def decoder_layers(recipe: Recipe) -> int | None:
    """How many layers the base model's decoder has, by its folder or the recipe's card; None where neither says so."""
    model = str(recipe.options["model_name_or_path"])
    entry = find_model(model)
    path = Path(model) if entry is None else entry.path
    if path is not None and (path / "config.json").is_file():
        config = parse_json(read_text(path / "config.json"))
        count: int | None = config.get("text_config", config).get("num_hidden_layers")
        return count
    return None if recipe.card.architecture is None else recipe.card.architecture.layers

"""Recipes: YAML files of TRL's and our options, with a card that says what they are and is checked first.

Light: a recipe's file, its data and its arithmetic are checked before torch is imported.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avar_eval.errors import UsageError, unknown_name
from avar_eval.in_words import problems_in_words
from avar_eval.models.checkpoint import find_source
from avar_eval.recipes.memory import Architecture
from avar_eval.recipes.sources import MIXTURES, check_source
from avar_eval.user_files import parse_yaml, read_yaml

SHIPPED = Path(__file__).parent / "configs"


class Expected(BaseModel):
    """What the paper prints for the finished model; absent where it prints nothing. scores: by task, in percent."""

    model_config = ConfigDict(extra="forbid")

    vas: float | None = None
    average: float | None = None
    scores: dict[str, float] = {}
    source: str


class Card(BaseModel):
    """processes: GPUs of all nodes. global_batch_size: sequences of one optimizer step; GRPO counts prompts, as VeRL's
    `train_batch_size` does, and each has num_generations responses. launch: the file
    in launch/ that starts its processes. rows: how many the paper trained on. gpu: what it
    is for. mean_tokens, mean_prompt_tokens: of a row or, in GRPO, of a response and its prompt, assumed for the hours.
    """

    model_config = ConfigDict(extra="forbid")

    method: Literal["sft", "grpo"]
    description: str
    processes: int = Field(default=1, ge=1)
    launch: str | None = None
    global_batch_size: int = Field(ge=1)
    sharded: bool = False
    rows: int | None = Field(default=None, ge=1)
    gpu: Literal["A100-80GB", "H100-80GB", "RTX-4090"] | None = None
    mean_tokens: int | None = Field(default=None, ge=1)
    mean_prompt_tokens: int | None = Field(default=None, ge=1)
    architecture: Architecture | None = None
    expected: Expected | None = None


class Recipe(BaseModel):
    """options: what TRL's parser gets, already merged with the command line's. elsewhere: it is only checked here, and
    runs on a machine with GPUs."""

    name: str
    card: Card
    options: dict[str, Any]
    elsewhere: bool = False

    @property
    def processor(self) -> str:
        """What each of its processes runs on."""
        return "CPU" if self.options.get("use_cpu") else "GPU"


def shipped() -> dict[str, Path]:
    """The recipes of this package by name; mixtures of rows lie beside them."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml")) if path.stem not in MIXTURES}


def read_recipe(name: str, arguments: Sequence[str] = ()) -> Recipe:
    """A shipped recipe or a file, with `--key value` arguments of the command line put over it.

    A recipe whose card names a `base` says only what differs from that shipped recipe.

    Raises UsageError if there is no such recipe, or it or the arguments cannot be read.
    """
    path = shipped().get(name, Path(name))
    content, card = _content(name, path)
    if "base" in card:
        content, card = _over_base(path, content, card)
    content |= _overrides(arguments)
    options = {key: _strategy(key, value) for key, value in content.items()}
    card |= {key: options.pop(key) for key in ("processes", "global_batch_size") if key in options}
    try:
        return Recipe(name=path.stem, card=Card.model_validate(card), options=options)
    except ValidationError as error:
        raise UsageError(f"{path}, `recipe`: {'; '.join(problems_in_words(error))}") from error


def _content(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recipe file's options, and its card. Raises UsageError."""
    if not path.is_file():
        if path.suffix in (".yaml", ".yml"):
            raise UsageError(f"there is no recipe file {name!r}")
        raise unknown_name("recipe", name, shipped(), "(a YAML file is taken as well)")
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("recipe"), dict):
        raise UsageError(f"{path} is no recipe: it needs a mapping `recipe` with method and global_batch_size")
    card = content.pop("recipe")
    if odd := [key for key in (*content, *card) if not isinstance(key, str)]:
        raise UsageError(f"{path}: the key {odd[0]!r} is no text: write it in quotes, or take it out")
    return content, card


def _over_base(path: Path, content: Mapping[str, Any], card: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and card put over those of the shipped recipe that the card names as its base.

    What is published of the base's model is not of this one's.
    """
    base = card.pop("base")
    if base not in shipped():
        raise UsageError(f"{path}: `base` must name a shipped recipe, such as {next(iter(shipped()))}, not {base!r}")
    options, of_base = _content(base, shipped()[base])
    if "base" in of_base:
        raise UsageError(f"{path}: the recipe {base} stands on another one itself: name that as the base")
    of_base.pop("expected", None)
    return {**options, **content}, of_base | card


def _strategy(key: str, value: Any) -> Any:
    """`save_strategy: no`, which YAML reads as false."""
    return "no" if key.endswith("_strategy") and value is False else value


def _overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key value`, `--key=value` and `--flag`, values read as YAML."""
    given: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UsageError(f"{word!r} is no option: give --key value")
        key, has_value, value = word[2:].partition("=")
        if not has_value:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        try:
            given[key.replace("-", "_")] = parse_yaml(value)
        except ValueError as error:
            raise UsageError(
                f"--{key} {value!r} cannot be read as YAML: put it into quotes within the quotes"
            ) from error
    return given


def without_gpu(recipe: Recipe) -> Recipe:
    """The same recipe for a machine without a GPU, where TRL's parser refuses bfloat16 and vLLM: for checks only."""
    cannot = {name: False for name in ("bf16", "use_vllm") if recipe.options.get(name)}
    elsewhere = not recipe.options.get("use_cpu")
    return recipe.model_copy(update={"options": recipe.options | cannot | {"use_cpu": True}, "elsewhere": elsewhere})


def check_files(recipe: Recipe) -> None:
    """Model and data are names that can be had. Raises UsageError."""
    for key in ("model_name_or_path", "train_data", "output_dir"):
        if not recipe.options.get(key):
            raise UsageError(f"the recipe {recipe.name} has no {key}")
    find_source(str(recipe.options["model_name_or_path"]))
    check_source(str(recipe.options["train_data"]))
    if recipe.options.get("eval_data"):
        check_source(str(recipe.options["eval_data"]))
    resumed = recipe.options.get("resume_from_checkpoint")
    if isinstance(resumed, str) and not Path(resumed).is_dir():
        raise UsageError(
            f"there is no checkpoint {resumed!r} to resume from; leave resume_from_checkpoint out to go on from "
            "the last one of output_dir"
        )


def check_keys(recipe: Recipe, known: Mapping[str, Any]) -> None:
    """Every option is one of `known`. Raises UsageError with the nearest name."""
    for key in recipe.options:
        if key not in known:
            raise unknown_name("option", key, known, f"(recipe {recipe.name})")


def check_batch(card: Card, per_device: int, accumulation: int, generations: int | None, processes: int) -> None:
    """The step is as large as the recipe says, and holds whole groups. Raises UsageError.

    processes: how many run. A recipe for several needs a launcher.
    """
    if processes == 1 < card.processes:
        raise UsageError(
            f"this recipe is for {card.processes} processes: start it with accelerate launch (see recipes/launch), or "
            "give --processes 1 and a --gradient_accumulation_steps that keeps global_batch_size"
        )
    size = per_device * accumulation * processes
    if generations is not None and size % generations:
        raise UsageError(f"a step of {size} responses is no multiple of num_generations {generations}")
    whole = size if generations is None else size // generations
    if whole != card.global_batch_size:
        groups = "" if generations is None else f" responses, {whole} prompts with {generations} each"
        raise UsageError(
            f"{processes} processes x per_device_train_batch_size {per_device} x gradient_accumulation_steps "
            f"{accumulation} = {size}{groups}, and the recipe's global_batch_size is {card.global_batch_size}: change "
            "one of them"
        )

"""One training run: a checked recipe, its model and rows, a trainer, and checkpoints to resume from."""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from socket import gethostname
from typing import Any, NamedTuple, get_args, get_type_hints

import torch
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from avar_eval.attention.implementations import KNOWN, unknown_reason
from avar_eval.errors import AvarError, UsageError
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.image_limits import ImageLimits
from avar_eval.names import listed_names
from avar_eval.recipes.bounds import check_bounds
from avar_eval.recipes.cost import check_disk
from avar_eval.recipes.data import drop_too_long, load, temporary_folder
from avar_eval.recipes.model_card import write_model_card
from avar_eval.recipes.pictures import fit_pictures
from avar_eval.recipes.preflight import check_attention, check_data, check_trackers
from avar_eval.recipes.recipe import Recipe, check_batch, check_files, check_keys
from avar_eval.recipes.scores import LogScores, ScoreArguments, ScoreCheckpoints, check_scores
from avar_eval.recipes.sources import EMBEDDED, Thoughts
from avar_eval.watch.complete import begin_run, complete_checkpoints


@dataclass
class DataArguments:
    """What is trained on."""

    train_data: str = field(
        metadata={"help": "Sources of rows with commas between them; see avar_eval.recipes.sources."}
    )
    eval_data: str | None = field(default=None, metadata={"help": "The same, for evaluation while training."})
    train_rows: int | None = field(default=None, metadata={"help": "Use only the first N rows of each source."})
    eval_rows: int | None = field(default=None, metadata={"help": "The same of eval_data."})
    train_split: str = field(default="train", metadata={"help": "Split of a hub data set."})
    eval_split: str = field(default="validation", metadata={"help": "Split of a hub data set."})
    system_prompt: str | None = field(default=None, metadata={"help": "Put before conversations that have none."})
    allow_outside: bool = field(
        default=False, metadata={"help": "Rows may name images outside of their folder, on all of this machine."}
    )
    thoughts: Thoughts = field(default="anchored", metadata={"help": "Embedded solutions: anchored, plain or none."})
    data_seed_of_shapes: int = field(default=0, metadata={"help": "shapes: seed of the scenes."})
    max_prompt_tokens: int | None = field(
        default=None,
        metadata={
            "help": "GRPO: pictures of a longer prompt are made smaller until it fits, or it is left out; SFT has "
            "max_length."
        },
    )
    image_min_pixels: int | None = field(
        default=None, metadata={"help": "Enlarge pictures of fewer pixels (width x height) to so many."}
    )
    image_max_pixels: int | None = field(
        default=None, metadata={"help": "Make pictures of more pixels (width x height) smaller, to so many."}
    )


class Parsed(NamedTuple):
    """A recipe as TRL's dataclasses."""

    data: DataArguments
    training: Any
    model: Any
    scores: ScoreArguments


def parse(recipe: Recipe, *, launched: bool = True) -> Parsed:
    """Check a recipe and read it with TRL's parser, before model or data are touched. Raises UsageError.

    launched: whether this is the run itself, which needs as many processes as the recipe says.
    """
    check_files(recipe)
    check_data(recipe)
    if recipe.card.method == "sft":
        from avar_eval.recipes.sft.config import AvarSFTConfig as Config
    else:
        from avar_eval.recipes.grpo.config import AvarGRPOConfig as Config
    kinds = (DataArguments, Config, ModelConfig, ScoreArguments)
    check_keys(recipe, {name: None for kind in kinds for name in kind.__dataclass_fields__})
    check_bounds(recipe)
    data, training, model, scores = _read_options(
        recipe.name, kinds, recipe.options | ({} if launched else _here(recipe))
    )
    if not launched:
        training.per_device_train_batch_size //= recipe.card.processes
    processes = int(os.environ.get("WORLD_SIZE", "1")) if launched else recipe.card.processes
    check_scores(scores, processes, saves=training.save_strategy != "no")
    _check_combinations(recipe.name, data, training, model)
    image_limits(data)
    space = training.trackio_space_id or training.trackio_static_space_id or None
    check_trackers(training.report_to, trackio_space=space, push_to_hub=training.push_to_hub)
    check_attention(
        model.attn_implementation,
        None if recipe.elsewhere else torch.device("cpu" if training.use_cpu else "cuda"),
        torch.bfloat16 if training.bf16 else torch.float32,
    )
    if launched:
        check_disk(recipe)
    check_batch(
        recipe.card,
        training.per_device_train_batch_size,
        training.gradient_accumulation_steps,
        training.num_generations if recipe.card.method == "grpo" else None,
        processes,
    )
    return Parsed(data, training, model, scores)


def image_limits(data: DataArguments) -> ImageLimits:
    """The limits of pictures' pixels. Raises UsageError if no picture can be within them."""
    if data.image_min_pixels and data.image_max_pixels and data.image_min_pixels > data.image_max_pixels:
        raise UsageError(f"image_min_pixels {data.image_min_pixels} is above image_max_pixels {data.image_max_pixels}")
    return ImageLimits(min_pixels=data.image_min_pixels, max_pixels=data.image_max_pixels)


def _check_combinations(name: str, data: DataArguments, training: Any, model: Any) -> None:
    """What can each be had, and not together. Raises UsageError."""
    if data.thoughts not in get_args(Thoughts):  # TRL's parser lets any word through
        raise UsageError(
            f"recipe {name}: thoughts must be one of {', '.join(get_args(Thoughts))}, not {data.thoughts!r}"
        )
    evaluates = training.eval_strategy != "no"
    if evaluates != (data.eval_data is not None):
        raise UsageError(
            f"recipe {name}: eval_strategy {training.eval_strategy.value} needs eval_data"
            if evaluates
            else f"recipe {name}: eval_data is never read with eval_strategy no: set it to steps or epoch"
        )
    kernel = model.attn_implementation
    if training.trains_attention and kernel is not None and (reason := unknown_reason(kernel)):
        raise UsageError(
            f"recipe {name}: attention cannot be measured under attn_implementation {kernel!r} ({reason}): set it to "
            f"one of {KNOWN}"
        )


def _here(recipe: Recipe) -> dict[str, Any]:
    """What lets a recipe be checked in one process, without GPUs if there are none.

    TRL asks whether the responses of all processes make whole groups: the one has those of all.
    """
    without_gpus = {} if torch.cuda.is_available() else {"use_cpu": True, "bf16": False}
    try:
        together = recipe.card.processes * int(recipe.options.get("per_device_train_batch_size", 8))
    except (TypeError, ValueError):  # TRL's parser will say that it is no number
        return without_gpus
    return without_gpus | {"per_device_train_batch_size": together}


def _read_options(name: str, kinds: Sequence[type], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Options as dataclasses. Raises UsageError."""
    hints = {key: hint for kind in kinds for key, hint in get_type_hints(kind).items()}
    options = {key: _as_declared_type(name, key, value, hints[key]) for key, value in options.items()}
    parser = TrlParser(kinds)
    parser.set_defaults_with_config(**options)
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(said):
            # by the name that all of transformers 5 knows
            warnings.filterwarnings("ignore", r"`gradient_checkpointing", FutureWarning)
            read: tuple[Any, ...] = parser.parse_args_into_dataclasses(args=[])
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"recipe {name}: {error}") from error
    except SystemExit as error:  # argparse says which value it cannot read, below all the options that there are
        raise UsageError(f"recipe {name}: {said.getvalue().rpartition('error: ')[2].strip()}") from error
    return read


_MAY_BE_TRUE = ("fsdp", "resume_from_checkpoint")  # texts to transformers, which takes true for them as well


def _as_declared_type(name: str, key: str, value: Any, hint: Any) -> Any:
    """A value that YAML has read: of an option that is a text, a text again, also where it looks like a number.

    TRL's parser reads words, and takes anything else as it is. Raises UsageError for an option without its value.
    """
    types = {hint, *get_args(hint)}
    if value is True and bool not in types and key not in _MAY_BE_TRUE:  # Python would take it for 1
        raise UsageError(f"recipe {name}: {key} needs a value")
    if type(value) in (int, float) and str in types and types.isdisjoint((int, float)):
        return str(value)
    return value


def run(recipe: Recipe) -> Path:
    """Train; a run that was interrupted goes on from its last checkpoint. Returns the folder of the trained model."""
    data, training, model, scores = parse(recipe)
    folder = _made(Path(training.output_dir))
    checkpoint = resolve_checkpoint(model.model_name_or_path)
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(checkpoint.path)
    if recipe.card.method == "grpo":
        _prepare_generation(training, processor)
    shared = _shared_folder(training)
    with training.main_process_first(desc="reading rows"):
        rows = _rows(recipe, data, training, processor, shared)
    training.model_init_kwargs = (training.model_init_kwargs or {}) | {
        "attn_implementation": model.attn_implementation or "sdpa",
        "dtype": model.dtype or ("bfloat16" if model.use_peft else "float32"),
    }
    trainer = _trainer(recipe)(
        str(checkpoint.path),
        training,
        train_dataset=rows[0],
        eval_dataset=rows[1],
        processing_class=processor,
        peft_config=get_peft_config(model),
        quantization_config=get_quantization_config(model),
    )
    with training.main_process_first(desc="noting the run", local=False):
        begun = begin_run(folder, model.model_name_or_path) if trainer.is_world_process_zero() else None
    trainer.write_card = lambda: write_model_card(recipe, folder)
    if scores.score_tasks is not None:
        trainer.add_callback(ScoreCheckpoints(folder, scores, training.use_cpu))
    if training.report_to:
        trainer.add_callback(LogScores(trainer))
    with _named(recipe.name):
        trainer.train(resume_from_checkpoint=_last_checkpoint(training))
        trainer.save_model(training.output_dir)
    if begun is not None:
        processor.save_pretrained(folder)
        begun.model_copy(update={"finished": True}).write(folder)
        write_model_card(recipe, folder)  # the last checkpoint's scores are there now
    return folder


def _made(folder: Path) -> Path:
    """The output folder, made before anything is loaded. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"output_dir {folder} cannot be made: {error.strerror}; give --output_dir another") from error
    return folder


def _prepare_generation(training: Any, processor: Any) -> None:
    """Pad prompts on the left, and let no response hold a placeholder: it would stand for an image that is not there.

    One of them in one response ends a run, for the model's pass over it finds no picture.
    """
    from avar_eval.attention.roles import ChatMarkup

    processor.tokenizer.padding_side = "left"
    placeholders = ChatMarkup(processor).placeholders
    kept_out: dict[str, Any] = (
        {"logit_bias": dict.fromkeys(placeholders, -100.0)}
        if training.use_vllm
        else {"suppress_tokens": list(placeholders)}
    )
    training.generation_kwargs = kept_out | (training.generation_kwargs or {})


def _trainer(recipe: Recipe) -> Callable[..., Any]:
    if recipe.card.method == "sft":
        from avar_eval.recipes.sft import AvarSFTTrainer

        return AvarSFTTrainer
    from avar_eval.recipes.grpo import AvarGRPOTrainer

    return AvarGRPOTrainer


def _shared_folder(training: Any) -> Path | None:
    """A temporary folder that the processes of a node have in common; None for one process."""
    if training.world_size == 1:
        return None
    from accelerate.utils import broadcast_object_list

    name = broadcast_object_list([token_hex(8)])[0]  # all nodes may have one folder for temporary files
    return temporary_folder(f"avar-train-rows-{gethostname()}-{name}")


def _rows(recipe: Recipe, data: DataArguments, training: Any, processor: Any, shared: Path | None) -> tuple[Any, Any]:
    """Rows of training and evaluation. shared: a folder where the first process of a node puts them for the others."""
    sources = {
        "train": (data.train_data, data.train_rows, data.train_split),
        "eval": (data.eval_data, data.eval_rows, data.eval_split),
    }
    method = recipe.card.method
    limit = training.max_length if method == "sft" else data.max_prompt_tokens
    loaded: list[Any] = []
    for name, (source, count, split) in sources.items():
        if source is None:
            loaded.append(None)
            continue
        folder = None if shared is None else shared / name
        rows = load(
            source,
            method,
            system_prompt=data.system_prompt,
            limit=count,
            split=split,
            thoughts=data.thoughts,
            seed=data.data_seed_of_shapes,
            folder=folder,
            allow_outside=data.allow_outside,
        )
        limits, room = image_limits(data), limit if method == "grpo" else None
        rows = fit_pictures(rows, processor, limits, room, training.dataset_num_proc, folder)
        known_good = limit is None and set(listed_names(source)) <= set(EMBEDDED)
        loaded.append(rows if known_good else drop_too_long(rows, processor, limit, training.dataset_num_proc, folder))
    if method == "sft":
        training.max_length = None  # what is left fits, and TRL would cut through an image
    return loaded[0], loaded[1]


def _last_checkpoint(training: Any) -> str | None:
    """The checkpoint to go on from: the one that was asked for, or the last complete one."""
    if isinstance(training.resume_from_checkpoint, str):
        given: str = training.resume_from_checkpoint
        return given
    complete = complete_checkpoints(Path(training.output_dir))
    return str(complete[max(complete)]) if complete else None


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors that users meet in training as one message."""
    try:
        yield
    except AvarError:
        raise
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        raise AvarError(
            f"recipe {name}: out of memory; lower per_device_train_batch_size and raise gradient_accumulation_steps, "
            "lower max_length or max_completion_length, or shard over more GPUs"
        ) from error

"""The model that a run asks, made once from how it is asked: after it, nobody looks a model's name up again."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avar_eval.errors import UsageError
from avar_eval.fields import declared
from avar_eval.models.answer_format import Replacement, instruction_for
from avar_eval.models.backend_options import OPTIONS, BackendName, BackendOptions
from avar_eval.models.checkpoint import Checkpoint, ModelSource, find_source, locate
from avar_eval.models.decoding import Decoding, decoding_for
from avar_eval.models.image_limits import ImageLimits
from avar_eval.models.registry import ModelEntry, choose_backend, find_by_weights, find_model
from avar_eval.run.asking import Asking
from avar_eval.tasks.prompts import Style

DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True)
class ResolvedModel:
    """A model and all that decides its answers; what was not chosen is as its registry entry has it.

    source: what its name stands for. A checkpoint of AVAR's trainers is asked as it was trained, in the thinking style
    and greedily, else as its base model; an adapter of another trainer as its base. options: the backend's.
    instruction: what the model's authors say in the place of their style's sentence. image_limits: of pictures' pixels.
    """

    asking: Asking
    source: ModelSource
    backend: BackendName
    options: BackendOptions
    decoding: Decoding
    system_prompt: str | None
    prompt_style: Style
    instruction: Replacement | None
    image_limits: ImageLimits
    batch_size: int

    @property
    def entry(self) -> ModelEntry | None:
        """The registered model that it is."""
        return self.source.entry

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.asking.name or self.source.name

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Its weights, downloaded if need be. Raises CheckpointError if they cannot be had or are not supported."""
        return locate(self.source)


def resolve(asking: Asking, source: ModelSource | None = None) -> ResolvedModel:
    """Find the model, or take this source of one, and settle how it is asked.

    Raises UsageError for all that can be known to be wrong before anything heavy is loaded.
    """
    source = source or _source(asking)
    backend = choose_backend(source.entry, asking.backend)
    _check_texts(asking)
    wishes = source.entry or (None if source.trained_here else source.base)
    known = source.entry or source.base
    limit = {} if known is None else {"max_new_tokens": known.max_new_tokens}
    if asking.steering is not None and backend != "transformers":
        from avar_eval.models.vllm_plugin import VllmSteering

        VllmSteering.of(asking.steering)  # no other server steers
    return ResolvedModel(
        asking=asking,
        source=source,
        backend=backend,
        options=_options(asking, source, backend),
        decoding=decoding_for(wishes, **limit | {k: v for k, v in asking.decoding.items() if v is not None}),
        system_prompt=asking.system_prompt
        if asking.system_prompt is not None
        else (known.system_prompt if known else None),
        prompt_style=asking.prompt_style or (wishes.answer_format if wishes else "thinking"),
        instruction=instruction_for(wishes, asking.prompt_style),
        image_limits=_image_limits(asking, wishes),
        batch_size=asking.batch_size or (known.batch_size if known else DEFAULT_BATCH_SIZE),
    )


def _source(asking: Asking) -> ModelSource:
    """What the model's name stands for; an endpoint may know any name."""
    if asking.backend == "api" and find_model(asking.model) is None:
        entry = None if Path(asking.model).is_dir() else find_by_weights(asking.model)
        return ModelSource(asking.model, entry)
    return find_source(asking.model)


def _image_limits(asking: Asking, entry: ModelEntry | None) -> ImageLimits:
    chosen = ImageLimits(min_pixels=asking.image_min_pixels, max_pixels=asking.image_max_pixels)
    if entry is None:
        return chosen
    return ImageLimits(
        min_pixels=entry.image_min_pixels if chosen.min_pixels is None else chosen.min_pixels,
        max_pixels=entry.image_max_pixels if chosen.max_pixels is None else chosen.max_pixels,
    )


def _options(asking: Asking, source: ModelSource, backend: BackendName) -> BackendOptions:
    """The options of the chosen backend. Raises UsageError for one that only another backend has, or none."""
    for name in asking.backend_options:
        if name in declared(OPTIONS[backend]):
            continue
        for other, kind in OPTIONS.items():
            if name in declared(kind):
                flag = f"--{'api-' if other == 'api' else ''}{name}".replace("_", "-")
                raise UsageError(
                    f"{flag} is an option of --backend {other}, and {asking.model} is run by {backend}"
                    + (", which chooses its kernels by itself" if other == "transformers" else "")
                )
        raise UsageError(f"--backend {backend} takes no option {name}")
    served = source.entry.api if source.entry and backend == "api" else None
    registered: Mapping[str, Any] = {"url": served.url, "key_env": served.key_env} if served else {}
    if backend == "api" and not (registered or asking.backend_options.get("url")):
        raise UsageError("--backend api needs --api-url, such as http://localhost:8000/v1")
    try:
        return OPTIONS[backend](**{**registered, **asking.backend_options})
    except ValidationError as error:
        problem = error.errors()[0]
        raise UsageError(f"option {problem['loc'][0]}: {problem['msg'].removeprefix('Value error, ')}") from error
    except ValueError as error:  # of several options together
        raise UsageError(str(error)) from error


def _check_texts(asking: Asking) -> None:
    if asking.system_prompt is not None and any("\ud800" <= letter <= "\udfff" for letter in asking.system_prompt):
        raise UsageError("--system-prompt is not valid UTF-8")

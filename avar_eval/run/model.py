"""The model that a run asks, made once from how it is asked: after it, nobody looks a model's name up again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from avar_eval.errors import UsageError
from avar_eval.fields import declared
from avar_eval.in_words import in_words
from avar_eval.models.answer_format import Replacement, instruction_for
from avar_eval.models.backend_options import OPTIONS, ApiOptions, BackendName, BackendOptions
from avar_eval.models.checkpoint import Checkpoint, ModelSource, find_source, locate
from avar_eval.models.decoding import Decoding, decoding_for
from avar_eval.models.image_limits import ImageLimits
from avar_eval.models.registry import ModelEntry, choose_backend
from avar_eval.protocols.protocol import PublishedProtocol
from avar_eval.run.asking import Asking, asking_fields
from avar_eval.run.named_protocol import NamedProtocol
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.tasks.prompts import Style

DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True)
class ResolvedModel:
    """A model and all that decides its answers; what was not chosen is as its registry entry has it.

    source: what its name stands for. A checkpoint of AVAR's trainers is asked as it was trained, in the thinking style
    and greedily, else as its base model; an adapter of another trainer as its base. options: the backend's.
    instruction: what the model's authors say in the place of their style's sentence. image_limits: of pictures' pixels.
    protocol: the named one that it is asked under, if any: it goes before the registry entry, and a choice before it.
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
    protocol: NamedProtocol | None = None

    @property
    def entry(self) -> ModelEntry | None:
        """The registered model that it is."""
        return self.source.entry

    @property
    def weights(self) -> ModelSource | None:
        """What is loaded to answer or to measure; None where only a server has the weights."""
        if not isinstance(self.options, ApiOptions):
            return self.source
        return None if self.options.weights is None else find_source(self.options.weights)

    @property
    def name(self) -> str:
        """What it is called in results."""
        return self.asking.name or self.source.name

    def prompt_settings(self, task: TaskEntry) -> Mapping[str, str]:
        """What a task's `doc_to_text` is told. Raises UsageError for one of which the named protocol says nothing."""
        return {"prompt_style": self.prompt_style} if self.protocol is None else self.protocol.prompt_settings(task)

    def task_decoding(self, task: TaskEntry) -> Decoding:
        """How responses to a task are drawn: a named protocol may have a token limit and ends for it."""
        if self.protocol is None:
            return self.decoding
        of = self.protocol.protocol.of_task(task)
        own = {} if of.max_new_tokens is None else {"max_new_tokens": of.max_new_tokens}
        return replace(self.decoding, stop=of.stop, **own | _without_none(self.asking.decoding))

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """Its weights, downloaded if need be. Raises CheckpointError if they cannot be had or are not supported."""
        return locate(self.source)


def resolve(asking: Asking, source: ModelSource | None = None, protocol: NamedProtocol | None = None) -> ResolvedModel:
    """Find the model, or take this source of one, and settle how it is asked.

    protocol: in the place of the one that the call names.

    Raises UsageError for all that can be known to be wrong before anything heavy is loaded.
    """
    source = source or find_source(asking.model, served=asking.backend == "api")
    backend = choose_backend(source.entry, asking.backend)
    _check_texts(asking)
    wishes = source.entry or (None if source.trained_here else source.base)
    known = source.entry or source.base
    limit = {} if known is None else {"max_new_tokens": known.max_new_tokens}
    named = protocol or NamedProtocol.of(asking)
    published = None if named is None else named.protocol
    if published is not None:
        limit |= (published.decoding or {}) | _without_none({"max_new_tokens": published.max_new_tokens})
    if asking.steering is not None and backend != "transformers":
        from avar_eval.models.vllm_plugin import VllmSteering

        VllmSteering.of(asking.steering)  # no other server steers
    return ResolvedModel(
        asking=asking,
        source=source,
        backend=backend,
        options=_options(asking, source, backend),
        decoding=decoding_for(wishes, **limit | _without_none(asking.decoding)),
        system_prompt=_system_prompt(asking, published, known),
        prompt_style=asking.prompt_style or _prompt_style(asking, wishes),
        instruction=None if published or asking.uniform_prompts else instruction_for(wishes, asking.prompt_style),
        image_limits=_image_limits(asking, published, wishes),
        batch_size=asking.batch_size or (known.batch_size if known else DEFAULT_BATCH_SIZE),
        protocol=named,
    )


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _system_prompt(asking: Asking, protocol: PublishedProtocol | None, entry: ModelEntry | None) -> str | None:
    if asking.system_prompt is not None or asking.uniform_prompts:
        return asking.system_prompt
    if protocol is not None and protocol.sets_system_prompt:
        return protocol.system_prompt
    return entry.system_prompt if entry else None


def _prompt_style(asking: Asking, entry: ModelEntry | None) -> Style:
    if asking.uniform_prompts:
        return "none"
    return entry.answer_format if entry else "thinking"


def _image_limits(asking: Asking, protocol: PublishedProtocol | None, entry: ModelEntry | None) -> ImageLimits:
    """The limits of the first that has any of its own: the call, the protocol, the entry."""
    published = protocol if protocol and protocol.limits_pictures(entry.architecture if entry else None) else None
    least = [of.image_min_pixels for of in (asking, published, entry) if of is not None]
    most = [of.image_max_pixels for of in (asking, published, entry) if of is not None]
    return ImageLimits(
        min_pixels=next((limit for limit in least if limit is not None), None),
        max_pixels=next((limit for limit in most if limit is not None), None),
    )


def _options(asking: Asking, source: ModelSource, backend: BackendName) -> BackendOptions:
    """The options of the chosen backend. Raises UsageError for one that only another backend has, or none."""
    for name in asking.backend_options:
        if name in declared(OPTIONS[backend]):
            continue
        for other, kind in OPTIONS.items():
            if name in declared(kind):
                field = declared(kind)[name]
                flag = next((one.flags[0] for one in asking_fields().values() if one.declared == field), name)
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
        raise UsageError(f"option {in_words(error)}") from error
    except ValueError as error:  # of several options together
        raise UsageError(str(error)) from error


def _check_texts(asking: Asking) -> None:
    if asking.system_prompt is not None and any("\ud800" <= letter <= "\udfff" for letter in asking.system_prompt):
        raise UsageError("--system-prompt is not valid UTF-8")

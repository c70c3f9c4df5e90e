"""Open a model with the backend that a run asks for, its options checked."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.fields import declared
from avar_eval.models.backend import StreamingBackend
from avar_eval.models.backend_options import ApiOptions, BackendName, BackendOptions, TransformersOptions, VllmOptions
from avar_eval.models.checkpoint import Checkpoint, ModelSource, find_source, locate, resolve_checkpoint
from avar_eval.models.registry import find_by_weights, find_model
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.models.vllm_plugin import VllmSteering

if TYPE_CHECKING:
    from avar_eval.models.api_backend import ServedModel

Options = TypeVar("Options", bound=BackendOptions)


def open_backend(
    name: BackendName,
    model: str,
    device: str | None,
    dtype: str | None,
    steering: Steering | None,
    options: Mapping[str, Any],
) -> tuple["Checkpoint | ServedModel", TransformersBackend | StreamingBackend, TransformersBackend | None]:
    """A model with its backend, and what can measure its attention, if anything can.

    options: the fields of `ApiOptions` or `VllmOptions`, or `attn_implementation` of transformers. Raises UsageError
    where one is unknown or out of range, and where the backend cannot steer as it is asked to.
    """
    if name != "transformers" and "attn_implementation" in options:
        raise UsageError(
            f"--attn-implementation is an option of --backend transformers, and {model} is run by {name}, which "
            "chooses its kernels by itself"
        )
    if name == "transformers" and (unknown := set(options) - {"attn_implementation"}):
        raise UsageError(f"--backend transformers takes no option {min(unknown)}")
    source = (
        ModelSource(model, find_by_weights(model)) if name == "api" and not find_model(model) else find_source(model)
    )
    entry = source.entry
    if name == "api":
        from avar_eval.models.api_backend import ApiBackend, served_model
        from avar_eval.models.served_observer import ServedObserver

        if steering is not None:
            VllmSteering.of(steering)  # no other server steers
        registered = {"url": entry.api.url, "key_env": entry.api.key_env} if entry and entry.api else {}
        served = served_model(model, entry)
        api_options = _validated(ApiOptions, registered | dict(options))
        if api_options.weights is None:
            return served, ApiBackend(served, api_options, steering), None
        at_hand = ServedObserver(resolve_checkpoint(api_options.weights), device, dtype, steering)
        return served, ApiBackend(served, api_options, steering, at_hand.markup.placeholders), at_hand
    checkpoint = locate(source)
    if name == "vllm":
        if checkpoint.base is not None:
            raise UsageError(f"--backend vllm runs no adapters: merge {model} into its base, or use transformers")
        from avar_eval.models.vllm_backend import VllmBackend

        vllm_options = _validated(VllmOptions, options)
        observer = TransformersBackend(checkpoint, device, dtype, steering)
        steered = None if steering is None else VllmSteering.of(steering)
        return checkpoint, VllmBackend(observer, vllm_options, steered), observer
    kernel = _validated(TransformersOptions, options).attn_implementation
    observer = TransformersBackend(checkpoint, device, dtype, steering, kernel)
    return checkpoint, observer, observer


def _validated(kind: type[Options], options: Mapping[str, Any]) -> Options:
    if unknown := set(options) - set(declared(kind)):
        raise UsageError(f"option {min(unknown)}: the backend has none of this name")
    if kind is ApiOptions and "url" not in options:
        raise UsageError("--backend api needs --api-url, such as http://localhost:8000/v1")
    try:
        return kind(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        field = "_".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise UsageError(f"{f'option {field}: ' if field else ''}{message}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error

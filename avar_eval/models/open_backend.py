"""Open a model with the backend that its options are for."""

from typing import TYPE_CHECKING

from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.models.backend import StreamingBackend
from avar_eval.models.backend_options import ApiOptions, BackendOptions, VllmOptions
from avar_eval.models.checkpoint import Checkpoint, ModelSource, locate, resolve_checkpoint
from avar_eval.models.image_limits import ImageLimits
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.models.vllm_plugin import VllmSteering

if TYPE_CHECKING:
    from avar_eval.models.api_backend import ServedModel


def open_backend(
    source: ModelSource,
    options: BackendOptions,
    *,
    device: str | None = None,
    dtype: str | None = None,
    steering: Steering | None = None,
    image_limits: ImageLimits | None = None,
) -> tuple["Checkpoint | ServedModel", TransformersBackend | StreamingBackend, TransformersBackend | None]:
    """A model with its backend, and what can measure its attention, if anything can.

    image_limits: of pictures' pixels (None: the processor's own). Raises UsageError where the backend cannot steer as
    it is asked to, cannot keep the limits or cannot run the model, and CheckpointError where its weights cannot be had.
    """
    if isinstance(options, ApiOptions):
        from avar_eval.models.api_backend import ApiBackend, served_model
        from avar_eval.models.served_observer import ServedObserver

        if steering is not None:
            VllmSteering.of(steering)  # no other server steers
        served = served_model(source.name, source.entry)
        if options.weights is None:
            return served, ApiBackend(served, options, steering, image_limits=image_limits), None
        at_hand = ServedObserver(
            resolve_checkpoint(options.weights), device, dtype, steering, image_limits=image_limits
        )
        return served, ApiBackend(served, options, steering, at_hand.markup.placeholders, image_limits), at_hand
    checkpoint = locate(source)
    if isinstance(options, VllmOptions):
        check_in_vllm(checkpoint)
        from avar_eval.models.vllm_backend import VllmBackend

        observer = TransformersBackend(checkpoint, device, dtype, steering, image_limits=image_limits)
        steered = None if steering is None else VllmSteering.of(steering)
        return checkpoint, VllmBackend(observer, options, steered), observer
    observer = TransformersBackend(checkpoint, device, dtype, steering, options.attn_implementation, image_limits)
    return checkpoint, observer, observer


def check_in_vllm(checkpoint: Checkpoint) -> None:
    """Raise UsageError for a checkpoint that is an adapter."""
    if checkpoint.base is not None:
        raise UsageError(f"--backend vllm runs no adapters: merge {checkpoint.name} into its base, or use transformers")

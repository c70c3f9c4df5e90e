"""What a request to vLLM must fulfil before it reaches an engine: there, an error would end all requests with its own.

`vllm_plugin.register` puts `admit` behind `InputProcessor.process_inputs`, through which every request goes, by HTTP or
not; what it raises, a server answers with status 400. A request to a stock engine passes unless it wants steering.
"""

from functools import cache, wraps
from typing import Any

from transformers import AutoProcessor
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.input_processor import InputProcessor

from avar_eval.attention.roles import ChatMarkup, ChatTemplateError
from avar_eval.attention.steer import check_steering
from avar_eval.attention.steering import Steering
from avar_eval.errors import AvarError, UsageError
from avar_eval.models.request_steering import MIDDLEWARE, REQUEST_KEY, check_words, in_flight, read_strengths, salted
from avar_eval.models.steering_rows import ROWS
from avar_eval.models.vllm_plugin import STEERED, VllmSteering


def install() -> None:
    """Check the requests of this process' engines from now on. Once is enough, and twice does no harm."""
    original = InputProcessor.process_inputs
    if getattr(original, "checked_by_avar", False):
        return

    @wraps(original)
    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        try:
            admit(self.vllm_config, request)
        except AvarError as error:
            raise VLLMValidationError(str(error)) from error
        return request

    process_inputs.checked_by_avar = True  # type: ignore[attr-defined]
    InputProcessor.process_inputs = process_inputs


def admit(config: Any, request: Any) -> None:
    """Put a request's strengths and salt where an engine of this `VllmConfig` finds them.

    Raises AvarError, which says why, for a request that it cannot answer exactly.
    """
    if request.sampling_params is None:
        return
    extra = request.sampling_params.extra_args or {}
    check_words(extra)
    steering = read_strengths(extra[REQUEST_KEY]) if REQUEST_KEY in extra else None
    if steering is not None:
        check_engine_takes(config, steering)
        if config.scheduler_config.max_num_seqs >= ROWS and steering not in in_flight:
            raise UsageError(
                f"{REQUEST_KEY}: this engine may run more than {ROWS - 1} requests at a time, and with them more "
                f"different strengths than it can hold. Start it with --max-num-seqs {ROWS - 1}, or with --middleware "
                f"{MIDDLEWARE} and ask by HTTP"
            )
        request.sampling_params.extra_args = extra | {REQUEST_KEY: VllmSteering.of(steering).model_dump()}
    if is_steered(config):
        request.cache_salt = salted(steering, request.cache_salt)
        if request.resumable:
            raise UsageError("a steered engine takes no prompt that grows: responses in it would be taken for prompts")
        try:
            _markup(config.model_config.model).prompt_roles(request.prompt_token_ids)
        except ChatTemplateError as error:
            raise ChatTemplateError(
                f"a steered engine takes only what the model's chat template has rendered: {error}. Ask "
                "/v1/chat/completions"
            ) from error


def is_steered(config: Any) -> bool:
    """Whether an engine of this `VllmConfig` runs one of the steered classes."""
    return not set(STEERED.values()).isdisjoint(config.model_config.architectures)


def check_engine_takes(config: Any, steering: Steering) -> None:
    """Raise UsageError if an engine of this `VllmConfig` cannot take these strengths with a request."""
    if not is_steered(config):
        raise UsageError(f"{REQUEST_KEY}: this engine is not steered{_how_to_start(config.model_config)}")
    if not config.use_v2_model_runner:
        raise UsageError(
            f"{REQUEST_KEY}: a request's own strengths need vLLM's V2 runner, and this engine has the V1 runner. It is "
            "taken for VLLM_USE_V2_MODEL_RUNNER=0, and where there is no Triton"
        )
    check_steering(config.model_config.hf_text_config, Steering(layers=steering.layers))


def _how_to_start(model: Any) -> str:
    name = STEERED.get(model.hf_config.model_type)
    if name is None:
        return f", and vLLM can steer {', '.join(STEERED)} only, not {model.hf_config.model_type}"
    override = f'{{"architectures": ["{name}"]}}'
    return f". Start it with --hf-overrides '{override}' --middleware {MIDDLEWARE}"


@cache
def _markup(model: str) -> ChatMarkup:
    return ChatMarkup(AutoProcessor.from_pretrained(model))

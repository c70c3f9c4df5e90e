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
from avar_eval.errors import AvarError, UsageError
from avar_eval.models.request_steering import MIDDLEWARE, REQUEST_KEY, check_words, in_flight, read_strengths, salted
from avar_eval.models.steered_engine import check_engine_takes, is_steered
from avar_eval.models.steering_rows import ROWS
from avar_eval.models.vllm_plugin import VllmSteering


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


@cache
def _markup(model: str) -> ChatMarkup:
    return ChatMarkup(AutoProcessor.from_pretrained(model))

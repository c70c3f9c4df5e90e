"""What a vLLM engine can be asked to steer by, told from its `VllmConfig`. It imports no vLLM."""

from typing import Any

from avar_eval.attention.steer import check_steering
from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.models.request_steering import MIDDLEWARE, REQUEST_KEY
from avar_eval.models.vllm_plugin import STEERED


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

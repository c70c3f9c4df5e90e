"""What vLLM loads in each of its processes through the entry-point group `vllm.general_plugins`. Light.

It makes the steered model classes known under names of their own, which only a steered engine asks for: whoever uses
vLLM in the same environment keeps the stock ones. It has requests checked, of which a stock engine refuses those alone
that ask for steering.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError

CONFIG_KEY: Final = "avar_steering"
"""Where a steered engine's `additional_config` holds its strengths."""

STEERED: Final = {
    "qwen2_vl": "AvarSteeredQwen2VL",
    "qwen2_5_vl": "AvarSteeredQwen2_5_VL",
    "qwen3_vl": "AvarSteeredQwen3VL",
}
"""`model_type` of a checkpoint -> the name of its steered class."""

_REFUSED: Final = (
    ("mode", ("logit", "prob"), "these two are what scaled keys and values do; others need every score or its sum"),
    ("rows", ("all",), "a key or value that is scaled in the cache acts on every query"),
    ("heads", (None,), "several query heads share a key head, and with it what is scaled"),
)
"""Of each field of `Steering`: what vLLM can do, and why nothing else."""


class VllmSteering(BaseModel):
    """Strengths: image tokens gain `image`, system tokens lose `system`. layers: decoder layers, None is all.

    For every query (rows `all`). Modes and rows that scaling keys or values cannot express are left to transformers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: float = 0.0
    system: float = 0.0
    mode: Literal["logit", "prob"] = "logit"
    layers: tuple[int, ...] | None = None

    @classmethod
    def of(cls, steering: Steering) -> "VllmSteering":
        """Raises UsageError, which says why, for what scaled keys or values in a cache cannot express."""
        for name, possible, reason in _REFUSED:
            if (value := getattr(steering, name)) not in possible:
                how = "no heads" if possible == (None,) else f"{name}={'|'.join(map(str, possible))}"
                raise UsageError(
                    f"vLLM cannot steer {name}={value} exactly: {reason}. Choose {how}, or --backend transformers"
                )
        return cls(image=steering.image, system=steering.system, mode=steering.mode, layers=steering.layers)


def register() -> None:
    """Register the steered classes, by their paths: vLLM imports one when an engine needs it; and check requests."""
    from vllm import ModelRegistry

    from avar_eval.models import vllm_admission

    for name in STEERED.values():
        if name not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(name, f"avar_eval.models.vllm_steering:{name}")
    vllm_admission.install()

"""Steer attention inside vLLM (Eq. 3), in prefill and decode, through chunks, batches and the prefix cache, for free.

A score is linear in its key, and an output in its values. So mode `logit` (image scores times 1 + image, system scores
times 1 - system) is the same as scaling the keys of those tokens, and mode `prob` (weights scaled, not renormalised)
the same as scaling their values, once, before they enter the KV cache. What is scaled in the cache acts on every query:
rows `all`.

Which tokens those are is known where a request's positions are computed: `get_mrope_input_positions` alone sees the
whole prompt. It puts each token's role into the high bits of its first position; there it follows the token through
whatever the scheduler does, and `forward` takes it out again, into a buffer that stays at its place for CUDA graphs.
Strengths are read from `additional_config["avar_steering"]`, which is part of the key of vLLM's compile cache.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoProcessor
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from vllm.model_executor.models.utils import extract_layer_index

from avar_eval.attention.roles import ChatMarkup, Role
from avar_eval.models.vllm_plugin import CONFIG_KEY, VllmSteering

_SHIFT = 20
"""Positions are below 2**20, the role stands above: it fits the 32-bit integers that vLLM stages positions in."""


class SteeredAttention(Attention):  # type: ignore[misc]
    """A decoder's attention layer whose keys and values are scaled by the roles of their tokens.

    roles: of the tokens of the current step. key_factors, value_factors: of each role in this layer.
    """

    avar_roles: Int[Tensor, " tokens"]
    avar_key_factors: Float[Tensor, " roles"]
    avar_value_factors: Float[Tensor, " roles"]

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """vLLM's forward with scaled keys and values; a factor of 1 changes no bit."""
        roles = self.avar_roles[: key.shape[0]]
        key = _scaled(key, self.avar_key_factors[roles])
        value = _scaled(value, self.avar_value_factors[roles])
        return super().forward(query, key, value, *args, **kwargs)  # type: ignore[no-any-return]


class AvarSteeredQwen2_5_VL(Qwen2_5_VLForConditionalGeneration):  # type: ignore[misc]  # noqa: N801
    """vLLM's Qwen2.5-VL, steered. The vision tower has attention of another class and stays as it is."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self._markup = ChatMarkup(AutoProcessor.from_pretrained(vllm_config.model_config.model))
        device = vllm_config.device_config.device
        sizes = vllm_config.compilation_config.cudagraph_capture_sizes or [0]
        tokens = max(vllm_config.scheduler_config.max_num_batched_tokens, *sizes) + 8
        layers = vllm_config.model_config.hf_text_config.num_hidden_layers
        self.register_buffer("avar_roles", torch.zeros(tokens, dtype=torch.int64, device=device), persistent=False)
        # One column more than is used: a slice is then laid out as vLLM's own positions are.
        positions = torch.zeros(3, tokens + 1, dtype=torch.int64, device=device)
        self.register_buffer("avar_positions", positions, persistent=False)
        for name in ("avar_key_factors", "avar_value_factors"):
            factors = torch.ones(layers, len(Role), dtype=torch.float32, device=device)
            self.register_buffer(name, factors, persistent=False)
        for module in self._decoder_attention():
            layer = extract_layer_index(module.layer_name)
            module.__class__ = SteeredAttention
            module.register_buffer("avar_roles", self.avar_roles, persistent=False)
            module.register_buffer("avar_key_factors", self.avar_key_factors[layer], persistent=False)
            module.register_buffer("avar_value_factors", self.avar_value_factors[layer], persistent=False)
        self.steer(VllmSteering.model_validate(vllm_config.additional_config[CONFIG_KEY]))

    def _decoder_attention(self) -> list[Any]:
        layers = [module for module in self.language_model.modules() if type(module) is Attention]
        if not layers:
            raise ValueError("vLLM's decoder has no attention layers of the class that can be steered")
        return layers

    def steer(self, steering: VllmSteering) -> None:
        """Set the strengths, in place. What is in the prefix cache keeps the old ones: reset it, and see it succeed."""
        self.avar_key_factors.fill_(1)
        self.avar_value_factors.fill_(1)
        factors = self.avar_key_factors if steering.mode == "logit" else self.avar_value_factors
        chosen: slice | list[int] = slice(None) if steering.layers is None else list(steering.layers)
        factors[chosen, int(Role.IMAGE)] = 1 + steering.image
        factors[chosen, int(Role.SYSTEM)] = 1 - steering.system

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Iterable[Any]) -> tuple[Tensor, int]:
        """A prompt's positions, each token's role in the high bits of the first row."""
        positions, delta = super().get_mrope_input_positions(input_tokens, mm_features)
        if int(positions.max()) >= 1 << _SHIFT:
            raise ValueError(f"a prompt of more than {1 << _SHIFT} positions cannot be steered")
        positions = positions.to(torch.int64).clone()
        positions[0] += torch.tensor(self._markup.prompt_roles(input_tokens), dtype=torch.int64) << _SHIFT
        return positions, delta

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Int[Tensor, "three tokens"],
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: object,
    ) -> Any:
        """vLLM's forward; roles and positions go to their buffers first. Generated tokens have no role: factor 1."""
        tokens = positions.shape[-1]
        self.avar_roles[:tokens].copy_(positions[0] >> _SHIFT)
        plain = self.avar_positions[:, :tokens]
        plain.copy_(positions)
        plain[0].bitwise_and_((1 << _SHIFT) - 1)
        return super().forward(input_ids, plain, intermediate_tensors, inputs_embeds, **kwargs)


def _scaled(states: Tensor, factors: Float[Tensor, " tokens"]) -> Tensor:
    """Keys or values [tokens, ...] times a factor a token, multiplied in float32."""
    return (states.float() * factors.view(-1, *[1] * (states.ndim - 1))).to(states.dtype)

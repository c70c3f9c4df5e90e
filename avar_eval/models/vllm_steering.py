"""Steer attention inside vLLM (Eq. 3), in prefill and decode, through chunks, batches and the prefix cache, for free.

A score is linear in its key, and an output in its values. So mode `logit` (image scores times 1 + image, system scores
times 1 - system) is the same as scaling the keys of those tokens, and mode `prob` (weights scaled, not renormalised)
the same as scaling their values, once, before they enter the KV cache. What is scaled in the cache acts on every query:
rows `all`.

Which tokens those are is known where a request's positions are computed: `get_mrope_input_positions` alone sees the
whole prompt. It puts each token's role into the high bits of its first position; there it follows the token through
whatever the scheduler does, and `forward` takes it out again. Roles become factors once a step, in buffers that stay at
their place for CUDA graphs; a layer is left with one multiplication of its keys and one of its values.
Strengths are read from `additional_config["avar_steering"]`, which is part of the key of vLLM's compile cache. Under
the V2 runner a request may bring its own: the table holds several rows of them, and the number of a request's row
travels above its roles (`vllm_requests` knows a request's row and how long its prompt is).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoProcessor
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from vllm.model_executor.models.qwen2_vl import Qwen2VLForConditionalGeneration
from vllm.model_executor.models.qwen3_vl import Qwen3VLForConditionalGeneration
from vllm.model_executor.models.utils import extract_layer_index

from avar_eval.attention.roles import ChatMarkup, Role
from avar_eval.models.steering_rows import ROWS, SteeringRows
from avar_eval.models.vllm_plugin import CONFIG_KEY, VllmSteering

_SHIFT = 20
"""Positions are below 2**20, the role stands in the three bits above and the row of strengths in the eight above these:
it fits the 32-bit integers that vLLM stages positions in."""
_ROLES = 8


def check_engine(config: Any) -> None:
    """Raise ValueError, and say why, if an engine of this `VllmConfig` cannot steer exactly."""
    multimodal = config.model_config.multimodal_config
    refusals = (
        (
            config.speculative_config is not None,
            "speculative decoding: a drafter would take the roles in the positions for positions",
        ),
        (
            config.parallel_config.use_ubatching,
            "dual-batch overlap: it runs two halves of a batch at once, and there is one buffer of factors",
        ),
        (
            config.parallel_config.prefill_context_parallel_size > 1,
            "prefill context parallelism: it cuts prompts into pieces without regard to their positions",
        ),
        (
            multimodal is None or multimodal.is_multimodal_pruning_enabled(),
            "pruned image or video tokens (EVS): their positions are computed anew, without roles",
        ),
        (
            config.model_config.enable_prompt_embeds,
            "prompts of embeddings: roles are told from token ids",
        ),
        (
            config.cache_config.cache_dtype not in ("auto", "bfloat16", "float16", "float32"),
            "a quantised KV cache: its scales were made for keys and values that are not steered",
        ),
        (
            not config.model_config.uses_mrope,
            "a model without M-RoPE: roles travel in the positions that M-RoPE computes for a whole prompt",
        ),
    )
    for refused, reason in refusals:
        if refused:
            raise ValueError(f"steering in vLLM cannot be exact with {reason}; use --backend transformers")


class SteeredAttention(Attention):  # type: ignore[misc]
    """A decoder's attention layer whose keys and values are scaled by the factors of the current step's tokens."""

    avar_key_factors: Float[Tensor, " tokens"]
    avar_value_factors: Float[Tensor, " tokens"]

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """vLLM's forward with scaled keys and values; a factor of 1 changes no bit."""
        tokens = key.shape[0]
        key = _scaled(key, self.avar_key_factors[:tokens])
        value = _scaled(value, self.avar_value_factors[:tokens])
        return super().forward(query, key, value, *args, **kwargs)  # type: ignore[no-any-return]


class _Steered(nn.Module):
    """What a steered class adds to one of vLLM's. The vision tower has attention of another class and stays as it is.

    avar_tables: factors of keys and of values by layer, row of strengths and role. avar_factors: the same by layer and
    token of the current step.
    """

    language_model: nn.Module
    avar_tables: Float[Tensor, "two layers rows*roles"]
    avar_factors: Float[Tensor, "two layers tokens"]
    avar_positions: Int[Tensor, "three tokens"]

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        check_engine(vllm_config)
        steering = VllmSteering.model_validate(vllm_config.additional_config.get(CONFIG_KEY, {}))
        # Before vLLM's own part, which takes copies: the compile cache must tell a steered class from the stock one.
        vllm_config.additional_config = {**vllm_config.additional_config, CONFIG_KEY: steering.model_dump()}
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self._markup = ChatMarkup(AutoProcessor.from_pretrained(vllm_config.model_config.model))
        device = vllm_config.device_config.device
        sizes = vllm_config.compilation_config.cudagraph_capture_sizes or [0]
        tokens = max(vllm_config.scheduler_config.max_num_batched_tokens, *sizes) + 8
        layers = vllm_config.model_config.hf_text_config.num_hidden_layers
        # One column more than is used: a slice is then laid out as vLLM's own positions are.
        positions = torch.zeros(3, tokens + 1, dtype=torch.int64, device=device)
        self.register_buffer("avar_positions", positions, persistent=False)
        for name, columns in (("avar_tables", ROWS * _ROLES), ("avar_factors", tokens)):
            factors = torch.ones(2, layers, columns, dtype=torch.float32, device=device)
            self.register_buffer(name, factors, persistent=False)
        for module in self._decoder_attention():
            layer = extract_layer_index(module.layer_name)
            module.__class__ = SteeredAttention
            module.register_buffer("avar_key_factors", self.avar_factors[0, layer], persistent=False)
            module.register_buffer("avar_value_factors", self.avar_factors[1, layer], persistent=False)
        self.steer(steering)
        self.avar_rows = SteeringRows(self._write_row)
        self._request: tuple[int, int] | None = None

    def _decoder_attention(self) -> list[Any]:
        layers = [module for module in self.language_model.modules() if type(module) is Attention]
        if not layers:
            raise ValueError("vLLM's decoder has no attention layers of the class that can be steered")
        return layers

    @staticmethod
    def get_model_state_cls() -> type[Any]:
        """What the V2 runner is to keep of this model's requests."""
        from avar_eval.models.vllm_requests import SteeredRequests

        return SteeredRequests

    def steer(self, steering: VllmSteering) -> None:
        """Set the engine's own strengths, in place. What is in the prefix cache keeps the old ones: reset it, and see
        it succeed.
        """
        self._write_row(0, steering)

    def _write_row(self, row: int, steering: VllmSteering) -> None:
        rows = self.avar_tables.view(2, -1, ROWS, _ROLES)[:, :, row]
        rows.fill_(1)
        factors = rows[0 if steering.mode == "logit" else 1]
        chosen: slice | list[int] = slice(None) if steering.layers is None else list(steering.layers)
        factors[chosen, int(Role.IMAGE)] = 1 + steering.image
        factors[chosen, int(Role.SYSTEM)] = 1 - steering.system

    @contextmanager
    def request(self, prompt_length: int, row: int) -> Iterator[None]:
        """While the positions of one request are computed: only its prompt has roles, of the strengths in that row."""
        self._request = prompt_length, row
        try:
            yield
        finally:
            self._request = None

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Iterable[Any]) -> tuple[Tensor, int]:
        """A request's positions, each prompt token's role in the high bits of the first row.

        The V2 runner computes them anew after a preemption, when what is generated so far stands behind the prompt.
        """
        positions, delta = super().get_mrope_input_positions(input_tokens, mm_features)  # type: ignore[misc]
        if int(positions.max()) >= 1 << _SHIFT:
            raise ValueError(f"a prompt of more than {1 << _SHIFT} positions cannot be steered")
        positions = positions.to(torch.int64).clone()
        if list(input_tokens) == list(range(len(input_tokens))):
            return positions, delta  # what vLLM makes up to warm its kernels up; `admit` lets no request be like it
        length, row = self._request or (len(input_tokens), 0)
        codes = torch.tensor(self._markup.prompt_roles(input_tokens[:length]), dtype=torch.int64) + _ROLES * row
        positions[0, :length] += codes << _SHIFT
        return positions, delta

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Int[Tensor, "three tokens"],
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: object,
    ) -> Any:
        """vLLM's forward; factors and positions go to their buffers first. Generated tokens have no role: factor 1."""
        tokens = positions.shape[-1]
        codes = (positions[0] >> _SHIFT).clamp_(min=0)  # a batch that stands for none may hold negative positions
        self.avar_factors[..., :tokens].copy_(self.avar_tables[..., codes])
        plain = self.avar_positions[:, :tokens]
        plain.copy_(positions)
        plain[0].sub_(codes << _SHIFT)
        return super().forward(input_ids, plain, intermediate_tensors, inputs_embeds, **kwargs)


class AvarSteeredQwen2VL(_Steered, Qwen2VLForConditionalGeneration):  # type: ignore[misc]
    """vLLM's Qwen2-VL, steered."""


class AvarSteeredQwen2_5_VL(_Steered, Qwen2_5_VLForConditionalGeneration):  # type: ignore[misc]  # noqa: N801
    """vLLM's Qwen2.5-VL, steered."""


class AvarSteeredQwen3VL(_Steered, Qwen3VLForConditionalGeneration):  # type: ignore[misc]
    """vLLM's Qwen3-VL, steered."""


def _scaled(states: Tensor, factors: Float[Tensor, " tokens"]) -> Tensor:
    """Keys or values [tokens, ...] times a factor a token, multiplied in float32."""
    return (states.float() * factors.view(-1, *[1] * (states.ndim - 1))).to(states.dtype)

"""What the doctor and the benchmarks run: a model of random weights, a sequence with roles, and its passes.

A sequence of N tokens: 20 system, N/4 image, text, 64 user tokens before the middle, and a response as the second half.
(N/16 system and N/8 user tokens where that is less.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from avar_eval.attention.objectives import attention_losses
from avar_eval.attention.observe import RECORDED, ROLES_OF, QuerySet, observe
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.doctor.shapes import Shape

SYSTEM, USER = 20, 64
VOCABULARY = 512
_IDS = 500
"""Token ids below 500 are text; those of images and turns stand above."""
_SPECIAL = {
    "image_token_id": 500,
    "video_token_id": 503,
    "vision_start_token_id": 501,
    "vision_end_token_id": 502,
}
AGTO_GROUPS = ("image", "system")
"""The key groups that both AGTO losses need (Eq. 5-6)."""


def make_model(
    shape: Shape, implementation: str = "sdpa", device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """A model of random weights, made on its device. Its vision tower and vocabulary are cut down."""
    text: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "max_position_embeddings": 1 << 17,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(shape.rope)},
        "bos_token_id": None,
        "eos_token_id": None,
    }
    vision = {"depth": 1, "hidden_size": 64, "num_heads": 2, "out_hidden_size": shape.hidden}
    torch.manual_seed(0)
    with torch.device(device):
        if shape.family == "qwen3_vl":
            text |= {"head_dim": shape.head_dim}
            text["rope_parameters"]["mrope_interleaved"] = True
            config = Qwen3VLConfig(
                text_config=text, vision_config=vision | {"deepstack_visual_indexes": [0]}, **_SPECIAL
            )
            kind = Qwen3VLForConditionalGeneration
        else:
            config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_SPECIAL)
            kind = Qwen2_5_VLForConditionalGeneration
        return kind._from_config(config, attn_implementation=implementation, dtype=dtype)


def make_roles(tokens: int, batch: int = 1) -> TokenRoles:
    """The roles of a batch of such sequences."""
    half, system, user = tokens // 2, min(SYSTEM, tokens // 16), min(USER, tokens // 8)
    codes = torch.full((batch, tokens), int(Role.TEMPLATE))
    codes[:, :system] = int(Role.SYSTEM)
    codes[:, system : system + tokens // 4] = int(Role.IMAGE)
    codes[:, half - user : half] = int(Role.USER)
    codes[:, half:] = int(Role.RESPONSE)
    return TokenRoles(codes)


def make_ids(tokens: int, batch: int = 1) -> Int[Tensor, "batch tokens"]:
    """Random text."""
    return torch.randint(0, _IDS, (batch, tokens), generator=torch.Generator().manual_seed(1))


@dataclass
class Workload:
    """The passes of one sequence through a model, plain (queries None) or with attention masses of these queries."""

    model: Any
    tokens: int
    roles: TokenRoles = field(init=False)
    inputs: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.roles = make_roles(self.tokens)
        ids = make_ids(self.tokens).to(self.model.device)
        self.inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}

    @torch.inference_mode()
    def forward(
        self, queries: QuerySet | None, groups: Sequence[str] = RECORDED
    ) -> tuple[Float[Tensor, "batch one vocabulary"], Float[Tensor, "layers batch heads queries groups"] | None]:
        """Logits of the last token, and masses."""
        if queries is None:
            return self.model(**self.inputs, logits_to_keep=1).logits, None
        with observe(self.model, self.roles, queries=queries, groups=groups) as observation:
            logits = self.model(**self.inputs, logits_to_keep=1).logits
            return logits, observation.masses()

    def training_step(self, queries: QuerySet | None) -> Float[Tensor, ""]:
        """Forward and backward, with both AGTO losses if there are queries; the loss. Gradients are dropped."""
        codes = self.roles.codes.to(self.model.device)
        labels = self.inputs["input_ids"].masked_fill(codes != Role.RESPONSE, -100)
        if queries is None:
            loss = self.model(**self.inputs, labels=labels).loss
            loss.backward()
        else:
            with observe(self.model, self.roles, queries=queries, groups=AGTO_GROUPS) as observation:
                loss = self.model(**self.inputs, labels=labels).loss
                image, system = observation.masses().unbind(-1)
                chosen = torch.isin(
                    codes[:, observation.positions], torch.tensor(ROLES_OF[queries], device=codes.device)
                )
                keys = [(codes == role).sum(1) for role in (Role.IMAGE, Role.SYSTEM)]
                loss = loss + 0.15 * sum(attention_losses(image, system, chosen, *keys))
                loss.backward()
        self.model.zero_grad(set_to_none=True)
        return loss.detach()  # type: ignore[no-any-return]

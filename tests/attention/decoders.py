"""Small random decoders and roles for tests of observing, and transformers' own eager float64 maps as the reference."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from avar_eval.attention.roles import Role, TokenRoles

LAYERS, HEADS = 3, 4


def lively(model: Any) -> Any:
    """Weights large enough that attention is far from uniform."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = noise * 1.5 / parameter[0].numel() ** 0.5
    return model


def qwen(implementation: str = "sdpa", **text: Any) -> Any:
    """A Qwen2.5-VL of three layers, four heads and two key heads."""
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 100,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            **text,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        image_token_id=97,
        video_token_id=98,
        vision_start_token_id=95,
        vision_end_token_id=96,
    )
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=implementation)
    return lively(model).eval()


def gemma(implementation: str = "sdpa") -> Any:
    """A Gemma 3 decoder with a sliding window of 7 in two of its three layers."""
    config = Gemma3TextConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        attn_logit_softcapping=None,
    )
    return lively(Gemma3ForCausalLM._from_config(config, attn_implementation=implementation)).eval()


def gpt_oss(implementation: str = "eager") -> Any:
    """A gpt-oss decoder: each head has learnt a sink, and two of the three layers have a sliding window of 7."""
    config = GptOssConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        experts_implementation="eager",  # the default has no float64
    )
    model = lively(GptOssForCausalLM._from_config(config, attn_implementation=implementation)).eval()
    generator = torch.Generator().manual_seed(1)
    for layer in model.model.layers:
        layer.self_attn.sinks.data = torch.randn(HEADS, generator=generator) * 2
        layer.mlp.router.bias.data.zero_()  # nothing has set it
    return model


def roles_of(*sequences: str) -> TokenRoles:
    """Roles spelled by letters: s system, v image, u user, r response, t template, - padding."""
    letters = {letter: int(role) for role, letter in zip(Role, "-svurt", strict=True)}
    return TokenRoles(torch.tensor([[letters[letter] for letter in sequence] for sequence in sequences]))


def batch(roles: TokenRoles, seed: int = 0) -> dict[str, Tensor]:
    """Model inputs: text tokens in the places of these roles (a decoder does not care which tokens are image)."""
    generator = torch.Generator().manual_seed(seed)
    present = roles.codes != Role.PADDING
    ids = torch.randint(3, 90, roles.codes.shape, generator=generator) * present
    return {"input_ids": ids, "attention_mask": present.long()}


def eager_maps(reference: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Whole maps [layers, batch, heads, queries, keys] and logits of an eager float64 model; differentiable.

    Sequences run one by one without their padding, and their maps are put back in its place: no mask is shared with
    what is tested.
    """
    maps, logits = [], []
    for ids, present in zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True):
        out = reference(input_ids=ids[present][None], output_attentions=True, use_cache=False)
        places = present.nonzero().flatten()
        whole = torch.stack(out.attentions)[:, 0]
        rows = whole.new_zeros(*whole.shape[:2], len(ids), whole.shape[3]).index_copy(2, places, whole)
        maps.append(whole.new_zeros(*whole.shape[:2], len(ids), len(ids)).index_copy(3, places, rows))
        logits.append(out.logits.new_zeros(len(ids), out.logits.shape[2]).index_copy(0, places, out.logits[0]))
    return torch.stack(maps, 1), torch.stack(logits)


def eager_copy(model: Any) -> Any:
    """The same weights in float64 under eager attention."""
    config = copy.deepcopy(model.config)
    reference = type(model)._from_config(config, attn_implementation="eager").double()
    reference.load_state_dict(model.state_dict())
    return reference.train(model.training)


def groups_of(maps: Tensor, membership: Tensor) -> Tensor:
    """Masses [layers, batch, heads, queries, groups] of whole maps."""
    return maps @ membership[:, None].to(maps.dtype)


def labels_of(inputs: dict[str, Tensor]) -> Tensor:
    """Every token but a sequence's first is to be predicted."""
    present = inputs["attention_mask"].bool()
    return inputs["input_ids"].masked_fill(~present | (present.cumsum(1) == 1), -100)


def flash_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """What transformers' flash_attention_2 computes, with its arguments: there is no such kernel for a CPU."""
    own = torch.arange(query.shape[2])[:, None] + key.shape[2] - query.shape[2]
    keys = torch.arange(key.shape[2])[None]
    visible = (keys <= own)[None]
    if kwargs.get("sliding_window") is not None:
        visible = visible & (keys > own - kwargs["sliding_window"])
    if attention_mask is not None:
        visible = visible & attention_mask.bool()[:, None]
    if (positions := kwargs.get("position_ids")) is not None and len(query) == 1 and query.shape[2] == key.shape[2]:
        numbers = (positions == 0).cumsum(-1)
        visible = visible & (numbers[:, :, None] == numbers[:, None])
    repeated = [states.repeat_interleave(query.shape[1] // key.shape[1], 1) for states in (key, value)]
    scores = query @ repeated[0].transpose(-1, -2) * kwargs["scaling"]
    attention = scores.masked_fill(~visible[:, None], torch.finfo(scores.dtype).min).softmax(-1)
    return (attention @ repeated[1]).transpose(1, 2).contiguous(), None

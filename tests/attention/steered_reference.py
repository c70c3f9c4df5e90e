"""The reference of steering: transformers' eager attention in float64, with the formulas written out on whole maps."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from avar_eval.attention.roles import Role
from avar_eval.attention.steering import Steering


def steered_rows(roles: list[int], prompt: int, rows: str) -> list[bool]:
    """Which positions are steered queries; the prompt is the first `prompt` positions."""
    images = [position for position, role in enumerate(roles) if role == Role.IMAGE]
    if rows == "after-image":
        return [not images or position > images[-1] for position in range(len(roles))]
    return [rows == "all" or position >= prompt - 1 for position in range(len(roles))]


def steered_scores(scores: Tensor, strengths: Tensor, chosen: Tensor, mode: str) -> Tensor:
    """Scores [.. queries keys] before the mask; mode `prob` leaves them."""
    changed = {
        "logit": scores * (1 + strengths),
        "log": scores + torch.tensor([math.log(1 + float(of)) for of in strengths]),
        "prob": scores,
        "abs": scores + strengths * abs(scores),
    }[mode]
    return torch.where(chosen, changed, scores)


@contextmanager
def steered_eager(reference: Any, steering: Steering, roles: list[int], prompt: int) -> Iterator[dict[int, Tensor]]:
    """Within this context an eager model runs one unpadded sequence steered; gives its maps by layer."""
    text = reference.config.get_text_config()
    modules = [m for m in reference.modules() if getattr(m, "config", None) is text and hasattr(m, "layer_idx")]
    cross = set(text.to_dict().get("cross_attention_layers") or ())
    file = sys.modules[type(modules[0]).__module__]
    files = {sys.modules[type(module).__module__] for module in modules}
    original = file.eager_attention_forward  # type: ignore[attr-defined]
    maps: dict[int, Tensor] = {}
    by_role = {Role.IMAGE: steering.image, Role.SYSTEM: -steering.system}
    own = torch.tensor([by_role.get(Role(role), 0.0) for role in roles], dtype=torch.float64)
    rows = torch.tensor(steered_rows(roles, prompt, steering.rows))[:, None]

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
        if module not in modules or (steering.layers is not None and module.layer_idx not in steering.layers):
            output, found = original(module, query, key, value, attention_mask, **kwargs)
            if module in modules:
                maps[module.layer_idx] = found
            return output, found
        strengths = torch.full((key.shape[2],), steering.image).double() if module.layer_idx in cross else own
        heads = torch.tensor([steering.heads is None or head in steering.heads for head in range(query.shape[1])])
        chosen = rows & heads[:, None, None]
        key, value = (of.repeat_interleave(query.shape[1] // of.shape[1], 1) for of in (key, value))
        scores = steered_scores(query @ key.transpose(2, 3) * kwargs["scaling"], strengths, chosen, steering.mode)
        attended = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
        if steering.mode == "prob":
            attended = torch.where(chosen, attended * (1 + strengths), attended)
        maps[module.layer_idx] = attended
        return (attended @ value).transpose(1, 2).contiguous(), attended

    for file in files:
        file.eager_attention_forward = attention  # type: ignore[attr-defined]
    try:
        yield maps
    finally:
        for file in files:
            file.eager_attention_forward = original  # type: ignore[attr-defined]

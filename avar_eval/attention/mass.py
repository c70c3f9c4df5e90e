"""Attention mass: how much of a query's softmax attention falls on each group of keys."""

import torch
from jaxtyping import Float
from torch import Tensor


def attention_mass(
    query: Float[Tensor, "batch heads rows dim"],
    key: Float[Tensor, "batch kv_heads keys dim"],
    groups: Float[Tensor, "batch keys groups"],
    mask: Tensor | None,
    scaling: float,
    rows_at_once: int = 128,
) -> Float[Tensor, "batch heads rows groups"]:
    """The post-softmax attention of each query row, summed over each key group, in float32.

    The rows are the last `rows` positions before and including `first_row + rows` that the caller cut out together with
    their `mask` [batch or 1, heads or 1, rows, keys] (bool: True is visible; float: added to the scores). Memory grows
    with rows_at_once x keys, never with the square of the sequence. Grouped-query attention: heads is a multiple of
    kv_heads.
    """
    heads, kv_heads = query.shape[1], key.shape[1]
    batch, _, length, dim = query.shape
    shared = query.reshape(batch, kv_heads, heads // kv_heads, length, dim)
    members = groups[:, None, None].float()
    parts = []
    for start in range(0, query.shape[2], rows_at_once):
        rows = slice(start, start + rows_at_once)
        scores = (shared[..., rows, :] @ key[:, :, None].transpose(-1, -2)).float() * scaling
        if mask is not None:
            scores = _masked(scores, mask[:, :, None, rows])
        parts.append(scores.softmax(-1) @ members)
    return torch.cat(parts, dim=-2).flatten(1, 2)


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores + mask

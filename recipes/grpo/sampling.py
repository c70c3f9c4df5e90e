"""How much of each response is learnt where an engine generates it: the weights of TRL's correction for vLLM.

vLLM's kernels give a token another probability than the trainer's do. TRL's `vllm_importance_sampling_correction`
multiplies a response's loss by exp(log p_trainer - log p_engine): of the whole response in its modes `sequence_mask`
(the default) and `sequence_truncate`, of each token in `token_mask` and `token_truncate`. A sum over a response grows
with its length. With differences of standard deviation 0.02 nats a token, which is what bfloat16 kernels are apart,
half of all responses of 10,000 tokens weigh less than 0.10 and of 30,000 tokens less than 0.002: nothing is learnt, and
short responses are preferred.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

QUANTILES: Final = (0.05, 0.5, 0.95)
"""Of the weights, that are logged as `sampling/response_weight/p05`, `p50` and `p95`."""

COLLAPSED: Final = 0.5
"""A median weight below this is warned about: half of all responses count for less than half of what Eq. 10 says."""


def response_weights(
    ratio: Float[Tensor, "batch tokens_or_1"], mask: Float[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """What TRL's correction multiplies each response's loss by: its own ratio, or the mean of its tokens' ratios.

    ratio: `importance_sampling_ratio` of a batch of TRL, [batch, 1] in modes of a sequence and [batch, tokens] in those
    of a token. mask: 1 for the response's tokens. nan for a response without any.
    """
    present = mask.to(ratio.dtype)
    return (ratio.expand_as(present) * present).sum(-1) / present.sum(-1)


def weight_quantiles(weights: Float[Tensor, " responses"]) -> dict[str, float]:
    """`QUANTILES` of the weights that are known, by the names that are logged; none where none is."""
    known = weights[~weights.isnan()].double()
    if not len(known):
        return {}
    values = torch.quantile(known, torch.tensor(QUANTILES, dtype=known.dtype, device=known.device)).tolist()
    return {f"p{100 * of:02.0f}": value for of, value in zip(QUANTILES, values, strict=True)}

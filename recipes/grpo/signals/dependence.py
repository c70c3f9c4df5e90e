"""VPPO (arXiv 2510.09285): learn from the tokens that depend on the image, and more from responses that do.

The visual dependency S_t of a token is the divergence between its distributions with the image and with a perturbed
one. Token-level gradient filtering keeps the top k % of a response's tokens (m_t = 1); trajectory-level advantage
shaping multiplies the advantage of response i by α_i, which grows with its mean dependency:

    α_i = β_min + (β_max - β_min) (S_i - min S) / (max S - min S),    Â_{i,t} = α_i m_{i,t} A_i

with β_min 0.9, k 40 %, and β_max such that α is 1 on average.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avar_eval.recipes.grpo.signals.perception import perception_divergence

_LARGEST_DIFFERENCE = 20.0
_LARGEST_DEPENDENCY = 10.0


def token_dependency(
    logps: Float[Tensor, "batch tokens"], masked_logps: Float[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """S_t: the divergence at a response's own token, estimated and bounded as the official code does it (0 to 10)."""
    difference = (masked_logps - logps).clamp(-_LARGEST_DIFFERENCE, _LARGEST_DIFFERENCE)
    return perception_divergence(torch.zeros_like(difference), difference).clamp(0.0, _LARGEST_DEPENDENCY)


def dependent_tokens(
    dependency: Float[Tensor, "batch tokens"], response: Bool[Tensor, "batch tokens"], share: float
) -> Bool[Tensor, "batch tokens"]:
    """m_t: the ⌈share |T|⌉ tokens of each response with the highest dependency, of equal ones the first."""
    counts = [math.ceil(share * int(tokens)) for tokens in response.sum(-1)]
    order = dependency.masked_fill(~response, -math.inf).argsort(dim=-1, descending=True, stable=True)
    ranks = order.argsort(dim=-1)
    return response & (ranks < torch.tensor(counts, device=ranks.device)[:, None])


def response_dependency(
    dependency: Float[Tensor, "batch tokens"], response: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """S_i: the mean over a response's tokens."""
    return (dependency * response).sum(-1) / response.sum(-1).clamp(min=1)


def advantage_factors(dependencies: Float[Tensor, " responses"], least: float) -> Float[Tensor, " responses"]:
    """α of each response of a batch, from all responses that are learnt from together (on all processes).

    least: β_min. Where all responses depend on the image alike every factor is 1. The mean is 1 by
    β_max = β_min + (1 - β_min) / mean of the normalised dependencies: the paper's normalisation over the batch, where
    the official code takes that mean within a micro-batch.
    """
    lowest, highest = dependencies.min(), dependencies.max()
    if float(highest - lowest) <= 1e-6:
        return torch.ones_like(dependencies)
    normalised = (dependencies - lowest) / (highest - lowest)
    factors: Tensor = least + (1 - least) / normalised.mean() * normalised
    return factors


def shaped_advantages(
    advantages: Float[Tensor, " batch"],
    factors: Float[Tensor, " batch"],
    tokens: Bool[Tensor, "batch tokens"],
    weight: float,
) -> Float[Tensor, "batch tokens"]:
    """Â of each token. weight: 1 is VPPO; 0 leaves the advantages; between them it mixes both factors with 1."""
    of_responses = 1 + weight * (factors - 1)
    of_tokens = 1 + weight * (tokens.to(advantages.dtype) - 1)
    return (advantages * of_responses)[:, None] * of_tokens

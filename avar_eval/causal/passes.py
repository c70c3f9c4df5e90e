"""Teacher-forced passes: the final hidden states at a continuation's tokens, and log-probabilities made from them.

Logits of a response of 30,000 tokens over a vocabulary of 150,000 would take 18 GB in float32, the hidden states that
they are made from a few hundred MB: those are kept, and logits are made of a few tokens at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avar_eval.attention.knockout import knock_out_images
from avar_eval.attention.measure import with_responses
from avar_eval.attention.roles import ChatMarkup, batch_roles
from avar_eval.attention.steer import steer
from avar_eval.attention.steering import UNSTEERED, Steering

LOGITS_AT_ONCE: Final = 1 << 23
"""Logits in memory at a time: 32 MB in float32, and a few times that while they are normalised."""


@torch.inference_mode()
def final_states(
    model: Any,
    markup: ChatMarkup,
    inputs: Mapping[str, Any],
    continuations: Sequence[Sequence[int]],
    steering: Steering = UNSTEERED,
    knockout: Sequence[int] | bool = False,
    since: Sequence[int] | None = None,
) -> list[Float[Tensor, "tokens hidden"]]:
    """What the output layer reads before each token of each continuation: one pass over left-padded prompts with them.

    knockout: decoder layers in which text cannot attend to image tokens; True is all of them, False none.
    since: of each continuation, the first token that is predicted so, and all after it (None: the whole prompt cannot,
    either). Raises SteerError for a steering in mode `abs` together with a knockout.
    """
    present = inputs["attention_mask"].bool()
    prompts = [ids[of].tolist() for ids, of in zip(inputs["input_ids"], present, strict=True)]
    width, longest = present.shape[1], max(map(len, continuations))
    roles = batch_roles(markup, prompts, continuations, width, width + longest)
    kept: list[Tensor] = []

    def keep(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        kept.append(given[0][:, :-1])
        return (given[0][:, -1:],)  # the logits of one token cost nothing

    layers = None if isinstance(knockout, bool) else knockout
    first = None if since is None else [width - 1 + token for token in since]
    hides = knockout is not False
    changed = knock_out_images(model, roles, layers, steering, first) if hides else steer(model, steering, roles)
    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        with changed:
            model(**with_responses(inputs, continuations), use_cache=False, logits_to_keep=longest + 1)
    finally:
        hook.remove()
    (states,) = kept
    return [of[: len(tokens)] for of, tokens in zip(states, continuations, strict=True)]


@torch.inference_mode()
def log_probabilities(
    model: Any, states: Float[Tensor, "tokens hidden"], tokens: Sequence[int]
) -> Float[Tensor, " tokens"]:
    """log p(token), nats, of each of these tokens; states: what the output layer reads before it."""
    head, found = model.get_output_embeddings(), []
    wanted = torch.tensor(tokens, dtype=torch.long, device=states.device)
    for part in _parts(head, len(states)):
        logits = _exact(head(states[part]))
        found.append(logits.gather(-1, wanted[part, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(found).cpu() if found else torch.zeros(0)


@torch.inference_mode()
def divergences(
    model: Any, states: Float[Tensor, "tokens hidden"], others: Float[Tensor, "tokens hidden"]
) -> Float[Tensor, " tokens"]:
    """KL(p ‖ q), nats, before each token: p of `states`, q of `others`, over the whole vocabulary."""
    head, found = model.get_output_embeddings(), []
    for part in _parts(head, len(states)):
        p, q = (_exact(head(of[part])).log_softmax(-1) for of in (states, others))
        found.append((p.exp() * (p - q)).sum(-1).clamp(min=0))  # rounding leaves equal distributions at -1e-8
    return torch.cat(found).cpu() if found else torch.zeros(0)


def _parts(head: Any, tokens: int) -> Iterator[slice]:
    """Slices of tokens whose logits are in memory together."""
    size = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
    return (slice(start, start + size) for start in range(0, tokens, size))


def _exact(logits: Float[Tensor, "tokens vocabulary"]) -> Float[Tensor, "tokens vocabulary"]:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@contextmanager
def kept_image_features(model: Any) -> Iterator[None]:
    """Within this context the vision tower runs once for each `pixel_values` tensor, whichever passes are given it.

    For models whose tower has an output of its own, `get_image_features`; Llama-3.2-Vision runs it in every pass.
    """
    inner = model.model
    original = getattr(inner, "get_image_features", None)
    if original is None:
        yield
        return
    kept: list[tuple[Int[Tensor, ...], Any]] = []

    def remembered(pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        for pixels, features in kept:
            if pixels is pixel_values:
                return features
        kept.append((pixel_values, original(pixel_values, *args, **kwargs)))
        return kept[-1][1]

    inner.get_image_features = remembered
    try:
        yield
    finally:
        del inner.get_image_features

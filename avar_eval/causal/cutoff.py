"""How long an image is needed: the final answer's log-probability when the image is out of sight from a token on.

The recorded response is read once for each place: up to there its tokens attend to the image, from there on they
attend to everything else (`avar_eval.attention.knockout`). What a response has said of the image stays in its words.
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from avar_eval.attention.steering import UNSTEERED
from avar_eval.causal.measures import Answered
from avar_eval.causal.passes import final_states, kept_image_features, log_probabilities
from avar_eval.models.transformers_backend import TransformersBackend

SHARES: Final = tuple(step / 10 for step in range(11))
"""Where the image goes out of sight, as shares of what a response says before its answer; at 1 only the answer is
written without it."""


def cutoff_changes(backend: TransformersBackend, rows: Sequence[Answered]) -> Float[Tensor, "rows shares"]:
    """The change of log p(answer), nats, at each of SHARES, of a batch of responses that each have an image and answer.

    Raises SteerError for a model steered in mode `abs`, and what encoding raises.
    """
    inputs = backend.encode([row.prompt for row in rows], [row.images for row in rows])
    model, steering = backend.model, backend.steering or UNSTEERED
    responses = [row.response for row in rows]

    def answers(since: list[int] | None) -> Float[Tensor, " rows"]:
        states = final_states(model, backend.markup, inputs, responses, steering, since is not None, since)
        found = [log_probabilities(model, *of) for of in zip(states, responses, strict=True)]
        spans = [(row.answer.first, row.answer.end) for row in rows if row.answer]
        return torch.stack([of[slice(*span)].double().sum() for of, span in zip(found, spans, strict=True)])

    firsts = [row.answer.first for row in rows if row.answer]
    with kept_image_features(model):
        plain = answers(None)
        return torch.stack([answers([round(share * first) for first in firsts]) - plain for share in SHARES], 1)

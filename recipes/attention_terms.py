"""What AVAR's trainers ask about a batch: whose attention counts, on which keys, and where a model looks on average."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avar_eval.attention.observe import ROLES_OF, Observation, QuerySet, observe
from avar_eval.attention.roles import ChatMarkup, Role, TokenRoles
from avar_eval.attention.score import pooled, visual_attention_score
from avar_eval.errors import AvarError, UsageError

CAPTURED = ("image", "system", "sink")
"""Key groups a trainer captures: those of the losses and the reward, and the attention sink within the system turn."""


class AttentionTrainingError(AvarError):
    """This model or these rows cannot be trained on where they look.

    What to do: Take what the message names as possible, or train with the attention terms' weights at 0.
    """


class AttentionKeys(NamedTuple):
    """Numbers of keys of each sequence; 0 also where no query can see them, so that there is no such loss."""

    image: Int[Tensor, " batch"]
    system: Int[Tensor, " batch"]


def attention_keys(roles: TokenRoles, queries: QuerySet) -> AttentionKeys:
    """Image and system tokens of each sequence that has queries after the first of them. On the CPU."""
    asks = torch.isin(roles.codes, torch.tensor(ROLES_OF[queries]))
    counts = []
    for role in (Role.IMAGE, Role.SYSTEM):
        keys = roles.mask(role)
        seen = (asks & (keys.cumsum(-1) > 0)).any(-1)
        counts.append(keys.sum(-1) * seen)
    return AttentionKeys(*counts)


class Masses(NamedTuple):
    """Captured masses of a batch, pooled over layers where the family needs it, and which of the queries are meant."""

    image: Float[Tensor, "layers batch heads queries"]
    system: Float[Tensor, "layers batch heads queries"]
    sink: Float[Tensor, "layers batch heads queries"]
    queries: Bool[Tensor, "batch queries"]


def captured(observation: Observation, roles: TokenRoles) -> Masses:
    """What was captured in the pass of a batch, on the model's device."""
    masses = observation.masses()
    if observation.pool_layers:
        masses = pooled(masses)
    asks = torch.isin(roles.codes[:, torch.tensor(observation.positions)], torch.tensor(ROLES_OF[observation.queries]))
    image, system, sink = masses.unbind(-1)
    return Masses(image, system, sink, asks.to(masses.device))


def query_weights(
    roles: TokenRoles, positions: Sequence[int], queries: Bool[Tensor, "batch queries"], power: float
) -> Float[Tensor, "batch queries"]:
    """What each query counts in Eq. 5-6: of a response's n tokens the one at place i counts (i / n)^power, a user's 1.

    positions: of the queries in the sequence. All answers of a conversation count as one response. Weights are relative
    to their sum: power 0 is the plain mean over Q.
    """
    answers = roles.mask(Role.RESPONSE)
    places = answers.cumsum(-1) / answers.sum(-1, keepdim=True).clamp(min=1)
    weights = torch.where(answers, places**power, 1.0)[:, torch.tensor(positions)]
    return weights.to(queries.device) * queries


def mean_over_queries(values: Float[Tensor, "layers batch heads queries"], queries: Tensor) -> Float[Tensor, " batch"]:
    """The mean of each sequence over layers, heads and its queries; nan for a sequence without any."""
    return values.mean((0, 2)).masked_fill(~queries, 0.0).sum(-1) / queries.sum(-1)


@torch.no_grad()
def attention_metrics(masses: Masses, keys: AttentionKeys) -> dict[str, Float[Tensor, " batch"]]:
    """VAS (Eq. 2) and shares of attention of each sequence; nan where one is not defined.

    `vas` needs image and system tokens. Shares are of the whole attention of the queries: `sink` (the first position)
    is a part of `system`, and `text` is all but image and system.
    """
    nan = torch.tensor(float("nan"), device=masses.image.device)
    image, system, sink = (mean_over_queries(mass, masses.queries) for mass in masses[:3])
    vas = mean_over_queries(visual_attention_score(masses.image, masses.system), masses.queries)
    return {
        "vas": torch.where((keys.image > 0) & (keys.system > 0), vas, nan),
        "attention/image": torch.where(keys.image > 0, image, nan),
        "attention/system": torch.where(keys.system > 0, system, nan),
        "attention/sink": sink,
        "attention/text": 1 - image - system,
    }


def prepared_markup(trainer: Any, layers: list[int] | None) -> ChatMarkup:
    """The chat markup of a trainer's processor, after making sure that its model's attention can be measured.

    Raises ChatTemplateError, ObserveError or AttentionTrainingError otherwise, before any training.
    """
    if not trainer._is_vlm:
        raise AttentionTrainingError(
            f"{type(trainer.processing_class).__name__} is no processor of a vision-language model: there is no image "
            "attention to train; set the attention weights to 0"
        )
    parallelism = trainer.accelerator.parallelism_config
    if parallelism is not None and (parallelism.tp_size > 1 or parallelism.cp_enabled or parallelism.sp_enabled):
        raise UsageError(
            "tensor, context and sequence parallelism spread one attention map over several devices, where it cannot "
            "be measured: use FSDP2 or DeepSpeed ZeRO"
        )
    markup = ChatMarkup(trainer.processing_class)
    with observe(trainer.model, layers=layers, groups=CAPTURED):
        pass
    return markup

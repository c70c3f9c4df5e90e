"""The Visual Attention Score (arXiv 2603.03825, Eq. 1-2) and the shares of attention, from captured masses."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.records import AttentionSummary, QueryAttention

GROUPS = ("sink", "system", "image", "user", "response", "template")
"""Key groups of a measurement: `system` contains `sink` (position 0), the other five partition a sequence."""

_SINK, _SYSTEM, _IMAGE = range(3)


def key_groups(roles: TokenRoles) -> Float[Tensor, "batch keys groups"]:
    """0/1 membership of each key position in GROUPS."""
    named = [roles.mask(Role[name.upper()]) for name in GROUPS[1:]]
    return torch.stack([roles.sink(), *named], dim=-1).float()


def query_rows(roles: TokenRoles) -> slice:
    """The smallest range of positions that holds every user and response token of the batch."""
    wanted = (roles.mask(Role.USER) | roles.mask(Role.RESPONSE)).any(0).nonzero().flatten()
    return slice(int(wanted[0]), int(wanted[-1]) + 1)


def visual_attention_score(
    masses: Float[Tensor, "layers heads queries groups"], include_sink: bool = True
) -> Float[Tensor, "layers heads queries"]:
    """Eq. 1 for every layer, head and query: mass on image keys over mass on system keys. Eq. 2 is its mean.

    include_sink: whether position 0 counts as a system key. Infinite or nan where no system key has mass.
    """
    system = masses[..., _SYSTEM] if include_sink else masses[..., _SYSTEM] - masses[..., _SINK]
    return masses[..., _IMAGE] / system


def summarise(
    masses: Float[Tensor, "layers batch heads rows groups"], roles: TokenRoles, rows: slice
) -> list[AttentionSummary]:
    """The attention summary of each sequence of a batch."""
    has_image = roles.mask(Role.IMAGE).any(-1)
    summaries = []
    for index in range(masses.shape[1]):
        codes = roles.codes[index]
        of = {
            name: _summarise_queries(
                masses[:, index],
                codes[rows] == role,
                bool(has_image[index]),
                system_keys=int((codes == Role.SYSTEM).sum()),
            )
            for name, role in (("user", Role.USER), ("response", Role.RESPONSE))
        }
        summaries.append(AttentionSummary(**of))
    return summaries


def _summarise_queries(
    masses: Float[Tensor, "layers heads rows groups"], queries: Bool[Tensor, " rows"], has_image: bool, system_keys: int
) -> QueryAttention | None:
    if not bool(queries.any()):
        return None
    chosen = masses[:, :, queries].double()
    by_layer = visual_attention_score(chosen).mean((1, 2))
    defined = has_image and system_keys > 0
    without_sink = has_image and system_keys > 1
    return QueryAttention(
        tokens=int(queries.sum()),
        vas=_rounded(by_layer.mean()) if defined else None,
        vas_without_sink=_rounded(visual_attention_score(chosen, include_sink=False).mean()) if without_sink else None,
        ratio_of_sums=_rounded(chosen[..., _IMAGE].sum() / chosen[..., _SYSTEM].sum()) if defined else None,
        vas_by_layer=[_rounded(value) for value in by_layer] if defined else None,
        share_by_layer={
            name: [_rounded(value) for value in chosen[..., group].mean((1, 2))] for group, name in enumerate(GROUPS)
        },
    )


def _rounded(value: Tensor) -> float:
    """Six significant digits: masses are float32 results, and records should stay small."""
    return float(f"{float(value):.6g}")

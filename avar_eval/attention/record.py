"""Where a model looked in one conversation: `AttentionRecord`, made of an observed batch, and its summary."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avar_eval.attention.observe import BEYOND_SINK, GROUPS, RECORDED, Observation, ObserveError
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.score import pooled, ratio_of_sums, top_share, visual_attention_score
from avar_eval.attention.summary import AttentionSummary, QueryAttention

Queries = Literal["user", "text", "response"]
"""user: the tokens of the user's turn, template tokens among them, as the paper has them. text: its words alone."""
QUERY_SETS: Final[tuple[Queries, ...]] = ("user", "response")
"""Of which a line of attention.jsonl tells."""


@dataclass(frozen=True)
class AttentionRecord:
    """One sequence's attention masses.

    mass: key group -> share (0..1) of each query's attention; the groups are those of `GROUPS`. beyond_sink: that on
    the system turn without position 0. roles: the `Role` of every position. queries: the positions of the measured
    queries. layers: the measured layers. pool_layers: whether scores are of masses pooled over layers
    (Llama-3.2-Vision, Gemma 3; see `avar_eval.attention.score`). text: which queries are the user's words; None if
    unknown.
    """

    mass: Mapping[str, Float[Tensor, "layers heads queries"]]
    beyond_sink: Float[Tensor, "layers heads queries"]
    roles: Int[Tensor, " sequence"]
    queries: Int[Tensor, " queries"]
    layers: tuple[int, ...]
    pool_layers: bool = False
    text: Bool[Tensor, " queries"] | None = None

    def chosen(self, queries: Queries) -> Bool[Tensor, " queries"]:
        """Which queries are of the user's turn, the user's words (none if that is unknown), or of the response."""
        if queries == "text":
            return torch.zeros(len(self.queries), dtype=torch.bool) if self.text is None else self.text
        return self.roles[self.queries] == Role[queries.upper()]

    def scores(
        self, queries: Queries = "user", include_sink: bool = True
    ) -> Float[Tensor, "layers heads chosen"] | None:
        """Eq. 1 for every layer, head and chosen query, in float64; one layer if masses are pooled over layers.

        include_sink: whether position 0 counts as a system key. None where the score is not defined: no image, no
        system key, or no such query.
        """
        masses = self._image_and_system(queries, include_sink)
        return None if masses is None else visual_attention_score(*masses)

    def visual_attention_score(self, queries: Queries = "user", include_sink: bool = True) -> float | None:
        """Eq. 2 over the chosen queries (the paper's are the user tokens); None where it is not defined."""
        scores = self.scores(queries, include_sink)
        return None if scores is None else float(scores.mean())

    def ratio_of_sums(self, queries: Queries = "user", include_sink: bool = True) -> float | None:
        """The chosen queries' image mass over their system mass, each summed over layers, heads and queries."""
        masses = self._image_and_system(queries, include_sink)
        return None if masses is None else float(ratio_of_sums(*masses))

    def summary(self) -> AttentionSummary:
        """The numbers of each set of queries."""
        return AttentionSummary(
            user=self._summarise("user"), response=self._summarise("response"), text=self._summarise("text")
        )

    @cached_property
    def _pairs(self) -> dict[tuple[Queries, bool], tuple[Tensor, Tensor] | None]:
        """What `_image_and_system` has found: every score asks for it."""
        return {}

    def _image_and_system(self, queries: Queries, include_sink: bool) -> tuple[Tensor, Tensor] | None:
        if (queries, include_sink) not in self._pairs:
            self._pairs[queries, include_sink] = self._pair(queries, include_sink)
        return self._pairs[queries, include_sink]

    def _pair(self, queries: Queries, include_sink: bool) -> tuple[Tensor, Tensor] | None:
        is_system = self.roles == Role.SYSTEM
        first = bool(is_system[0])  # position 0 is the user's where a template has no system turn
        keys = int(is_system.sum()) - (first and not include_sink)
        chosen = self.chosen(queries)
        if not (keys and bool((self.roles == Role.IMAGE).any()) and bool(chosen.any())):
            return None
        image, system = self.mass["image"], self.mass["system"] if include_sink else self.beyond_sink
        pair = (image[..., chosen].double(), system[..., chosen].double())
        return (pooled(pair[0]), pooled(pair[1])) if self.pool_layers else pair

    def _summarise(self, queries: Queries) -> QueryAttention | None:
        chosen = self.chosen(queries)
        if not bool(chosen.any()):
            return None
        scores = self.scores(queries)
        shares = torch.stack(list(self.mass.values()))[..., chosen].double().mean((2, 3))
        return QueryAttention(
            tokens=int(chosen.sum()),
            vas=_rounded(None if scores is None else float(scores.mean())),
            vas_without_sink=_rounded(self.visual_attention_score(queries, include_sink=False)),
            ratio_of_sums=_rounded(self.ratio_of_sums(queries)),
            top_share=_rounded(None if scores is None else top_share(scores)),
            vas_by_layer=None
            if scores is None or self.pool_layers
            else [float(f"{value:.6g}") for value in scores.mean((1, 2)).tolist()],
            share_by_layer={
                name: [float(f"{value:.6g}") for value in by_layer]
                for name, by_layer in zip(self.mass, shares.tolist(), strict=True)
            },
        )


def records_of(observation: Observation, roles: TokenRoles) -> list[AttentionRecord]:
    """One record for each sequence of an observed batch. roles: of all its positions, generated ones included.

    Raises ObserveError if other key groups than `RECORDED` were observed, or nothing was.
    """
    if observation.groups != RECORDED:
        raise ObserveError(f"records need groups={RECORDED}, and {observation.groups} were observed")
    masses = observation.masses().detach().cpu()
    positions = torch.tensor(observation.positions)
    codes = roles.codes.cpu()
    wanted = torch.tensor([Role.USER, Role.RESPONSE])
    records = []
    for index, row in enumerate(codes):
        present = row != Role.PADDING
        kept = torch.isin(row[positions], wanted)
        of_sequence = masses[:, index][:, :, kept]
        records.append(
            AttentionRecord(
                mass={name: of_sequence[..., group] for group, name in enumerate(GROUPS)},
                beyond_sink=of_sequence[..., RECORDED.index(BEYOND_SINK)],
                roles=row[present],
                queries=(present.cumsum(0) - 1)[positions[kept]],
                layers=observation.layers,
                pool_layers=observation.pool_layers,
                text=None if roles.text is None else roles.text[index].cpu()[positions[kept]],
            )
        )
    return records


def _rounded(value: float | None) -> float | None:
    """Six significant digits: masses are float32 results, and records should stay small."""
    return None if value is None else float(f"{value:.6g}")

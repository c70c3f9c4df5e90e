"""Which differences of the paper's printed table are told apart, given how many rows each benchmark has."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import sqrt
from typing import Any, Final

from avar_eval.leaderboard.paper import PaperRow, paper
from avar_eval.power.plan import DESIGN_EFFECTS, rows_of
from avar_eval.sample_size import ALPHA, DISCORDANT
from avar_eval.statistics import Z_95, holm
from avar_eval.tasks.groups import groups

STEPS: Final = ("Qwen2.5-VL-7B", "Qwen2.5-VL-7B + VARD", "AVAR-CS", "AVAR-Thinker")
"""The rows of the paper's ablation in their order: + VARD, + AGTO, + VARS."""


@dataclass(frozen=True)
class Difference:
    """model's score minus other's on a task, in fractions (0..1), with half of its 95 % interval.

    p: two-sided, of the normal test. up_to: the greatest share of discordant rows at which the interval leaves out 0;
    possible: the greatest that there can be with these two scores.
    """

    model: str
    other: str
    task: str
    difference: float
    half: float
    p: float
    up_to: float
    possible: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.difference) > self.half

    @property
    def surely_apart(self) -> bool:
        """Whether it does so on whatever share of rows the two disagree."""
        return self.up_to > self.possible


@dataclass(frozen=True)
class PublishedDifferences:
    """One model over all others, the steps of the ablation, and how many of all pairs of models are told apart.

    apart_by_holm: after Holm's correction for all pairs. surely_apart: on whatever share of rows two models disagree.
    """

    source: str
    discordant: float
    over_others: list[Difference]
    steps: list[Difference]
    pairs: int
    apart: int
    apart_by_holm: int
    surely_apart: int


def published_differences(model: str = "AVAR-Thinker", discordant: float = DISCORDANT) -> PublishedDifferences:
    """What the printed scores say if two models disagree on a share `discordant` (0..1) of the rows.

    Only scores are printed, so nobody knows that share: two unlike models rather disagree on more. A difference that
    is greater takes as many discordant rows as it needs.
    """
    rows = {row.name: row for row in (*paper().models, *paper().ablations)}
    models = list(paper().models)
    pairs = [
        difference
        for index, first in enumerate(models)
        for second in models[index + 1 :]
        for difference in _differences(first, second, discordant)
    ]
    return PublishedDifferences(
        paper().source,
        discordant,
        [one for other in models if other.name != model for one in _differences(rows[model], other, discordant)],
        [one for before, after in pairwise(STEPS) for one in _differences(rows[after], rows[before], discordant)],
        len(pairs),
        sum(one.told_apart for one in pairs),
        sum(p < ALPHA for p in holm([one.p for one in pairs])),
        sum(one.surely_apart for one in pairs),
    )


def _differences(model: PaperRow, other: PaperRow, discordant: float) -> list[Difference]:
    from scipy.special import ndtr

    found = []
    for task in groups()["avar7"].mean:
        if task.label not in model.scores or task.label not in other.scores:
            continue
        scores = model.scores[task.label], other.scores[task.label]
        difference = round(scores[0] - scores[1], 1) / 100  # printed with one digit
        n = rows_of(task.label) / DESIGN_EFFECTS.get(task.label, 1.0)
        error = sqrt((max(discordant, abs(difference)) - difference**2) / n)
        found.append(
            Difference(
                model.name,
                other.name,
                task.label,
                difference,
                half=Z_95 * error,
                p=2 * float(ndtr(-abs(difference) / error)),
                up_to=difference**2 * (1 + n / Z_95**2),
                possible=min(sum(scores), 200 - sum(scores)) / 100,
            )
        )
    return found


def published_to_json(found: PublishedDifferences) -> str:
    """The fields as JSON; `told_apart` of each difference as well."""

    def listed(differences: Sequence[Difference]) -> list[dict[str, Any]]:
        return [asdict(one) | {"told_apart": one.told_apart} for one in differences]

    data = asdict(found) | {"over_others": listed(found.over_others), "steps": listed(found.steps)}
    return json.dumps(data, indent=2, ensure_ascii=False)

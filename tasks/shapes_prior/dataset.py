"""The splits of `shapes_prior`: endless, deterministic, disjoint by scene, with and without the prior."""

import random
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product
from typing import Final

from avar_eval.tasks.shapes.dataset import Row, Split, scene_split
from avar_eval.tasks.shapes_prior.questions import KINDS, PriorKind

PRIOR: Final = 0.85
"""Share of rows of the train and validation splits whose wording suggests the right answer."""

EVALUATION_ROWS: Final = 400
"""Rows of the test split: 100 of each kind, each pair of wording and answer equally often."""


class PriorRow(Row):
    """A row of `shapes`, and the answer that its wording suggests."""

    suggested: str


def rows(
    split: Split, n: int = EVALUATION_ROWS, *, seed: int = 0, anchors: bool = True, prior: float | None = PRIOR
) -> Iterator[PriorRow]:
    """The first `n` rows of a split; the kinds take turns. Arguments as for `shapes`.

    Every solution begins with the guess that the wording suggests, and goes on with what is there. prior: of the train
    and validation splits, the share of rows whose wording suggests the right answer; None: all answers alike.
    """
    for index in range(n):
        yield row(split, index, seed=seed, anchors=anchors, prior=prior)


def row(split: Split, index: int, *, seed: int = 0, anchors: bool = True, prior: float | None = PRIOR) -> PriorRow:
    """Row number `index` of a split."""
    kind = KINDS[index % len(KINDS)]
    rng = random.Random(f"prior/{split}/{seed}/{index}")
    share = kind.chance if prior is None else prior
    wording, answer = _target(kind, rng, split, seed, index // len(KINDS), share)
    while scene_split((question := kind.build(rng, wording, answer)).scene) != split:
        pass
    return PriorRow(
        id=f"{split}-{seed}-{index}",
        image=question.scene.draw(),
        question=question.text,
        choices=[],
        answer=answer,
        answer_type="word",
        kind=kind.name,
        steps=kind.steps,
        scene=question.scene.canonical(),
        solution=question.solution(anchors),
        suggested=kind.suggests[wording],
    )


def prior_accuracy(questions: Iterable[PriorRow]) -> float:
    """The accuracy (0..1) of the answers that the wordings suggest."""
    hits = [row["suggested"] == row["answer"] for row in questions]
    return sum(hits) / len(hits)


def _target(kind: PriorKind, rng: random.Random, split: Split, seed: int, turn: int, prior: float) -> tuple[str, str]:
    """The wording and the answer of a kind's question number `turn`."""
    if split == "test":
        pairs = tuple(product(kind.suggests, kind.answers))
        block, place = divmod(turn, len(pairs))
        return _shuffled(pairs, f"{kind.name}/{seed}/{block}")[place]
    wording = rng.choice(tuple(kind.suggests))
    suggested = kind.suggests[wording]
    if rng.random() < prior:
        return wording, suggested
    return wording, rng.choice([answer for answer in kind.answers if answer != suggested])


@lru_cache(maxsize=2 * len(KINDS))
def _shuffled(pairs: tuple[tuple[str, str], ...], key: str) -> list[tuple[str, str]]:
    return random.Random(f"prior/{key}").sample(pairs, len(pairs))

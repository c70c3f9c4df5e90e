"""The splits of `language_priors`: endless, deterministic, disjoint by picture and by wording.

A picture's own hash decides which split it belongs to (80 % train, 10 % validation, 10 % test), and each split has
wordings of its own. A row depends on split,
seed, share of agreement and index alone.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, TypedDict

from PIL import Image

from avar_eval.tasks.language_priors.questions import KINDS, AnswerType, Case, Kind
from avar_eval.tasks.shapes.dataset import Split, digest_split

EVALUATION_ROWS: Final = 60 * len(KINDS)
"""Rows of the test split (and of the validation split): of each kind 30 that agree with the prior, 30 that do not."""


class Row(TypedDict):
    """One question with its picture. choices: empty.

    suggested: what the text alone suggests; agrees: whether the picture shows it.
    """

    id: str
    image: Image.Image
    question: str
    choices: list[str]
    answer: str
    answer_type: AnswerType
    kind: str
    suggested: str
    agrees: bool
    scene: str
    solution: str
    caption: str


def rows(
    split: Split, n: int = EVALUATION_ROWS, *, seed: int = 0, anchors: bool = True, agreeing: float | None = None
) -> Iterator[Row]:
    """The first `n` rows of a split; the kinds take turns.

    The published questions are seed 0 of "test"; other seeds give fresh ones. anchors: whether solutions have looking
    phrases. agreeing: the share of pictures that show what the question suggests, drawn for each row; None: exactly
    half, in turn.
    """
    for index in range(n):
        yield row(split, index, seed=seed, anchors=anchors, agreeing=agreeing)


def row(split: Split, index: int, *, seed: int = 0, anchors: bool = True, agreeing: float | None = None) -> Row:
    """Row number `index` of a split."""
    kind = KINDS[index % len(KINDS)]
    turn = index // len(KINDS)
    rng = random.Random(f"language_priors/{split}/{seed}/{index}")
    case = _case(kind, split, seed, turn)
    agrees = _agrees(kind, split, seed, turn) if agreeing is None else rng.random() < agreeing
    answer = case.suggested if agrees else rng.choice(case.others)
    wording = rng.choice(getattr(kind.wordings, split))
    while digest_split((scene := kind.build(rng, case, answer)).picture.digest()) != split:
        pass
    return Row(
        id=f"{split}-{seed}-{index}",
        image=Image.fromarray(scene.picture.draw()),
        question=wording.format(**case.fields),
        choices=[],
        answer=answer,
        answer_type=kind.answer_type,
        kind=kind.name,
        suggested=case.suggested,
        agrees=agrees,
        scene=scene.picture.canonical(),
        solution=scene.solution(anchors),
        caption=scene.picture.caption(),
    )


def _case(kind: Kind, split: Split, seed: int, turn: int) -> Case:
    """All cases of a kind in random order: every case has had its turn before one comes again."""
    block, place = divmod(turn, len(kind.cases))
    return kind.cases[_shuffled(len(kind.cases), f"{kind.name}/{split}/{seed}/{block}")[place]]


def _agrees(kind: Kind, split: Split, seed: int, turn: int) -> bool:
    """Of two turns one agrees: which one is drawn."""
    pair, place = divmod(turn, 2)
    return _shuffled(2, f"{kind.name}/agrees/{split}/{seed}/{pair}")[place] == 0


@lru_cache(maxsize=256)
def _shuffled(count: int, key: str) -> list[int]:
    return random.Random(f"language_priors/{key}").sample(range(count), count)

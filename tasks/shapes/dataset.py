"""The splits of `shapes`: endless, deterministic, disjoint by scene.

A scene's own hash decides which split it belongs to, so no scene can be in two of them. A row depends on split, seed
and index alone: not on the process, the machine, or how many rows are asked for.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal, TypedDict

from PIL import Image

from avar_eval.tasks.prompts import Style, ask
from avar_eval.tasks.shapes.questions import KINDS, LETTERS, AnswerType, Kind, Question
from avar_eval.tasks.shapes.scene import Scene

Split = Literal["train", "validation", "test"]

DIRECT: Final = "Answer with a letter, a number or one word, and nothing else."

EVALUATION_ROWS: Final = 500
"""Rows of the test split (and of the validation split), 50 of each kind."""


class Row(TypedDict):
    """One question with its image. `choices` is empty unless `answer_type` is "choice"; then `answer` is a letter."""

    id: str
    image: Image.Image
    question: str
    choices: list[str]
    answer: str
    answer_type: AnswerType
    kind: str
    steps: int
    scene: str
    solution: str


def scene_split(scene: Scene) -> Split:
    """The split that a scene belongs to: 80 % of all scenes train, 10 % validation, 10 % test."""
    return digest_split(scene.digest())


def digest_split(digest: str) -> Split:
    """The split of what has this hash (hexadecimal)."""
    tenth = int(digest, 16) % 10
    if tenth == 0:
        return "test"
    return "validation" if tenth == 1 else "train"


def rows(split: Split, n: int = EVALUATION_ROWS, *, seed: int = 0, anchors: bool = True) -> Iterator[Row]:
    """The first `n` rows of a split; the kinds take turns.

    The published questions are seed 0 of "test"; other seeds give fresh ones. `anchors` chooses between a solution
    with visual anchors ("Look at the image again: …") and the same one without.
    """
    for index in range(n):
        yield row(split, index, seed=seed, anchors=anchors)


def row(split: Split, index: int, *, seed: int = 0, anchors: bool = True) -> Row:
    """Row number `index` of a split."""
    kind = KINDS[index % len(KINDS)]
    return _row(f"{split}-{seed}-{index}", kind, _question(kind, split, seed, index), anchors)


def prompt(row: Row, style: Style = "thinking") -> str:
    """The text of the user turn: question, options, instruction."""
    options = [f"({letter}) {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=False)]
    return ask([row["question"], *options], style, DIRECT)


def _question(kind: Kind, split: Split, seed: int, index: int) -> Question:
    turn, place = divmod(index // len(KINDS), len(kind.targets))
    target = _shuffled_targets(kind, f"{split}/{seed}/{turn}")[place]
    rng = random.Random(f"{split}/{seed}/{index}")
    # The target stays while scenes of other splits are passed over: that keeps the answers balanced.
    while scene_split((question := kind.build(rng, target)).scene) != split:
        pass
    return question


@lru_cache(maxsize=2 * len(KINDS))
def _shuffled_targets(kind: Kind, key: str) -> list[str]:
    """All targets of a kind in random order: every target has had its turn before one comes again."""
    return random.Random(f"{kind.name}/{key}").sample(kind.targets, len(kind.targets))


def _row(identifier: str, kind: Kind, question: Question, anchors: bool) -> Row:
    return Row(
        id=identifier,
        image=question.scene.draw(),
        question=question.text,
        choices=list(question.choices),
        answer=question.answer,
        answer_type=kind.answer_type,
        kind=kind.name,
        steps=kind.steps,
        scene=question.scene.canonical(),
        solution=question.solution(anchors),
    )

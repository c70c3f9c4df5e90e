"""Lesson number so and so of the English world: a picture and a conversation about it."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from PIL import Image

from avar_eval.recipes.world import one_shape, pictures, scenes
from avar_eval.recipes.world.turns import Thoughts, Turn, at_once, reasoned
from avar_eval.tasks.language_priors import dataset as language_priors
from avar_eval.tasks.language_priors.picture import Picture
from avar_eval.tasks.shapes import dataset as shapes
from avar_eval.tasks.shapes.questions import LETTERS
from avar_eval.tasks.shapes.scene import Scene
from avar_eval.tasks.shapes_english.dataset import reworded
from avar_eval.tasks.shapes_prior import dataset as shapes_prior

AS_PUBLISHED: Final = 0.3
"""The share of the questions of `shapes` and `shapes_prior` that are asked in these tasks' own words."""

SHARES: Final[Mapping[str, float]] = {
    "shapes": 0.3,
    "shapes_prior": 0.1,
    "language_priors": 0.3,
    "one_shape": 0.1,
    "scene": 0.2,
}
"""Where lessons come from by default; `scene` is a crowded scene of `shapes` and a description of it."""

Shown = TypeVar("Shown", Scene, Picture)


@dataclass(frozen=True)
class Lesson:
    """A picture and a conversation about it.

    image: RGB, of 64, 112 or 224 pixels a side, for the model's own processor to resize. turns: the lesson's own
    question first, then a description and short questions, which make more of the picture. agrees: for a question of
    `language_priors` or `shapes_prior`, whether the picture shows what the text suggests.
    """

    id: str
    source: str
    kind: str
    image: Image.Image
    turns: tuple[Turn, ...]
    answer: str
    agrees: bool | None = None


def lesson(
    index: int,
    *,
    seed: int = 0,
    split: shapes.Split = "train",
    thoughts: Thoughts = "none",
    shares: Mapping[str, float] = SHARES,
    agreeing: float | None = None,
    more: int = 4,
) -> Lesson:
    """A lesson, the same for the same arguments in any process.

    split: train or validation; the tasks' scenes and wordings of the two are disjoint, and from those of every test.
    thoughts: with "none", questions are answered at once; else a question of the tasks is thought about first.
    agreeing: of the questions whose text suggests an answer, the share that the picture agrees with; None: half of
    `language_priors` and as many of `shapes_prior` as chance makes. more: turns after the first. Raises ValueError for
    another split, and for shares of what there is not.
    """
    if split not in ("train", "validation"):
        raise ValueError(f"lessons are of the train or validation split, not of {split!r}")
    if unknown := shares.keys() - _SOURCES.keys():
        raise ValueError(f"there is no source of lessons {min(unknown)!r}; there are {', '.join(_SOURCES)}")
    rng = random.Random(f"lesson/{split}/{seed}/{index}")
    source = rng.choices(tuple(shares), tuple(shares.values()))[0]
    return _SOURCES[source](_Asked(rng, split, seed, index, thoughts, agreeing, more))


@dataclass(frozen=True)
class _Asked:
    rng: random.Random
    split: shapes.Split
    seed: int
    index: int
    thoughts: Thoughts
    agreeing: float | None
    more: int

    def turn(self, row: shapes.Row | language_priors.Row, choices: Sequence[str] = ()) -> Turn:
        """A row of a task as a turn: thought about, or answered at once."""
        lines = [row["question"], *(f"({letter}) {of}" for letter, of in zip(LETTERS, choices, strict=False))]
        if self.thoughts != "none":
            return reasoned(lines, row["solution"], row["answer"])
        # half as the tasks ask by default, with a thought that is empty
        if self.rng.random() < 0.5:
            return reasoned(lines, "", row["answer"])
        return at_once(lines, row["answer"], self.rng)


def _shapes(asked: _Asked) -> Lesson:
    return _of_scene(asked, "shapes", shapes.row(asked.split, asked.index, seed=asked.seed))


def _shapes_prior(asked: _Asked) -> Lesson:
    row = shapes_prior.row(asked.split, asked.index, seed=asked.seed, prior=asked.agreeing)
    return _of_scene(asked, "shapes_prior", row, row["suggested"] == row["answer"])


def _of_scene(asked: _Asked, source: str, row: shapes.Row, agrees: bool | None = None) -> Lesson:
    published = asked.rng.random() < AS_PUBLISHED and asked.split == "train"
    english = reworded(row, asked.split, asked.thoughts == "anchored")
    first = english | {"question": row["question"]} if published else english
    scene = Scene.from_canonical(row["scene"])
    turns = (asked.turn(first, row["choices"]), *_more(asked, scene, scenes.described, scenes.asked_about))
    return Lesson(f"{source}-{row['id']}", source, row["kind"], row["image"], turns, row["answer"], agrees)


def _language_priors(asked: _Asked) -> Lesson:
    row = language_priors.row(
        asked.split, asked.index, seed=asked.seed, anchors=asked.thoughts == "anchored", agreeing=asked.agreeing
    )
    picture = Picture.from_canonical(row["scene"])
    turns = (asked.turn(row), *_more(asked, picture, pictures.described, pictures.asked_about))
    return Lesson(
        f"language_priors-{row['id']}",
        "language_priors",
        row["kind"],
        row["image"],
        turns,
        row["answer"],
        row["agrees"],
    )


def _one_shape(asked: _Asked) -> Lesson:
    picture = one_shape.one_shape(asked.rng)
    first, *others = [one_shape.asked_about(picture, asked.rng) for _ in range(max(asked.more, 1))]
    turns = (first, one_shape.described(picture, asked.rng), *others)[: asked.more + 1]
    return Lesson(
        f"one_shape-{asked.seed}-{asked.index}", "one_shape", "one_shape", picture.draw(), turns, first.answer
    )


def _scene(asked: _Asked) -> Lesson:
    scene = scenes.crowded(asked.rng, asked.split)
    turns = (scenes.described(scene, asked.rng), *(scenes.asked_about(scene, asked.rng) for _ in range(asked.more)))
    return Lesson(f"scene-{asked.seed}-{asked.index}", "scene", "scene", scene.draw(), turns, turns[0].answer)


def _more(
    asked: _Asked,
    shown: Shown,
    described: Callable[[Shown, random.Random], Turn],
    asked_about: Callable[[Shown, random.Random], Turn],
) -> tuple[Turn, ...]:
    """A description, then short questions."""
    if not asked.more:
        return ()
    return (described(shown, asked.rng), *(asked_about(shown, asked.rng) for _ in range(asked.more - 1)))


_SOURCES: Final[Mapping[str, Callable[[_Asked], Lesson]]] = {
    "shapes": _shapes,
    "shapes_prior": _shapes_prior,
    "language_priors": _language_priors,
    "one_shape": _one_shape,
    "scene": _scene,
}

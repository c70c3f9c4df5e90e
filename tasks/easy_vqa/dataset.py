"""The rows of easy-VQA out of the package `easy-vqa`, and what the wording of its questions alone is worth."""

import importlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypedDict, get_args

from PIL import Image

from avar_eval.extras import check_extras
from avar_eval.pictures import read_rgb

Split = Literal["train", "test"]
Kind = Literal["color", "shape", "presence", "absence"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

ANSWERS: Final[dict[Kind, tuple[str, ...]]] = {
    "color": ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow"),
    "shape": ("circle", "rectangle", "triangle"),
    "presence": ("yes", "no"),
    "absence": ("yes", "no"),
}
"""What is answered to each kind of question: 13 answers in all, as `easy_vqa.get_answers` lists them."""


class Row(TypedDict):
    """One question. id: picture and the question's number on it; image_id: the picture's number in its split."""

    id: str
    image: Image.Image
    question: str
    answer: str
    kind: Kind
    image_id: int


def load_split(split: Split) -> Iterator[dict[str, Any]]:
    """The rows of a split in the package's order. Raises DataError without the package."""
    for row in rows(split):
        yield dict(row)


def rows(split: Split) -> Iterator[Row]:
    """The rows of a split in the package's order; rows on one picture share it. Raises DataError."""
    easy_vqa = _package()
    paths: dict[int, str] = getattr(easy_vqa, f"get_{split}_image_paths")()
    pictures: dict[int, Image.Image] = {}
    asked: Counter[int] = Counter()
    for question, answer, image_id in _questions(easy_vqa, split):
        if image_id not in pictures:
            pictures[image_id] = read_rgb(Path(paths[image_id]))
        number = asked[image_id]
        asked[image_id] += 1
        yield Row(
            id=f"{image_id}-{number}",
            image=pictures[image_id],
            question=question,
            answer=answer,
            kind=question_kind(question),
            image_id=image_id,
        )


def question_kind(question: str) -> Kind:
    """Which of the four kinds a question is of, by its words."""
    words = question.rstrip("?").split()
    if words[0] == "what":
        return "color" if "color" in words else "shape"
    return "absence" if {"not", "no"} & set(words) else "presence"


def prior_accuracy() -> dict[Kind | Literal["all"], float]:
    """Share (0..1) of test questions whose answer is the most frequent one to their wording in the train split."""
    easy_vqa = _package()
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question, answer, _ in _questions(easy_vqa, "train"):
        seen[question][answer] += 1
    right: defaultdict[Kind | Literal["all"], list[bool]] = defaultdict(list)
    for question, answer, _ in _questions(easy_vqa, "test"):
        guessed = seen[question].most_common(1)[0][0] == answer
        right[question_kind(question)].append(guessed)
        right["all"].append(guessed)
    return {kind: sum(of) / len(of) for kind, of in right.items()}


def _questions(easy_vqa: ModuleType, split: Split) -> Iterator[tuple[str, str, int]]:
    """Question, answer and number of the picture."""
    yield from zip(*getattr(easy_vqa, f"get_{split}_questions")(), strict=True)


def _package() -> ModuleType:
    check_extras({"easy-vqa": "easy_vqa"})
    return importlib.import_module("easy_vqa")

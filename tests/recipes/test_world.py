"""The English world's lessons: determinism, forms, balance, nothing of any test."""

import pickle
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from avar_eval.recipes.data import load
from avar_eval.recipes.world import SHARES, lesson, one_shape
from avar_eval.tasks.language_priors import dataset as language_priors
from avar_eval.tasks.prompts import THINKING
from avar_eval.tasks.shapes import dataset as shapes
from avar_eval.tasks.shapes_english import dataset as shapes_english

with_easy_vqa = pytest.mark.skipif(
    find_spec("easy_vqa") is None, reason="the package easy-vqa is not installed: pip install 'avar-eval[easy-vqa]'"
)

LESSONS = [lesson(index) for index in range(600)]


def test_a_lesson_is_the_same_in_another_process_and_out_of_a_pickle() -> None:
    again = pickle.loads(pickle.dumps([lesson(index) for index in range(30)]))
    assert [of.turns for of in again] == [of.turns for of in LESSONS[:30]]
    assert [of.image.tobytes() for of in again] == [of.image.tobytes() for of in LESSONS[:30]]
    code = "from avar_eval.recipes.world import lesson; print([lesson(i).turns for i in range(30)])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == str([of.turns for of in LESSONS[:30]])


def test_the_generator_imports_nothing_heavy() -> None:
    code = "import sys, avar_eval.recipes.world; print({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "set()"


def test_lessons_come_from_all_sources_in_their_shares() -> None:
    found = Counter(of.source for of in LESSONS)
    assert set(found) == set(SHARES)
    for source, share in SHARES.items():
        assert found[source] / len(LESSONS) == pytest.approx(share, abs=0.08)
    assert len({of.id for of in LESSONS}) == len(LESSONS)
    assert len({of.image.tobytes() for of in LESSONS}) == len(LESSONS)


def test_every_lesson_has_its_question_a_description_and_more() -> None:
    for of in LESSONS:
        assert len(of.turns) == 5
        assert all(turn.question and turn.answer for turn in of.turns)
        assert of.answer in of.turns[0].answer
        assert of.image.mode == "RGB"
    assert all(len(lesson(index, more=0).turns) == 1 for index in range(40))


@pytest.mark.parametrize(("thoughts", "phrases"), [("anchored", True), ("plain", False)])
def test_thoughts_stand_in_tags_with_looking_phrases_or_without(thoughts: str, phrases: bool) -> None:
    tasks = {"shapes": 1.0, "shapes_prior": 1.0, "language_priors": 1.0}
    for index in range(60):
        first = lesson(index, thoughts=thoughts, shares=tasks).turns[0]  # type: ignore[arg-type]
        assert first.question.endswith(THINKING)
        thought, _, answer = first.answer.partition("</think>")
        assert thought.startswith("<think>")
        assert len(thought) > len("<think>x.")
        assert answer.startswith("<answer>")
        assert ("ook at the picture again: " in thought) == phrases


def test_as_many_pictures_agree_as_are_asked_for() -> None:
    tasks = {"shapes_prior": 1.0, "language_priors": 1.0}
    for agreeing in (0.0, 1.0):
        assert {lesson(index, shares=tasks, agreeing=agreeing).agrees for index in range(60)} == {agreeing == 1.0}


def test_yes_and_no_are_as_frequent_for_every_kind_of_short_question() -> None:
    answers = Counter(
        turn.answer
        for index in range(900)
        for turn in lesson(index, shares={"one_shape": 1.0}).turns
        if len(turn.answer) < 4
    )
    assert answers["yes"] / (answers["yes"] + answers["no"]) == pytest.approx(0.5, abs=0.05)


def test_no_scene_of_a_test_or_validation_split_is_in_a_lesson() -> None:
    seen = {of.image.tobytes() for of in LESSONS}
    others = [*shapes.rows("test"), *shapes.rows("validation", 200), *language_priors.rows("test", 200)]
    assert not seen & {row["image"].tobytes() for row in others}
    validation = {lesson(index, split="validation").image.tobytes() for index in range(200)}
    assert not seen & validation


def test_wordings_of_a_test_split_are_in_no_lesson() -> None:
    asked = {turn.question.splitlines()[0] for of in LESSONS for turn in of.turns}
    assert not asked & {row["question"] for row in (*language_priors.rows("test"), *shapes_english.rows("test"))}


@with_easy_vqa
def test_nothing_of_easy_vqa_is_in_a_lesson() -> None:
    from avar_eval.tasks.easy_vqa.dataset import rows

    test = list(rows("test"))
    lessons = [lesson(index, shares={"one_shape": 1.0}) for index in range(1_000)]
    questions = {row["question"].casefold().rstrip("?") for row in (*test, *rows("train"))}
    for of in lessons:
        for turn in of.turns:
            asked = turn.question.splitlines()[0].partition(" (")[0].casefold().rstrip("?")
            assert asked not in questions
    pictures = {row["image"].convert("RGB").resize((64, 64)).tobytes() for row in test}
    assert not pictures & {of.image.resize((64, 64)).tobytes() for of in lessons}


def test_the_answers_about_one_shape_are_what_its_pixels_show() -> None:
    for index in range(300):
        of = lesson(index, shares={"one_shape": 1.0})
        color, shape = _seen(of.image)
        description = of.turns[1].answer
        assert f" {color} {shape} " in description
        for turn in of.turns:
            asked = turn.question.splitlines()[0].partition(" (")[0].casefold()
            words = set(asked.rstrip("?.").replace(",", "").split())
            if turn.answer in ("yes", "no"):
                shown = not words & ({*one_shape.PAINTS, "circle", "rectangle", "triangle"} - {color, shape})
                absent = bool(words & {"no", "not", "without"})
                assert turn.answer == ("yes" if shown != absent else "no"), turn
            elif turn.answer != description:
                assert turn.answer in (color, shape)


def _seen(image: Image.Image) -> tuple[str, str]:
    """Color and shape by the pixels that are not the ground: the nearest paint, and how much of its box is filled."""
    pixels = np.asarray(image, dtype=np.int64)
    corners = [pixels[0, 0], pixels[0, -1], pixels[-1, 0], pixels[-1, -1]]
    ground = np.median(corners, axis=0)
    inside = abs(pixels - ground).max(axis=2) > 90
    paint = np.median(pixels[inside], axis=0)
    color = min(one_shape.PAINTS, key=lambda name: float(abs(paint - one_shape.PAINTS[name]).sum()))
    down, across = np.nonzero(inside)
    filled = inside.sum() / ((np.ptp(down) + 1) * (np.ptp(across) + 1))
    return color, "rectangle" if filled > 0.9 else "circle" if filled > 0.68 else "triangle"


def test_another_split_or_source_is_refused() -> None:
    with pytest.raises(ValueError, match="train or validation"):
        lesson(0, split="test")
    with pytest.raises(ValueError, match="no source of lessons 'poems'"):
        lesson(0, shares={"poems": 1.0})


@pytest.mark.parametrize(
    "source", ["shapes_english", "shapes_prior_english", "language_priors", "language_priors_agreeing"]
)
def test_a_recipe_takes_the_new_tasks_as_training_data(source: str) -> None:
    rows = load(source, "sft", system_prompt=None, limit=9, thoughts="plain")
    assert len(rows) == 9
    assert rows[0]["completion"][0]["content"][0]["text"].startswith("<think>")
    assert len(load(source, "grpo", system_prompt=None, limit=9)) == 9

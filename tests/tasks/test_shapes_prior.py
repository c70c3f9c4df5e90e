"""shapes_prior: answers derived once more from the scenes, and what the wording is worth in each split."""

import json
import re
from collections import Counter

import pytest

from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.shapes.dataset import rows as shapes_rows
from avar_eval.tasks.shapes_prior.dataset import PRIOR, PriorRow, prior_accuracy, rows
from avar_eval.tasks.shapes_prior.questions import KINDS
from avar_eval.tasks.shapes_prior.task import judge, load_blind_split, parts
from avar_eval.tasks.shares import share_values

TEST_ROWS = list(rows("test"))
TRAIN_ROWS = list(rows("train", 2_000))
STEPS = {"above": (-1, 0), "below": (1, 0), "left of": (0, -1), "right of": (0, 1)}


def derived_answer(row: PriorRow) -> str:
    """The right answer, read from question and scene alone."""
    scene = {(r, c): what for r, c, what in json.loads(row["scene"])}
    text = row["question"]
    if match := re.fullmatch(r"What color is the (\w+)\?", text):
        (found,) = [what.split()[0] for what in scene.values() if what.split()[1] == match[1]]
        return str(found)
    if match := re.fullmatch(r"What shape is the (\w+) object\?", text):
        (found,) = [what.split()[1] for what in scene.values() if what.split()[0] == match[1]]
        return str(found)
    if match := re.fullmatch(r"Is(?:n't there| there really) a (\w+ \w+)\?", text):
        return "yes" if match[1] in scene.values() else "no"
    match = re.fullmatch(r"Is(?:n't)? the (\w+ \w+) (?:really )?directly (.+) the (\w+ \w+)\?", text)
    assert match
    (first,) = [cell for cell, what in scene.items() if what == match[1]]
    (second,) = [cell for cell, what in scene.items() if what == match[3]]
    return "yes" if (first[0] - second[0], first[1] - second[1]) == STEPS[match[2]] else "no"


@pytest.mark.parametrize("questions", [TEST_ROWS, TRAIN_ROWS], ids=["test", "train"])
def test_every_answer_follows_from_the_scene(questions: list[PriorRow]) -> None:
    assert all(row["answer"] == derived_answer(row) for row in questions)


def scene_of(row: PriorRow) -> dict[tuple[int, int], list[str]]:
    """Cell -> the words of what it shows."""
    return {(r, c): what.split() for r, c, what in json.loads(row["scene"])}


def test_every_place_in_a_solution_holds_what_it_says() -> None:
    looked = Counter[str]()
    for row in TRAIN_ROWS:
        scene = scene_of(row)
        for sought, entries in re.findall(
            r"(\w+)(?: object)?: ((?:row \d column \d (?:\w+|-)(?:, )?)+)", row["solution"]
        ):
            for r, c, entry in re.findall(r"row (\d) column (\d) (\w+|-)", entries):
                assert (entry == sought) == (sought in scene.get((int(r), int(c)), []))
                looked["found" if entry == sought else entry] += 1
        for r, c, claim in re.findall(r"at row (\d) column (\d) (\w+ \w+)\.", row["solution"]):
            assert scene[int(r), int(c)] == claim.split()
            looked["read"] += 1
    assert set(looked) == {"found", "-", "read"}
    assert min(looked.values()) >= len(TRAIN_ROWS) / 2


def test_a_solution_ends_in_what_the_answer_follows_from() -> None:
    for row in TRAIN_ROWS:
        end = row["solution"].rpartition("image there: ")[2].rstrip(".")
        if row["kind"] in ("color", "shape"):
            assert row["answer"] in end.split()[-2:]
        else:
            assert end.endswith(f", so {row['answer']}")
            assert ("-" in end) == (row["answer"] == "no")


def test_the_wording_predicts_the_answer_in_training_and_is_worth_nothing_in_the_test_split() -> None:
    assert prior_accuracy(TRAIN_ROWS) == pytest.approx(PRIOR, abs=0.03)
    assert prior_accuracy(rows("validation", 2_000)) == pytest.approx(PRIOR, abs=0.03)
    assert prior_accuracy(TEST_ROWS) == 0.35
    for kind in KINDS:
        asked = [row for row in TEST_ROWS if row["kind"] == kind.name]
        assert prior_accuracy(asked) == kind.chance
        pairs = Counter((row["suggested"], row["answer"]) for row in asked)
        assert set(pairs.values()) == {len(asked) // len(kind.answers) ** 2}


def test_what_is_suggested_stands_in_the_wording() -> None:
    usual = {"circle": "red", "square": "blue", "triangle": "green", "diamond": "purple", "cross": "yellow"}
    words = usual | {color: shape for shape, color in usual.items()} | {"Isn't": "yes", "really": "no"}
    for row in TEST_ROWS:
        kind = ("Isn't", "really") if row["kind"] in ("presence", "relation") else tuple(usual) + tuple(usual.values())
        (cue,) = [word for word in re.findall(r"[\w']+", row["question"]) if word in kind]
        assert row["suggested"] == words[cue]


def test_splits_are_disjoint_by_scene_also_from_those_of_shapes() -> None:
    test = {row["scene"] for row in TEST_ROWS} | {row["scene"] for row in shapes_rows("test")}
    train = {row["scene"] for row in TRAIN_ROWS} | {row["scene"] for row in shapes_rows("train")}
    assert not test & train


def test_a_solution_without_anchors_says_the_same() -> None:
    for anchored, plain in zip(TRAIN_ROWS[:200], rows("train", 200, anchors=False), strict=True):
        assert anchored["solution"].startswith(f"So {anchored['suggested']}? Look at the image again: ")
        assert len(plain["solution"]) < len(anchored["solution"])
        assert {**anchored, "solution": "", "image": None} == {**plain, "solution": "", "image": None}


def test_rows_do_not_depend_on_how_many_are_asked_for() -> None:
    assert [row["scene"] for row in rows("train", 30)] == [row["scene"] for row in TRAIN_ROWS[:30]]


def test_accuracy_is_split_by_whether_the_wording_is_right() -> None:
    follows = [row["suggested"] == row["answer"] for row in TEST_ROWS]
    assert share_values(parts(TEST_ROWS), follows) == {"wording_right": 1.0, "wording_wrong": 0.0}
    assert share_values(parts(TEST_ROWS[:0]), []) == {"wording_right": None, "wording_wrong": None}


def test_words_and_yes_or_no_are_judged() -> None:
    for row in TEST_ROWS[:8]:
        assert judge(row, f"<think>So.</think><answer>{row['answer'].title()}.</answer>", "stop").correct
    yes = next(row for row in TEST_ROWS if row["answer"] == "yes")
    assert not judge(yes, "<think>So.</think><answer>no</answer>", "stop").correct


def test_the_blind_split_asks_the_same_of_white_images() -> None:
    assert catalog()["shapes_prior_blind"].embedded == "task.load_blind_split"
    blind = next(load_blind_split("test"))
    assert blind["image"].getextrema() == ((255, 255),) * 3
    assert blind["question"] == TEST_ROWS[0]["question"]

"""shapes_english and shapes_prior_english: the same rows in other words, solutions true to the scene."""

import hashlib
import json
import re
from collections import Counter

import pytest

from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.shapes import dataset as shapes
from avar_eval.tasks.shapes.dataset import Row, Split
from avar_eval.tasks.shapes_english.dataset import prior_rows, rows
from avar_eval.tasks.shapes_english.task import judge, load_prior_split, load_split, parts
from avar_eval.tasks.shapes_english.wordings import ASKED, read
from avar_eval.tasks.shapes_prior import dataset as shapes_prior

TEST_ROWS = [*rows("test"), *prior_rows("test")]
# The published questions: whoever changes what is asked has to say so here and in the changelog.
TEST_DIGEST = "617fd68a03703e7fcfdc363caa546c3fd7b6c4e7986be18a5ae098402243fe1f"
TRAIN_ROWS = [*rows("train", 500), *prior_rows("train", 400)]


def test_only_words_differ_from_the_rows_of_shapes() -> None:
    originals = [*shapes.rows("test"), *shapes_prior.rows("test")]
    for row, original in zip(TEST_ROWS, originals, strict=True):
        assert {**row, "question": "", "solution": ""} == {**original, "question": "", "solution": ""}
        assert row["question"] != original["question"]


def test_the_published_questions_are_pinned() -> None:
    asked = "\n".join(row["question"] + row["solution"] for row in TEST_ROWS)
    assert hashlib.sha256(asked.encode()).hexdigest() == TEST_DIGEST


def test_every_form_is_asked_in_every_wording_and_its_fields_are_all_filled() -> None:
    seen = Counter[str]()
    for row, original in zip(TEST_ROWS, [*shapes.rows("test"), *shapes_prior.rows("test")], strict=True):
        form, fields = read(original["question"])
        (wording,) = [of for of in ASKED[form].test if of.format(**fields) == row["question"]]
        seen[wording] += 1
    assert set(seen) == {wording for asked in ASKED.values() for wording in asked.test}


def test_wordings_of_splits_are_disjoint_and_none_is_that_of_the_original() -> None:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for asked in ASKED.values():
        every = [wording.casefold() for split in splits for wording in asked.wordings(split)]
        assert len(set(every)) == len(every)
        fields = dict.fromkeys(("thing", "other", "things", "first", "second", "named"), "x y")
        filled = {"attribute": "color", "direction": "above", "side": "above", "row": "1", "column": "2"}
        ordinals = {"row_ordinal": "first", "column_ordinal": "second"}
        assert not any(asked.pattern.fullmatch(wording.format(**fields, **filled, **ordinals)) for wording in every)


@pytest.mark.parametrize("questions", [TEST_ROWS, TRAIN_ROWS], ids=["test", "train"])
def test_every_statement_of_a_solution_is_true(questions: list[Row]) -> None:
    checked = Counter[str]()
    for row in questions:
        grid = {(r, c): what for r, c, what in json.loads(row["scene"])}
        solution = row["solution"].lower()
        cell = r"row (\d), column (\d)"
        for r, c, what in re.findall(rf"in {cell},? there is (?:a|the) ([\w ]+?)[.;]", solution):
            assert what.replace(" at ", " ").removesuffix(" degrees") == grid[int(r), int(c)]
            checked["there is"] += 1
        for what, r, c in re.findall(rf"the (\w+ \w+) is in {cell}", solution):
            assert grid[int(r), int(c)] == what
            checked["is in"] += 1
        for what, r, c in re.findall(rf"(?:an?|i see|and) (\d|\w+ \w+) in {cell}", solution):
            assert grid[int(r), int(c)] in (what, f"number {what}")
            checked["seen"] += 1
        for feature, places, total in re.findall(r"(\w+) objects are at ([^.]+), so (\d)", solution):
            found = [(int(r), int(c)) for r, c in re.findall(cell, places)]
            assert found == sorted(at for at, what in grid.items() if what.startswith(f"{feature} "))
            assert len(found) == int(total)
            checked["tally"] += 1
        for letter, option in re.findall(r"option (\w), (\w+)", solution):
            assert row["choices"]["abcd".index(letter)] == option
            assert letter.upper() == row["answer"]
            checked["option"] += 1
    assert set(checked) == {"there is", "is in", "seen", "tally", "option"}


def test_a_solution_without_looking_phrases_says_the_same() -> None:
    plain = [*rows("train", 500, anchors=False), *prior_rows("train", 400, anchors=False)]
    for anchored, without in zip(TRAIN_ROWS, plain, strict=True):
        said = re.sub(
            r"(let me look at the picture again|checking the image there): ", "", anchored["solution"], flags=re.I
        )
        assert said.lower() == without["solution"].lower() != anchored["solution"].lower()


def test_a_solution_ends_in_its_answer_and_is_judged_right() -> None:
    for row in TEST_ROWS:
        assert row["answer"] in re.split(r"[\s.,]+", row["solution"].removesuffix("."))
        assert judge(row, f"<think>{row['solution']}</think><answer>{row['answer']}</answer>", "stop").correct


def test_only_the_prior_task_is_split_by_its_wording() -> None:
    english, prior = list(load_split("test")), list(load_prior_split("test"))
    assert (len(english), len(prior)) == (500, 400)
    assert [catalog()[name].rows for name in ("shapes_english", "shapes_prior_english")] == [500, 400]
    assert parts(english) == {}
    assert set(parts(prior)) == {"wording_right", "wording_wrong"}


def test_without_a_prior_all_answers_are_alike() -> None:
    suggested = Counter(row["suggested"] == row["answer"] for row in shapes_prior.rows("train", 1_200, prior=None))
    assert suggested[True] / 1_200 == pytest.approx(0.35, abs=0.05)


def test_a_question_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="no question of shapes"):
        read("What color is the sky today?")

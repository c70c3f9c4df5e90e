"""shapes: every answer is derived once more from the scene's canonical JSON, by code that shares nothing with it."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_digest import row_digest

from avar_eval.tasks.prompts import THINKING
from avar_eval.tasks.shapes.dataset import EVALUATION_ROWS, Row, Split, prompt, rows, scene_split
from avar_eval.tasks.shapes.questions import KINDS, Kind
from avar_eval.tasks.shapes.scene import (
    ANGLES,
    CELLS,
    COLORS,
    IMAGE_PIXELS,
    SHAPES,
    Cell,
    Content,
    Dial,
    Number,
    Object,
    Scene,
    blank_image,
)

TEST_ROWS = list(rows("test"))
TRAIN_ROWS = list(rows("train", 4_000))

# The published questions: whoever changes what is asked or drawn has to say so here and in the changelog.
TEST_DIGEST = "5c8b83b0b9e17580ae5901e15bb58215120494af9731b966e153718927b5f780"

STEPS = {"above": (-1, 0), "below": (1, 0), "left of": (0, -1), "right of": (0, 1)}
HAND = {0: (-1, 0), 90: (0, 1), 180: (1, 0), 270: (0, -1)}

Grid = dict[tuple[int, int], list[str]]


def grid_of(row: Row) -> Grid:
    entries: list[tuple[int, int, str]] = json.loads(row["scene"])
    return {(r, c): text.split() for r, c, text in entries}


def objects_with(grid: Grid, plural: str) -> list[tuple[int, int]]:
    """Where the "red objects" or the "crosses" are."""
    first = plural.split()[0]
    word = first if plural.endswith(" objects") else {"crosses": "cross"}.get(plural, plural.removesuffix("s"))
    return [cell for cell, words in grid.items() if word in words]


def beside(grid: Grid, cell: tuple[int, int], step: tuple[int, int]) -> list[str]:
    return grid[cell[0] + step[0], cell[1] + step[1]]


def only(matches: list[tuple[int, int]]) -> tuple[int, int]:
    (match,) = matches
    return match


def where(grid: Grid, thing: str) -> tuple[int, int]:
    return only([cell for cell, words in grid.items() if words == thing.split()])


def odd_word(grid: Grid, attribute: str) -> str:
    words = Counter(content[0 if attribute == "color" else 1] for content in grid.values())
    assert len(words) == 2
    (_, many), (odd, once) = words.most_common()
    assert once == 1 < many
    return odd


def verdict(grid: Grid, first: str, second: str) -> str:
    counts = Counter(word for words in grid.values() for word in words)
    if counts[first] == counts[second]:
        return "neither"
    return first if counts[first] > counts[second] else second


def derived_answer(row: Row) -> str:
    """The right answer, read from question and scene alone; for a choice, the option's text."""
    grid, text = grid_of(row), row["question"]
    if match := re.fullmatch(r"How many (.+) are there\?", text):
        return str(len(objects_with(grid, match[1])))
    if match := re.fullmatch(r"What (color|shape) is the object at row (\d) column (\d)\?", text):
        return grid[int(match[2]), int(match[3])][match[1] == "shape"]
    if match := re.fullmatch(r"What (color|shape) is the object directly (.+) the (\w+ \w+)\?", text):
        return beside(grid, where(grid, match[3]), STEPS[match[2]])[match[1] == "shape"]
    if match := re.fullmatch(r"Which number is directly (.+) the (\w+ \w+)\?", text):
        name, value = beside(grid, where(grid, match[2]), STEPS[match[1]])
        assert name == "number"
        return value
    if match := re.fullmatch(r"Which (?:color|shape) do more objects have, (\w+) or (\w+)\?", text):
        return verdict(grid, match[1], match[2])
    if match := re.fullmatch(r"Which number is written at row (\d) column (\d)\?", text):
        return grid[int(match[1]), int(match[2])][1]
    if match := re.fullmatch(r"All objects but one have the same (\w+)\. What \w+ is the odd one out\?", text):
        return odd_word(grid, match[1])
    if text == "What is the sum of the two numbers in the image?":
        first, second = [int(words[1]) for words in grid.values() if words[0] == "number"]
        return str(first + second)
    dial = only([cell for cell, words in grid.items() if words[0] == "dial"])
    if text == "How many degrees clockwise from straight up does the hand of the dial point?":
        return grid[dial][1]
    match = re.fullmatch(r"What (color|shape) is the object that the hand of the dial points to\?", text)
    assert match
    return beside(grid, dial, HAND[int(grid[dial][1])])[match[1] == "shape"]


def template(row: Row) -> str:
    """The question with its places and features left out: what a constant answer could hang on."""
    features = "|".join([*COLORS, *SHAPES])
    return re.sub(rf"\d|\b({features})(s|es)?\b", "_", row["question"])


def answer_text(row: Row) -> str:
    """The answer's text; of a comparison, whether the first, the second or neither is more."""
    text = row["choices"]["ABCD".index(row["answer"])] if row["choices"] else row["answer"]
    if row["kind"] != "comparison" or text == "neither":
        return text
    return "first" if f"have, {text} or" in row["question"] else "second"


def best_constant(questions: list[Row], answer_of: dict[str, str]) -> float:
    answers = Counter(answer_of[row["id"]] for row in questions)
    return answers.most_common(1)[0][1] / len(questions)


@pytest.mark.parametrize("question", [TEST_ROWS, TRAIN_ROWS], ids=["test", "train"])
def test_every_answer_follows_from_the_scene(question: list[Row]) -> None:
    for row in question:
        derived = derived_answer(row)
        if row["answer_type"] == "choice":
            assert row["choices"].count(derived) == 1
            assert "ABCD"[row["choices"].index(derived)] == row["answer"]
        else:
            assert row["answer"] == derived
            assert row["choices"] == []


def test_every_statement_of_a_solution_is_true() -> None:
    for row in TRAIN_ROWS:
        grid = grid_of(row)
        for r, c, claim in re.findall(r"(?:at|number) row (\d) column (\d) (\w+ \w+)", row["solution"], re.I):
            assert " ".join(grid[int(r), int(c)]) == claim
        for what, r, c in re.findall(r"the (dial|\w+ \w+) row (\d) column (\d)", row["solution"], re.I):
            assert what.lower().split() == grid[int(r), int(c)][: len(what.split())]
        for plural, scan, total in re.findall(r"counting ([\w ]+): ([\w ,-]+), that makes (\d)", row["solution"], re.I):
            hits = sorted(objects_with(grid, plural))
            seen = scanned(scan)
            assert [cell for cell, entry in seen.items() if entry != "-"] == hits
            assert [seen[cell].split()[1] for cell in hits] == [str(n) for n in range(1, len(hits) + 1)]
            assert int(total) == len(hits)
        for common in re.findall(r"most are (\w+)", row["solution"], re.I):
            assert sum(common in words for words in grid.values()) == len(grid) - 1
        for odd in re.findall(r"one is (\w+)", row["solution"]):
            assert sum(odd in words for words in grid.values()) == 1
        for letter, choice in re.findall(r"\w+ is \((\w)\) (\w+)", row["solution"]):
            assert row["choices"]["ABCD".index(letter)] == choice


def scanned(scan: str) -> dict[tuple[int, int], str]:
    """The entries of a scan, which has to name every cell once and in reading order."""
    entries = {(int(r), int(c)): entry for r, c, entry in re.findall(r"row (\d) column (\d) ([\w -]+?)(?:,|$)", scan)}
    assert list(entries) == [(r, c) for r in range(1, 5) for c in range(1, 5)]
    return entries


def test_every_kind_of_solution_makes_checked_statements() -> None:
    patterns = ("at row", "the number row", "counting", "most are")
    for row in TEST_ROWS:
        assert any(pattern in row["solution"].lower() for pattern in patterns)


def test_solutions_with_and_without_anchors_differ_only_in_the_anchors() -> None:
    plain_rows = rows("train", 500, anchors=False)
    for anchored, plain in zip(TRAIN_ROWS[:500], plain_rows, strict=True):
        without = re.sub(r"look at the image again: |check the image there: ", "", anchored["solution"], flags=re.I)
        assert without != anchored["solution"]
        assert without.lower() == plain["solution"].lower()
        assert {**anchored, "solution": ""} == {**plain, "solution": ""}


def test_splits_are_disjoint_by_scene() -> None:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    scenes = {split: {row["scene"] for row in rows(split, 1_000)} for split in splits}
    for split, found in scenes.items():
        for other in splits:
            assert split == other or not found & scenes[other]
    assert len(scenes["test"]) == 1_000


@given(st.dictionaries(st.sampled_from(CELLS), st.builds(Number, st.integers(0, 99)), min_size=2))
def test_a_scene_has_one_split_however_it_was_built(contents: dict[Cell, Content]) -> None:
    backwards = dict(reversed(contents.items()))
    assert scene_split(Scene.of(contents)) == scene_split(Scene.of(backwards))
    assert Scene.of(contents).canonical() == Scene.of(backwards).canonical()


def test_a_scene_is_read_back_from_its_canonical_text() -> None:
    for row in TRAIN_ROWS[:100]:
        scene = Scene.from_canonical(row["scene"])
        assert scene.canonical() == row["scene"]
        assert scene.draw().tobytes() == row["image"].tobytes()


def test_the_published_questions_are_pinned() -> None:
    assert len(TEST_ROWS) == EVALUATION_ROWS == 500
    assert row_digest(TEST_ROWS) == TEST_DIGEST


def test_another_process_with_other_hash_seed_gives_the_same_rows() -> None:
    code = (
        "import hashlib; from avar_eval.tasks.shapes.dataset import rows\n"
        "t = hashlib.sha256()\n"
        "for r in rows('train', 50): t.update((r['scene'] + r['question'] + r['answer']).encode())\n"
        "print(t.hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, check=True
    )
    expected = hashlib.sha256()
    for row in TRAIN_ROWS[:50]:
        expected.update((row["scene"] + row["question"] + row["answer"]).encode())
    assert run.stdout.decode().strip() == expected.hexdigest()


def test_all_kinds_take_turns_and_cover_every_answer_type() -> None:
    assert Counter(row["kind"] for row in TEST_ROWS) == {kind.name: 50 for kind in KINDS}
    assert {row["answer_type"] for row in TEST_ROWS} == {"choice", "number", "word"}
    assert {row["steps"] for row in TEST_ROWS} == {1, 2}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_constant_answer_beats_chance(kind: Kind) -> None:
    """Neither the letter nor the text of the answer can be guessed, not even when the question's template is known."""
    questions = [row for row in TRAIN_ROWS if row["kind"] == kind.name]
    letters = {row["id"]: row["answer"] for row in questions}
    texts = {row["id"]: answer_text(row) for row in questions}
    for name in {template(row) for row in questions}:
        asked = [row for row in questions if template(row) == name]
        # Four standard deviations of a binomial share.
        tolerance = 4 * (kind.chance * (1 - kind.chance) / len(asked)) ** 0.5
        assert best_constant(asked, letters) <= kind.chance + tolerance
        assert best_constant(asked, texts) <= kind.chance + tolerance
    assert best_constant(questions, letters) >= kind.chance / 2


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.answer_type == "choice"], ids=lambda kind: kind.name)
def test_letters_are_uniform(kind: Kind) -> None:
    letters = Counter(row["answer"] for row in TRAIN_ROWS if row["kind"] == kind.name)
    options = {len(row["choices"]) for row in TRAIN_ROWS if row["kind"] == kind.name}
    assert sorted(letters) == list("ABCD"[: options.pop()])
    assert max(letters.values()) - min(letters.values()) <= 3


def test_prompt_of_a_choice_question() -> None:
    row = next(row for row in TEST_ROWS if row["kind"] == "relation")
    assert prompt(row) == (
        "What shape is the object directly left of the blue circle?\n"
        "(A) cross\n(B) square\n(C) triangle\n(D) circle\n" + THINKING
    )


def test_prompt_without_choices() -> None:
    assert prompt(TEST_ROWS[0]) == "How many green objects are there?\n" + THINKING


def test_rows_do_not_depend_on_how_many_are_asked_for() -> None:
    first = [{**row, "image": None} for row in rows("train", 30)]
    assert first == [{**row, "image": None} for row in TRAIN_ROWS[:30]]


def test_every_cell_content_is_drawn_differently() -> None:
    contents: list[Content] = [
        *(Object(color, shape) for color in COLORS for shape in SHAPES),
        *(Number(value) for value in range(100)),
        *(Dial(angle) for angle in ANGLES),
    ]
    drawn = {np.asarray(Scene.of({Cell(1, 1): content}).draw()).tobytes() for content in contents}
    assert len(drawn) == len(contents)
    assert np.asarray(Scene.of({}).draw()).tobytes() not in drawn


@given(st.sampled_from(CELLS), st.integers(0, 99))
def test_a_content_changes_the_pixels_of_its_own_cell_only(cell: Cell, value: int) -> None:
    empty = np.asarray(Scene.of({}).draw())
    changed = np.asarray(Scene.of({cell: Number(value)}).draw())
    rows_changed, columns_changed = np.nonzero((empty != changed).any(axis=2))
    assert set(rows_changed // 28 + 1) == {cell.row}
    assert set(columns_changed // 28 + 1) == {cell.column}


def test_images_are_rgb_and_of_the_size_of_sixteen_tokens() -> None:
    for image in (TEST_ROWS[0]["image"], blank_image()):
        assert image.mode == "RGB"
        assert image.size == (IMAGE_PIXELS, IMAGE_PIXELS) == (112, 112)
    assert np.asarray(blank_image()).min() == 255

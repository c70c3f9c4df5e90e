"""language_priors: answers read once more from the pixels, balance, splits, determinism, verdicts."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from row_digest import row_digest
from scipy.ndimage import label

from avar_eval import evaluate
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.language_priors.counted import PART, PARTS
from avar_eval.tasks.language_priors.dataset import EVALUATION_ROWS, Row, rows
from avar_eval.tasks.language_priors.drawing import COLORS, Canvas, Pen
from avar_eval.tasks.language_priors.glyphs import GLYPHS
from avar_eval.tasks.language_priors.picture import Picture
from avar_eval.tasks.language_priors.questions import KINDS
from avar_eval.tasks.language_priors.task import judge, load_blind_split, parts
from avar_eval.tasks.language_priors.wordings import WORDINGS
from avar_eval.tasks.shapes.dataset import Split
from avar_eval.tasks.shares import share_values

Pixels = NDArray[np.int64]

TEST_ROWS = list(rows("test"))
TRAIN_ROWS = list(rows("train", 400))

# The published questions: whoever changes what is asked or drawn has to say so here and in the changelog.
TEST_DIGEST = "04e711c2e14707b59f2508f60c1705da067a4753ab5661a6486093af4a4964f0"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in a hundredth of the time, all with the same picture."""
    blank = np.zeros((2, 2, 3), dtype=np.uint8)
    monkeypatch.setattr(Picture, "draw", lambda _: blank)


def pixels(row: Row) -> Pixels:
    return np.asarray(row["image"], dtype=np.int64)


def near(seen: Pixels, color: tuple[int, int, int], within: int = 12) -> NDArray[np.bool_]:
    return np.asarray(abs(seen - np.array(color)).max(axis=2) <= within)


def box_of(row: Row, name: str) -> tuple[int, int, int]:
    """left, top and size of what the scene calls `name`."""
    (place,) = [of[-1] for of in json.loads(row["scene"])[1] if of[1] == name]
    return place[0], place[1], place[2]


def inside(row: Row, name: str) -> Pixels:
    left, top, size = box_of(row, name)
    return pixels(row)[top : top + size, left : left + size]


def main_color(seen: Pixels) -> str:
    """The named color of most pixels of a box, ground and ink aside."""
    counts = {name: int(near(seen, rgb, 6).sum()) for name, rgb in COLORS.items()}
    return max(counts, key=counts.__getitem__)


def glyph(seen: NDArray[np.bool_]) -> str:
    """The sign whose 5 × 7 squares the ink fills best, by what of each square is ink."""
    down, across = np.nonzero(seen)
    top, bottom, left, right = down.min(), down.max() + 1, across.min(), across.max() + 1
    found = {}
    for sign, lines in GLYPHS.items():
        squares = np.array([[square == "#" for square in line] for line in lines])
        used_down, used_across = np.nonzero(squares)
        used = squares[used_down.min() : used_down.max() + 1, used_across.min() : used_across.max() + 1]
        ys = np.linspace(top, bottom, 2 * len(used) + 1)[1::2].astype(int)
        xs = np.linspace(left, right, 2 * used.shape[1] + 1)[1::2].astype(int)
        wide = (right - left) / (bottom - top) / (used.shape[1] / len(used))
        found[sign] = float((seen[np.ix_(ys, xs)] == used).mean()) - abs(wide - 1) / 10
    return max(found, key=found.__getitem__)


def signs(row: Row) -> list[str]:
    """The signs on the cards, from left to right: what is not white and not joined to the picture's ground."""
    dark = ~near(pixels(row), COLORS["white"], 30)
    parts_of, _ = label(dark, np.ones((3, 3)))
    ink = dark & (parts_of != parts_of[0, 0])
    columns = np.nonzero(ink.any(axis=0))[0]
    gaps = np.nonzero(np.diff(columns) > 1)[0]
    starts, stops = columns[[0, *(gaps + 1)]], columns[[*gaps, -1]] + 1
    return [glyph(ink[:, start:stop]) for start, stop in zip(starts, stops, strict=True)]


def read(row: Row) -> str:
    """The right answer from question and pixels; of the scene's description only where things stand is used."""
    question, kind = row["question"], row["kind"]
    named = [of[1] for of in json.loads(row["scene"])[1]]
    if kind == "color":
        asked = question.casefold()
        name = max((name for name in named if name in asked), key=len)  # a pine tree is no tree
        return main_color(inside(row, name))
    if kind == "parts":
        dark = near(pixels(row), PART, 30)
        parts_of, count = label(dark, np.ones((3, 3)))
        return str(sum(int((parts_of == number).sum()) >= 9 for number in range(1, count + 1)))
    if kind == "size":
        ground = pixels(row)[0, 0]
        covered = {name: int((abs(inside(row, name) - ground).max(axis=2) > 20).sum()) for name in named}
        return max(covered, key=covered.__getitem__)
    if kind == "ink":
        return main_color_of_letters(row)
    return signs(row)[0 if kind == "spelling" else -1]


def main_color_of_letters(row: Row) -> str:
    """The most frequent color on the card that is neither its white nor its dark edge."""
    left, top, size = json.loads(row["scene"])[1][0][-1][:3]
    card = pixels(row)[top : top + size, left + 8 : left + size - 8]
    middle = card[size // 2 - size // 16 : size // 2 + size // 16]
    counts = {name: int(near(middle, rgb, 6).sum()) for name, rgb in COLORS.items() if name != "white"}
    return max(counts, key=counts.__getitem__)


@pytest.mark.parametrize("questions", [TEST_ROWS, TRAIN_ROWS], ids=["test", "train"])
def test_every_answer_is_what_the_pixels_show(questions: list[Row]) -> None:
    wrong = [
        (row["id"], row["kind"], row["question"], row["answer"], found)
        for row in questions
        if (found := read(row)) != row["answer"]
    ]
    assert not wrong


@pytest.mark.usefixtures("undrawn")
def test_half_of_each_kind_agrees_and_the_case_does_not_give_it_away() -> None:
    assert len(TEST_ROWS) == EVALUATION_ROWS == catalog()["language_priors"].rows
    for kind in KINDS:
        asked = [row for row in TEST_ROWS if row["kind"] == kind.name]
        assert Counter(row["agrees"] for row in asked) == {True: 30, False: 30}
        assert all(row["agrees"] == (row["answer"] == row["suggested"]) for row in asked)
    many = [row for row in rows("train", 6_400) if row["kind"] == "color"]
    shares = [Counter(row["suggested"] for row in many if row["agrees"] == agrees) for agrees in (True, False)]
    assert all(abs(shares[0][color] - shares[1][color]) <= 40 for color in COLORS), shares


@pytest.mark.usefixtures("undrawn")
def test_a_share_of_agreement_can_be_asked_for() -> None:
    assert all(row["agrees"] for row in rows("train", 90, agreeing=1.0))
    assert not any(row["agrees"] for row in rows("train", 90, agreeing=0.0))


@pytest.mark.usefixtures("undrawn")
def test_splits_share_neither_pictures_nor_wordings() -> None:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    scenes = {split: {row["scene"] for row in rows(split, 400)} for split in splits}
    assert not scenes["train"] & scenes["test"]
    assert not scenes["train"] & scenes["validation"]
    assert not scenes["validation"] & scenes["test"]
    for wordings in WORDINGS.values():
        every = [*wordings.train, *wordings.validation, *wordings.test]
        assert len({wording.casefold() for wording in every}) == len(every)
    asked = {split: {row["question"] for row in rows(split, 900)} for split in splits}
    assert not asked["train"] & asked["test"]
    assert not asked["validation"] & asked["test"]


def test_a_picture_is_read_back_from_its_canonical_text() -> None:
    for row in TRAIN_ROWS[:45]:
        picture = Picture.from_canonical(row["scene"])
        assert picture.canonical() == row["scene"]
        assert picture.draw().tobytes() == row["image"].tobytes()


def test_another_process_with_another_hash_seed_gives_the_same_rows() -> None:
    code = (
        "import hashlib; from avar_eval.tasks.language_priors.dataset import rows\n"
        "t = hashlib.sha256()\n"
        "for r in rows('train', 45):\n"
        "    t.update((r['scene'] + r['question'] + r['answer']).encode() + r['image'].tobytes())\n"
        "print(t.hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    expected = hashlib.sha256()
    for row in TRAIN_ROWS[:45]:
        expected.update((row["scene"] + row["question"] + row["answer"]).encode() + row["image"].tobytes())
    assert run.stdout.decode().strip() == expected.hexdigest()


def test_the_published_questions_are_pinned() -> None:
    assert row_digest(TEST_ROWS) == TEST_DIGEST


def test_every_number_of_parts_can_be_counted() -> None:
    for name in PARTS:
        for count in range(2, 9):
            text = f'[0,[["CountedThing","{name}","orange",{count},[37,37,150,false]]]]'
            seen = np.asarray(Picture.from_canonical(text).draw(), dtype=np.int64)
            _, found = label(near(seen, PART, 30), np.ones((3, 3)))
            assert found == count, (name, count, found)


def test_a_polygon_fills_what_is_inside() -> None:
    canvas = Canvas((255, 255, 255))
    pen = Pen(canvas, 20, 40, 100)
    pen.polygon((0, 0, 0), (0, 0), (100, 0), (0, 100))
    pen.circle((200, 0, 0), 150, 100, 30)
    drawn = np.asarray(canvas.picture(), dtype=np.int64)
    y, x = np.mgrid[:224, :224] + 0.5
    triangle = (x > 20) & (y > 40) & (x - 20 + y - 40 < 100)
    circle = (x - 170) ** 2 + (y - 140) ** 2 < 30**2
    edge = (abs(x - 20 + y - 40 - 100) < 2) | (abs(np.hypot(x - 170, y - 140) - 30) < 2)
    assert ((drawn[..., 0] < 128) == triangle)[~edge & ~circle].all()
    assert ((drawn == (200, 0, 0)).all(axis=2) == circle)[~edge].all()


def test_answers_are_judged() -> None:
    for row in TEST_ROWS[:64]:
        assert judge(row, f"<think>{row['solution']}</think><answer>{row['answer']}</answer>", "stop").correct
        assert judge(row, row["answer"], "stop").correct
        wrong = next(
            other["answer"] for other in TEST_ROWS if other["kind"] == row["kind"] and other["answer"] != row["answer"]
        )
        assert not judge(row, f"<answer>{wrong}</answer>", "stop").correct


@pytest.mark.parametrize(
    ("kind", "answer", "response", "right"),
    [
        ("color", "gray", "Grey.", True),
        ("color", "green", "grey", False),
        ("size", "elephant", "The elephant.", True),
        ("size", "elephant", "<think>So?</think><answer>the elephant</answer>", True),
        ("size", "elephant", "the mouse", False),
        ("spelling", "A", "a", True),
        ("spelling", "A", "A banana", False),
        ("spelling", "I", "I", True),
    ],
)
def test_words_and_letters_are_judged_in_either_spelling(kind: str, answer: str, response: str, right: bool) -> None:
    row = {"kind": kind, "answer": answer, "answer_type": "word", "choices": []}
    assert judge(row, response, "stop").correct == right


def test_accuracy_is_split_by_agreement() -> None:
    prior = [row["suggested"] == row["answer"] for row in TEST_ROWS]
    shares = share_values(parts(TEST_ROWS), prior)
    assert (shares["agree"], shares["disagree"]) == (1.0, 0.0)
    assert (shares["sum_agree"], shares["sum_disagree"]) == (1.0, 0.0)
    assert len(shares) == 2 + 2 * len(KINDS)


def test_the_blind_split_asks_the_same_of_white_images() -> None:
    assert catalog()["language_priors_blind"].embedded == "task.load_blind_split"
    blind = next(load_blind_split("test"))
    assert blind["image"].getextrema() == ((255, 255),) * 3
    assert blind["question"] == TEST_ROWS[0]["question"]


def test_a_run_reports_both_halves_with_intervals(tmp_path: Path) -> None:
    results = evaluate("avar-tiny", "language_priors", output=tmp_path, limit=16, max_new_tokens=8)
    found = results.tasks["language_priors"].benchmark["strict"]
    assert found["agree"].n + found["disagree"].n == 16
    assert found["agree"].ci95 is not None

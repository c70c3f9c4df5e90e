"""easy_vqa: rows of the package `easy-vqa`, kinds of question, what the wording alone is worth, one message without."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from avar_eval import evaluate
from avar_eval.extras import MissingPackagesError
from avar_eval.tasks.catalog import catalog, find_tasks
from avar_eval.tasks.easy_vqa.dataset import ANSWERS, KINDS, Row, load_split, prior_accuracy, question_kind, rows
from avar_eval.tasks.easy_vqa.task import cluster, doc_to_text, judge, parts
from avar_eval.tasks.shares import share_values

with_package = pytest.mark.skipif(
    find_spec("easy_vqa") is None, reason="the package easy-vqa is not installed: pip install 'avar-eval[easy-vqa]'"
)


@pytest.fixture(scope="module")
def test_rows() -> list[Row]:
    return list(rows("test"))


NAMED = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}


def color_and_shape(row: Row) -> tuple[str, str]:
    """What is on the picture, read from its pixels: the colour that is not the ground, and how it fills its box."""
    pixels = np.asarray(row["image"].convert("RGB"), dtype=int)
    inside = abs(pixels - pixels[0, 0]).sum(axis=2) > 60
    colors, counts = np.unique(pixels[inside], axis=0, return_counts=True)  # edges are mixed with the ground
    found = colors[counts.argmax()]
    color = min(NAMED, key=lambda name: float(abs(found - NAMED[name]).sum()))
    down, across = np.nonzero(inside)
    filled = inside.sum() / ((np.ptp(down) + 1) * (np.ptp(across) + 1))
    return color, "rectangle" if filled > 0.915 else "circle" if filled > 0.71 else "triangle"


@with_package
def test_the_rows_are_those_that_the_package_documents(test_rows: list[Row]) -> None:
    train = list(rows("train"))
    assert (len(test_rows), len(train)) == (9673, 38575)
    assert (len({row["image_id"] for row in test_rows}), len({row["image_id"] for row in train})) == (1000, 4000)
    assert sum(row["kind"] in ("presence", "absence") for row in test_rows) == 7136
    assert {row["answer"] for row in test_rows} == {answer for of in ANSWERS.values() for answer in of}
    assert all(row["answer"] in ANSWERS[row["kind"]] for row in (*test_rows, *train))
    assert len({row["id"] for row in test_rows}) == len(test_rows) == catalog()["easy_vqa"].rows


@with_package
def test_answers_are_what_the_pictures_show(test_rows: list[Row]) -> None:
    seen: dict[int, tuple[str, str]] = {}
    for row in test_rows[:3000]:
        color, shape = seen.setdefault(row["image_id"], color_and_shape(row))
        asked = [word for word in row["question"].rstrip("?").split() if word in (*ANSWERS["color"], *ANSWERS["shape"])]
        shown = all(word in (color, shape) for word in asked)
        expected = {"color": color, "shape": shape, "presence": "yes" if shown else "no"}
        expected["absence"] = "no" if shown else "yes"
        assert row["answer"] == expected[row["kind"]], (row["id"], row["question"], color, shape)


@with_package
def test_the_wording_alone_is_worth_what_the_documentation_says() -> None:
    import avar_eval.tasks.easy_vqa as easy_vqa

    found = prior_accuracy()
    said = str(easy_vqa.__doc__)
    for kind in (*KINDS, "all"):
        line = next(line for line in said.splitlines() if line.startswith(f"| {kind} |"))
        assert line.endswith(f"| {100 * found[kind]:.1f} % |"), line


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("what color is the shape?", "color"),
        ("what is the color of the triangle?", "color"),
        ("what is the blue shape?", "shape"),
        ("what shape does the image contain?", "shape"),
        ("is there a circle in the image?", "presence"),
        ("does the image contain a red shape?", "presence"),
        ("is no circle present?", "absence"),
        ("does the image not contain a red shape?", "absence"),
    ],
)
def test_kinds_of_question(question: str, kind: str) -> None:
    assert question_kind(question) == kind


def test_a_question_names_its_answers_and_a_response_is_judged_by_its_answer() -> None:
    row = {"id": "0-0", "image_id": 0, "kind": "shape", "question": "what is the red shape?", "answer": "triangle"}
    assert doc_to_text(row, {"prompt_style": "direct"}) == (
        "what is the red shape? (circle, rectangle or triangle)\nAnswer with one word, and nothing else."
    )
    assert judge(row, "<think>circle?</think><answer>Triangle</answer>").correct
    assert judge(row, "triangle").correct
    assert not judge(row, "<answer>circle</answer>").correct
    assert judge(row, "<think>a triangle").state == "truncated"
    others = [row | {"kind": kind} for kind in KINDS]
    assert share_values(parts(others), [1, 0, 1, 0]) == {"color": 1, "shape": 0, "presence": 1, "absence": 0}
    assert cluster(row) == "0"
    assert [entry.name for entry in find_tasks(["easyvqa"])] == ["easy_vqa"]


@with_package
def test_a_run(tmp_path: Path) -> None:
    results = evaluate("avar-tiny", "easy_vqa", output=tmp_path, limit=6, max_new_tokens=48)
    assert results.tasks["easy_vqa"].metrics["accuracy"].n == 6
    assert set(results.tasks["easy_vqa"].benchmark["strict"]) == set(KINDS)


def test_without_the_package_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(MissingPackagesError, match=r"easy_vqa needs easy-vqa: pip install 'avar-eval\[easy-vqa\]'"):
        list(load_split("test"))

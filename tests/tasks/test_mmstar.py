"""MMStar: options out of questions, the published first-characters rule, and categories, on invented rows."""

import pytest
from invented_rows import mmstar_row
from PIL import Image

from avar_eval.tasks.mmstar.official import choice_right
from avar_eval.tasks.mmstar.task import CATEGORIES, doc_to_visual, judge, parse_choices, parts
from avar_eval.tasks.shares import share_values

QUESTION = "Which leaf?\nOptions: A: The left one., B: The right, red one, C: Both, or none, D: nan"
LINES = "Which leaf?\nChoices:\n(A) left\n(B) right"


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        (QUESTION, ["The left one.", "The right, red one", "Both, or none", "nan"]),
        (LINES, ["left", "right"]),
        ("Which leaf?\n(A) 3\n(B) \n(C) 5", ["3", "", "5"]),
        ("Hint: Say the letter, at the end.\nQuestion: Which?\nChoices:\n(A) up\n(B) down", ["up", "down"]),
        ("Of (A), (B)?\n(A) is left\nOptions: A: (A), B: (B)", ["(A)", "(B)"]),
        ("What prints?\nOptions: A: x = 1\ny = 2, B: x: 3", ["x = 1\ny = 2", "x: 3"]),
    ],
)
def test_options_are_found_in_the_question(question: str, choices: list[str]) -> None:
    assert parse_choices(question) == choices


@pytest.mark.parametrize("question", ["Which leaf?", "Which?\nOptions: A: left", "Which?\n(A) left\n(C) right"])
def test_a_question_without_options_is_refused(question: str) -> None:
    with pytest.raises(ValueError, match="no options A, B"):
        parse_choices(question)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("B", True),
        (" b. The right", True),
        ("(B) The right", True),
        ("Option B", True),
        ("The answer is B", True),
        ("the answer\nis b", True),
        ("Brown leaves", True),
        ("A", False),
        ("Answer: B", False),
        ("The answer is (B)", False),
        ("<think>B</think><answer>B</answer>", False),
        ("[B]", False),
        ("", False),
    ],
)
def test_the_first_characters_decide(response: str, right: bool) -> None:
    assert choice_right(response, "B") is right


@pytest.mark.parametrize(
    ("response", "state", "correct", "said"),
    [
        ("<think>A?</think><answer>B</answer>", "scored", True, False),
        ("<answer>the right, red one</answer>", "scored", True, False),
        ("B: The right, red one", "scored", True, True),
        ("A. The left one.", "scored", False, False),
        ("D", "scored", False, False),
        ("Both sides of a leaf are shown and I cannot tell them apart here.", "unparsed", False, True),
        ("<think>B", "truncated", False, False),
    ],
)
def test_judgements(response: str, state: str, correct: bool, said: bool) -> None:
    judgement = judge(mmstar_row(0, QUESTION, "B"), response)
    assert (judgement.state, judgement.correct, judgement.official) == (state, correct, said)


def test_the_mean_weighs_categories_alike() -> None:
    rows = [mmstar_row(number, LINES, "A", "math") for number in range(3)]
    rows.append(mmstar_row(3, LINES, "A", "logical reasoning"))
    found = share_values(parts(rows), [True, False, False, True])
    assert found == dict.fromkeys(CATEGORIES) | {"math": 1 / 3, "logical reasoning": 1.0, "mean": 2 / 3}
    assert share_values(parts([]), []) == dict.fromkeys((*CATEGORIES, "mean"))


def test_the_picture_is_one_rgb_image() -> None:
    row = mmstar_row(0, LINES, "A")
    assert [picture.mode for picture in doc_to_visual(row | {"image": Image.new("P", (8, 6))})] == ["RGB"]
    with pytest.raises(ValueError, match="MMStar row 0 has no picture"):
        doc_to_visual(row | {"image": None})

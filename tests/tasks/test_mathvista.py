"""MathVista's prompt, picture and judgement on invented rows of the published schema."""

from typing import Any

import pytest
from golden_files import check_golden
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from avar_eval.tasks.mathvista.official import edit_distance, official_verdict
from avar_eval.tasks.mathvista.task import doc_to_target, doc_to_text, doc_to_visual, judge, parts
from avar_eval.tasks.prompts import STYLES, THINKING
from avar_eval.tasks.shares import share_values

HINTS = {
    "choice": "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "Hint: Please answer the question requiring an integer answer and provide the final value, "
    "e.g., 1, 2, 3, at the end.",
}


def row(**fields: Any) -> dict[str, Any]:
    """A free-form integer row; `fields` replace its own."""
    return {
        "pid": "9001",
        "question": "How many jars stand on the top shelf?",
        "image": Image.new("P", (8, 6)),
        "choices": None,
        "unit": None,
        "precision": None,
        "answer": "7",
        "question_type": "free_form",
        "answer_type": "integer",
        "metadata": {"split": "testmini"},
        "query": f"{HINTS['integer']}\nQuestion: How many jars stand on the top shelf?",
        **fields,
    }


def choice_row(**fields: Any) -> dict[str, Any]:
    return row(
        question="Which jar is taller?",
        choices=["the red one", "the blue one"],
        answer="the blue one",
        question_type="multi_choice",
        answer_type="text",
        query=f"{HINTS['choice']}\nQuestion: Which jar is taller?\nChoices:\n(A) the red one\n(B) the blue one",
        **fields,
    )


def test_prompt_of_an_integer_row() -> None:
    hint = "Hint: Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3."
    assert doc_to_text(row()) == f"Question: How many jars stand on the top shelf?\n{hint}\n{THINKING}"


def test_prompt_keeps_unit_and_options() -> None:
    aged = row(unit="years", query=f"{HINTS['integer']}\nQuestion: How old is the jar? (Unit: years)")
    assert doc_to_text(aged).startswith("Question: How old is the jar? (Unit: years)\nHint: ")
    lines = doc_to_text(choice_row()).split("\n")
    assert lines[1:4] == ["Choices:", "(A) the red one", "(B) the blue one"]
    assert lines[4] == "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D."
    assert lines[5:] == [THINKING]


def test_a_query_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="9001"):
        doc_to_text(row(query="How many jars?"))


def test_picture_is_one_rgb_image() -> None:
    (image,) = doc_to_visual(row())
    assert (image.mode, image.size) == ("RGB", (8, 6))
    (image,) = doc_to_visual(row(image=Image.new("L", (3, 2))))
    assert (image.mode, image.size) == ("RGB", (3, 2))
    with pytest.raises(ValueError, match="no picture"):
        doc_to_visual(row(image=None))
    with pytest.raises(ValueError, match="no picture"):
        doc_to_visual(row(image="images/9001.jpg"))


def test_target_is_the_answer_as_written() -> None:
    assert doc_to_target(row()) == "7"
    assert doc_to_target(choice_row()) == "the blue one"


@pytest.mark.parametrize(
    ("doc", "response", "state", "correct"),
    [
        (row(), "<think>one by one</think><answer>7 jars</answer>", "scored", True),
        (row(), "<think>one by one</think><answer>8</answer>", "scored", False),
        (row(), "<think>one by one, 7", "truncated", False),
        (row(), "", "unparsed", False),
        (choice_row(), "<think>blue</think><answer>B</answer>", "scored", True),
        (choice_row(), "<think>blue</think><answer>(B) the blue one</answer>", "scored", True),
        (choice_row(), "<think>blue</think><answer>The blue one</answer>", "scored", True),
        (choice_row(), "<think>red</think><answer>A</answer>", "scored", False),
        (choice_row(), "<think>hm</think><answer></answer>", "unparsed", False),
        (choice_row(), "<think>hm</think><answer>blu</answer>", "scored", False),
        (row(answer_type="float", precision=1.0, answer="0.5"), "<answer>0.52</answer>", "scored", True),
        (row(answer_type="float", precision=1.0, answer="0.5"), "<answer>0.4</answer>", "scored", False),
        (row(answer_type="list", answer="[3, 5]"), "<answer>[3, 5]</answer>", "scored", True),
    ],
)
def test_judgement(doc: dict[str, Any], response: str, state: str, correct: bool) -> None:
    judgement = judge(doc, response)
    assert (judgement.state, judgement.correct) == (state, correct)


def test_the_finish_reason_reaches_the_grader() -> None:
    assert judge(row(), "I count them: 1, 2, 3", "length").state == "truncated"
    assert judge(row(), "I count them: 1, 2, 3", "stop").state == "unparsed"


def naive_distance(a: str, b: str) -> int:
    """The textbook table (Wagner and Fischer 1974)."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        line = [i]
        for j, y in enumerate(b, start=1):
            line.append(min(above[j] + 1, line[-1] + 1, above[j - 1] + (x != y)))
        above = line
    return above[-1]


@given(st.text("abcß", max_size=12), st.text("abcß", max_size=12))
def test_the_edit_distance_is_the_textbooks(a: str, b: str) -> None:
    assert edit_distance(a, b) == naive_distance(a, b)


FLOAT = row(answer_type="float", precision=1.0, answer="0.5")
PAIR = choice_row() | {"choices": ["4 cm", "5 cm"], "answer": "5 cm"}


@pytest.mark.parametrize(
    ("doc", "extraction", "expected"),
    [
        (row(), "7", True),
        (row(), "7.0", True),
        (row(), "7.9", True),  # truncated
        (row(), " 7 ", True),
        (row(), "7 jars", False),
        (row(), "1e999", False),
        (row(), "nan", False),
        (FLOAT, "0.52", True),
        (FLOAT, "0.56", False),
        (FLOAT, "1/2", False),
        (row(answer_type="list", answer="[3, 5]"), "[3, 5]", True),
        (row(answer_type="list", answer="[3, 5]"), "[3,5]", False),
        (PAIR, "B", True),
        (PAIR, "b", False),  # no option's letter, and the first of two that are equally near
        (PAIR, "the answer (b), not (a)", True),
        (PAIR, "(A) 5 cm", False),
        (PAIR, "5cm", True),
        (PAIR, "about 5 cm", True),
        (PAIR, "E", False),
        (PAIR, "x" * 3000 + "5 cm", False),
        (PAIR, "", False),
        (PAIR, "  ", False),
        (PAIR, None, False),
        (row(), None, False),
    ],
)
def test_the_official_rule_on_extractions(doc: dict[str, Any], extraction: str | None, expected: bool) -> None:
    assert official_verdict(doc, extraction) is expected


@pytest.mark.parametrize("gold", ["2", "3", "4"])
def test_a_short_reply_without_an_answer_is_the_nearest_option_by_the_official_rule_alone(gold: str) -> None:
    """As published: the language model that extracts repeats such a reply."""
    doc = row(choices=["2", "3", "4"], answer=gold, question_type="multi_choice", answer_type="text")
    refusal = "Sorry, I can't help with images of people yet."
    judgement = judge(doc, refusal)
    assert (judgement.state, judgement.correct) == ("unparsed", False)
    assert judgement.official is official_verdict(doc, refusal) is (gold == "2")


def test_the_official_rule_judges_what_was_extracted() -> None:
    judgement = judge(choice_row(), "<think>blue</think><answer>blu one</answer>")
    assert (judgement.correct, judgement.official) == (False, True), "the nearest option"
    sentence = "The taller one of these two jars is the blue one."
    assert judge(choice_row(), f"<answer>{sentence}</answer>").official is True, "the option that it names"
    assert judge(row(), "<answer>There are 7 jars.</answer>").official is True, "the number that it states"
    odd = choice_row() | {"choices": ["(b)", "(a)"], "answer": "(a)"}
    assert judge(odd, "<answer>(b)</answer>").official is True, "read by the rule as the second option"
    long = "I cannot see it, sorry.\n" + "It is a long and winding story. " * 9
    assert judge(choice_row(), long).official is False, "a language model would have found nothing, or something"
    assert judge(row(), "<think>seven").official is False


def test_accuracy_by_task_and_skill() -> None:
    docs = [
        row(metadata={"task": "figure question answering", "skills": ["arithmetic reasoning"]}),
        row(metadata={"task": "math word problem", "skills": ["arithmetic reasoning", "logical reasoning"]}),
    ]
    assert share_values(parts(docs), [True, False]) == {
        "task/figure question answering": 1.0,
        "task/math word problem": 0.0,
        "skill/arithmetic reasoning": 0.5,
        "skill/logical reasoning": 0.0,
    }


@pytest.mark.parametrize("style", STYLES)
def test_prompts_are_as_recorded(style: str) -> None:
    check_golden(f"mathvista.{style}", [doc_to_text(doc, {"prompt_style": style}) for doc in (row(), choice_row())])

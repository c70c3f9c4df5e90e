"""DynaMath on invented rows of the published schema: prompts, both verdicts, average and worst case."""

import json
from typing import Any

import pytest
from golden_files import check_golden
from PIL import Image

from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.dynamath.task import VARIANTS, cluster, doc_to_text, doc_to_visual, judge, parts
from avar_eval.tasks.prompts import STYLES
from avar_eval.tasks.shares import share_values


def row(**fields: Any) -> dict[str, Any]:
    """A float row; `fields` replace its own."""
    return {
        "id": "901",
        "variant": 1,
        "question": "What is the area below the green curve?",
        "image": Image.new("L", (8, 6)),
        "ground_truth": "2.571",
        "answer_type": "float",
        "subject": "algebra",
        "knowledge_level": "high school",
        **fields,
    }


def choice_row(gold: str = "B", options: str = "(A) rising (B) falling (C) both") -> dict[str, Any]:
    return row(question=f"How does the curve run? choice: {options}", ground_truth=gold, answer_type="multiple choice")


def text_row(gold: str) -> dict[str, Any]:
    return row(question="What does it show?", ground_truth=gold, answer_type="text")


def as_json(answer: str) -> str:
    return json.dumps({"solution": "Read it off: A, then B.", "short answer": answer}, ensure_ascii=False)


@pytest.mark.parametrize("style", STYLES)
def test_prompts_are_as_recorded(style: str) -> None:
    rows = [row(), choice_row(), text_row("(1, 2)")]
    check_golden(f"dynamath.{style}", [doc_to_text(doc, {"prompt_style": style}) for doc in rows])


def test_picture_is_one_rgb_image() -> None:
    (image,) = doc_to_visual(row())
    assert (image.mode, image.size) == ("RGB", (8, 6))
    with pytest.raises(ValueError, match="901, variant 1 has no picture"):
        doc_to_visual(row(image=None))


# The official rule reads JSON: what it makes of a bare text is its own affair, and tested below.
@pytest.mark.parametrize(
    ("doc", "answer", "correct", "official"),
    [
        (row(), "2.571", True, True),
        (row(), "2.5715", True, True),
        (row(), "2.573", False, False),
        (row(), "2.571 square units", True, True),
        (row(ground_truth="2571.0"), "2572", False, False),
        (row(ground_truth="0.0"), "0.0005", True, True),
        (row(ground_truth="6.283"), "2π", False, True),
        (choice_row(), "B", True, True),
        (choice_row(), "(B)", True, True),
        (choice_row(), "falling", True, False),
        (choice_row(), "C", False, False),
        (choice_row("F", "(A) a1 (B) b1 (C) c1 (D) d1 (E) e1 (F) f1"), "F", True, True),
        (choice_row("A", "(A) yes (B) no"), "Yes", True, False),
        (choice_row("B", "(A) (B) (C)"), "B", True, True),
        (text_row("(1.000, -2.000)"), "(1, -2)", True, False),
        (text_row("(1, -2)"), "(-2, 1)", False, False),
        (text_row("Sep"), "September", True, False),
        (text_row("Sep"), "sep", True, True),
        (text_row("Sep"), "Dec", False, False),
        (text_row("Product C"), "C", False, True),
        (text_row("4:45"), "4:45", True, True),
    ],
)
def test_both_verdicts(doc: dict[str, Any], answer: str, correct: bool, official: bool) -> None:
    judgement = judge(doc, as_json(answer))
    assert (judgement.state, judgement.correct, judgement.official) == ("scored", correct, official)
    thought = judge(doc, f"<think>A, B or C?</think><answer>{answer}</answer>")
    assert (thought.state, thought.correct) == ("scored", correct)


@pytest.mark.parametrize(
    ("doc", "response", "official"),
    [
        (choice_row("C", "(A) 1 (B) 2 (C) 3"), "Cannot say, A or B.", True),  # the gold letter in the first three
        (choice_row(), "<think>A or C</think><answer>B</answer>", True),  # our extraction for the language model's
        (row(), "about 2.571", False),
        (row(), "2.571 it is", True),
        (row(), "<answer>2.571</answer>", True),
        (row(), '{"short answer": 2.571}', True),
        (text_row("Sep"), "<answer>Sep</answer>", False),  # no language model is asked for texts
        (text_row("Sep"), "", False),
        (row(), '{"short answer": "\\frac{1}{2}"}', False),
        (row(), "[" * 100_000, False),
        (row(), "²", False),
        (row(), "nan", False),
    ],
)
def test_what_the_official_rule_makes_of_other_texts(doc: dict[str, Any], response: str, official: bool) -> None:
    assert judge(doc, response).official is official


@pytest.mark.parametrize(
    ("response", "extracted"),
    [
        ('```json\n{"solution": "\\frac{1}{2} is not", "short answer": "2.571"}\n```', "2.571"),
        ('{"short answer": "1"} no: {"short answer" : "2.571"}', "2.571"),
        ('<think>{"short answer": "1"}</think>{"short answer": 2.571}', "2.571"),
        ('<think>{"short answer": "2.571"}', None),
        ('{"short answer": ""}', None),
        (r'{"solution": "s", "short answer": "\frac{5}{2}"}', r"\frac{5}{2}"),
        (r'{"short answer": "$\text{2.571}$"}', r"$\text{2.571}$"),
        (r'{"short answer": "\boxed{2.571}"}', "2.571"),
        (r'{"short answer": "\\frac{5}{2}"}', r"\frac{5}{2}"),
        ('{"short answer": "\x0crac{5}{2}"}', r"\frac{5}{2}"),
        ('{"short_answer": "2.571"}', "2.571"),
        ('{"Short Answer": "2.571"}', "2.571"),
        ("{'solution': 's', 'short answer': '2.571'}", "2.571"),
        ('[THINK]{"short answer": "1"}[/THINK]{"short answer": "2.571"}', "2.571"),
    ],
)
def test_the_short_answer_of_a_json_object(response: str, extracted: str | None) -> None:
    assert judge(row(), response).extracted == extracted


def variants(question: str, right: int, asked: int = VARIANTS) -> list[tuple[dict[str, Any], bool]]:
    return [(row(id=question, variant=n), n <= right) for n in range(1, asked + 1)]


def test_average_and_worst_case() -> None:
    rows, correct = zip(*variants("1", 10), *variants("2", 9), *variants("3", 0), *variants("4", 9, 9), strict=True)
    found = share_values(parts(rows), correct)
    assert found["average"] == 28 / 39
    assert found["worst"] == 1 / 4, "a missing variant is not right"
    assert found["worst subject/algebra"] == found["worst level/high school"] == 1 / 4
    assert found["subject/algebra"] == found["level/high school"] == 28 / 39
    assert {cluster(doc) for doc in rows} == {"1", "2", "3", "4"}


def test_the_worst_case_is_unknown_where_no_question_has_all_variants() -> None:
    rows, correct = zip(*variants("1", 3, 3), strict=True)
    assert share_values(parts(rows), correct)["worst"] is None
    assert share_values(parts([]), [])["average"] is None


def test_several_samples_of_a_variant_do_not_stand_for_other_variants() -> None:
    rows, correct = zip(*(5 * variants("1", 2, 2)), *variants("2", 10), strict=True)
    assert share_values(parts(rows), correct)["worst"] == 1 / 2


def test_a_row_is_named_by_question_and_variant() -> None:
    assert catalog()["dynamath"].row_id(row(variant=10)) == "901_v10"

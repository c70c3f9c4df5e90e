"""MathVerse on invented rows of the published schema: prompts, pictures, both verdicts, metrics."""

from typing import Any

import pytest
from golden_files import check_golden
from PIL import Image

from avar_eval.answers import judge_answer
from avar_eval.tasks.catalog import catalog, find_tasks
from avar_eval.tasks.mathverse.task import doc_to_text, doc_to_visual, judge, needed_pictures, parts
from avar_eval.tasks.prompts import STYLES
from avar_eval.tasks.shares import share_values

REMARK = "Sorry, the picture does not show enough of it to tell."


def row(**fields: Any) -> dict[str, Any]:
    """A free-form row; `fields` replace its own."""
    return {
        "sample_index": "9001",
        "problem_index": "1801",
        "problem_version": "Text Lite",
        "question": "Find the length of the handrail.",
        "image": Image.new("P", (8, 6)),
        "answer": "12.5",
        "question_type": "free-form",
        "metadata": {"split": "testmini", "source": "invented", "subject": "Solid Geometry", "subfield": "Length"},
        **fields,
    }


def choice_row(**fields: Any) -> dict[str, Any]:
    question = "How wide is the angle at K?\nChoices:\nA:35°\nB:55°\nC:70°\nD:110°"
    return row(**{"question": question, "answer": "B", "question_type": "multi-choice"} | fields)


def vision_only(**fields: Any) -> dict[str, Any]:
    return row(**{"problem_version": "Vision Only", "question": ""} | fields)


@pytest.mark.parametrize("style", STYLES)
def test_prompts_are_as_recorded(style: str) -> None:
    rows = [row(), choice_row(), vision_only(), vision_only(question_type="multi-choice", answer="B")]
    check_golden(f"mathverse.{style}", [doc_to_text(doc, {"prompt_style": style}) for doc in rows])


def test_every_version_but_text_only_has_one_picture() -> None:
    (image,) = doc_to_visual(row())
    assert (image.mode, image.size) == ("RGB", (8, 6))
    text_only = row(problem_version="Text Only", image=None)
    assert (needed_pictures(text_only), doc_to_visual(text_only)) == ([], [])
    with pytest.raises(ValueError, match="9001 has no picture"):
        doc_to_visual(row(image=None))


@pytest.mark.parametrize(
    ("doc", "answer", "correct", "official"),
    [
        (row(), "12.5", True, True),
        (row(), "12.50", True, False),
        (row(), "12.4", False, False),
        (choice_row(), "B", True, True),
        (choice_row(), "(B)", True, False),
        (choice_row(), "55°", True, False),
        (choice_row(), "C", False, False),
        (choice_row(answer="(B)"), "B", True, False),
        (choice_row(answer="55°"), "B", True, False),
        (vision_only(answer="D"), "(D)", True, False),
        (vision_only(answer="D"), "D. 110°", True, False),
        (vision_only(answer="D"), "110°", False, False),
        (vision_only(answer="D", question_for_eval=choice_row()["question"]), "110°", True, False),
        (choice_row(question="Choose 2 answers:", answer="C\nE"), "C and E", True, False),
        (choice_row(question="Choose 2 answers:", answer="C\nE"), "(E), (C)", True, False),
        (choice_row(question="Choose 2 answers:", answer="C\nE"), "C\nE", True, True),
        (choice_row(question="Choose 2 answers:", answer="C\nE"), "C", False, False),
        (choice_row(question="Choose 2 answers:", answer="C\nE"), "C, D, E", False, False),
        (row(answer="-4.9\n-4.9"), "-4.9", True, False),
    ],
)
def test_both_verdicts(doc: dict[str, Any], answer: str, correct: bool, official: bool) -> None:
    judgement = judge(doc, f"<think>A, B, C: let me see</think><answer>{answer}</answer>")
    assert (judgement.state, judgement.correct, judgement.official) == ("scored", correct, official)


@pytest.mark.parametrize("doc", [row(), choice_row(), vision_only(answer="C\nE")])
def test_no_answer_is_never_right(doc: dict[str, Any]) -> None:
    for response, state in (("<think>it is", "truncated"), (REMARK, "unparsed"), ("", "unparsed")):
        judgement = judge(doc, response)
        assert (judgement.state, judgement.correct, judgement.official) == (state, False, False)


def test_accuracy_by_subject_and_subfield() -> None:
    shown_in_browser = row(metadata={"subjects": "Functions", "subfields": "Functions Property"})
    assert share_values(parts([row(), row(), shown_in_browser]), [True, False, True]) == {
        "subject/Functions": 1.0,
        "subject/Solid Geometry": 0.5,
        "subfield/Functions Property": 1.0,
        "subfield/Length": 0.5,
    }


def test_the_six_versions_are_tasks_of_one_folder() -> None:
    tasks = find_tasks(["mathverse"])
    assert len(tasks) == 6
    assert {task.data for task in tasks} == {"mathverse"}
    versions = {str(task.where["problem_version"]): task.name for task in tasks}
    assert versions["Vision Only"] == "mathverse_vo"
    assert {version: "".join(word[0] for word in version.split()).lower() for version in versions} == {
        version: name.removeprefix("mathverse_") for version, name in versions.items()
    }
    assert catalog()["mathverse_to"].images == []


def test_a_letter_is_judged_as_by_the_shared_grader() -> None:
    response = "The answer is (B)."
    assert judge(vision_only(answer="B"), response).correct is judge_answer(response, answer="B", kind="choice").correct

"""MathVision's prompts, its published rule and its judgement on invented rows of the published schema."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from avar_eval.answers.workers import WORKERS, WorkLimitError
from avar_eval.tasks.catalog import find_tasks
from avar_eval.tasks.files import read_rows
from avar_eval.tasks.mathvision.hub import with_pictures
from avar_eval.tasks.mathvision.official import is_equal, official_answer, official_correct
from avar_eval.tasks.mathvision.task import doc_to_target, doc_to_text, doc_to_visual, judge, parts
from avar_eval.tasks.prompts import STYLES
from avar_eval.tasks.shares import share_values

GOLDEN = Path(__file__).parents[1] / "golden" / "mathvision.json"
LETTERS = ["A", "B", "C", "D", "E"]


def row(**fields: Any) -> dict[str, Any]:
    """A free-form row; `fields` replace its own."""
    return {
        "id": "9001",
        "question": "How many jars are taller than the lamp?\n<image1>",
        "options": [],
        "image": Image.new("P", (8, 6)),
        "answer": "7",
        "solution": None,
        "level": 3,
        "subject": "counting",
        **fields,
    }


ROOTS = ["$\\sqrt{2}$", "$2 \\sqrt{3}$", "$\\sqrt{5}$", "$4$", "$4 \\mathrm{~cm}$"]
ROWS = {
    "free-form": row(),
    "options": row(question="How tall is the lamp?\n<image1>", options=ROOTS, answer="B"),
    "options in the picture": row(question="Which jar fits?\n<image1>", options=LETTERS, answer="D"),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ROWS)
def test_prompt_is_the_golden_one(name: str, style: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert doc_to_text(ROWS[name], {"prompt_style": style}) == golden[name][style]


def test_thinking_is_the_default_style() -> None:
    assert doc_to_text(row()) == doc_to_text(row(), {"prompt_style": "thinking"})


def test_picture_and_target() -> None:
    (image,) = doc_to_visual(row())
    assert (image.mode, image.size) == ("RGB", (8, 6))
    with pytest.raises(ValueError, match="no picture"):
        doc_to_visual(row(image="images/9001.jpg"))
    assert doc_to_target(row()) == "7"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("I think it is C.", "c"),
        ("(B)\nbecause it fits", "b"),
        ("D\nis larger", "d"),
        ("The height is 12.5.", "12.5"),
        ("So the answer is 7. We are done", "7"),
        ("The final answer is\n8", "8"),
        ("\\boxed{3} or rather \\boxed{x = 5}", "5"),
        ("It follows that \\boxed{\\text{(E)}}", "e"),
        ("\\boxed{40^{\\circ}}", "40"),
        ("\\boxed{\\dfrac12\\sqrt3}", "\\frac{1}{2}\\sqrt{3}"),
        ("1/2", "\\frac{1}{2}"),
        ("0.5", "\\frac{1}{2}"),
        ("2/0x", "2/0x"),
        ("<think>hm</think><answer>7</answer>", "<think>hm</think><answer>7</answer>"),
        ("", ""),
    ],
)
def test_the_published_rule_reads(response: str, answer: str) -> None:
    assert official_answer(response) == answer


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("7", "7", True),
        ("7", "7.004", True),
        ("7", "7.006", False),
        ("$2 \\sqrt{3}$", "\\sqrt{12}", True),
        ("$2 \\sqrt{3}$", "3.46", True),
        ("(3,-4)", "(3.0,-4)", True),
        ("(3,-4)", "(3,-5)", False),
        ("(3,a)", "(6/2,a)", False),
        ("(6/2,a)", "(9/3,a)", True),
        ("1:2", "\\frac{1}{2}", True),
        ("35^2", "1225", True),
        ("5", "5.weknow", True),
        ("5", "5}x", True),
        ("2", "2triangles", True),
        ("5", "5cm", False),
        ("5", "5crates", False),
        ("$4$", "4", True),
        ("$4\\mathrm{~cm}$", "4", False),
        ("B", "b", True),
        ("E", "2.718281828", False),
        ("", "7", False),
        ("7", " ", False),
        ("x = 5", "5", True),
        ("3b = 5", "5", False),
        ("5", "9^{9^{9^{9}}}", False),
        ("5", "__import__('os').getpid()", False),
        ("\\frac{1}{60}", "0.02", True),
    ],
)
def test_the_published_rule_compares(gold: str, answer: str, same: bool) -> None:
    assert is_equal(gold, answer) == same


def test_an_option_counts_by_letter_and_by_value() -> None:
    assert official_correct("\\boxed{B}", "B", ROOTS)
    assert official_correct("\\boxed{3.464}", "B", ROOTS)
    assert not official_correct("\\boxed{D}", "B", ROOTS)


@pytest.mark.parametrize(
    ("doc", "response", "state", "strict", "official"),
    [
        (row(), "<think>one by one</think><answer>7</answer>", "scored", True, False),
        (row(), "<think>one by one</think>The answer is 7", "scored", True, True),
        (row(), "\\boxed{7.0}", "scored", True, True),
        (row(), "<think>one by one, 7", "truncated", False, False),
        (row(), "7 triangles", "scored", True, True),
        (ROWS["options"], "<answer>B</answer>", "scored", True, False),
        (ROWS["options"], "\\boxed{\\sqrt{12}}", "scored", True, True),
        (ROWS["options"], "\\boxed{D}", "scored", False, False),
        (ROWS["options in the picture"], "(D) the round one", "scored", True, False),
        (ROWS["options in the picture"], "It must be D.", "scored", True, True),
    ],
)
def test_judgement(doc: dict[str, Any], response: str, state: str, strict: bool, official: bool) -> None:
    judgement = judge(doc, response)
    assert (judgement.state, judgement.correct, judgement.official) == (state, strict, official)


def test_what_the_published_rule_cannot_finish_has_no_official_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def pass_limit(*_: object) -> None:
        raise WorkLimitError

    monkeypatch.setattr(WORKERS, "ask", pass_limit)
    assert judge(row(), "\\boxed{-(2^{8^{9}})}").official is None


def test_metrics_by_level_and_subject() -> None:
    rows = [row(level=1), row(level=3), row(level=3, subject="algebra")]
    found = share_values(parts(rows), [True, False, True])
    both = {"level 1, counting": 1.0, "level 3, algebra": 1.0, "level 3, counting": 0.0}
    assert found == {"level 1": 1.0, "level 3": 0.5, "algebra": 1.0, "counting": 0.5} | both
    assert list(found) == ["level 1", "level 3", "algebra", "counting", *both]


def test_testmini_has_a_folder_of_its_own(tmp_path: Path) -> None:
    (entry,) = find_tasks(["mathvision_testmini"])
    folder = tmp_path / "mathvision" / "testmini"
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text(json.dumps(row(image="images/1.jpg")) + "\n")
    assert [doc["id"] for doc in read_rows(entry, tmp_path)] == ["9001"]
    assert [entry.name for entry in find_tasks(["math_vision", "math-v"])] == ["mathvision"]


def test_the_hubs_picture_column_takes_the_paths_place() -> None:
    import datasets

    rows = datasets.Dataset.from_list([{"id": "1", "image": "images/1.jpg", "decoded_image": "picture"}])
    assert with_pictures(rows)[0] == {"id": "1", "image": "picture"}

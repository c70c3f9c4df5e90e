"""Options read from a question's text."""

import pytest

from avar_eval.tasks.choices import choices_in


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which? choice: (A) red (B) dark green ", ["red", "dark green"]),
        ("Which?\nChoices:\nA:40°\nB:60°\nC:(x-1)/2", ["40°", "60°", "(x-1)/2"]),
        ("Which?\nA. Group 1\nB. Group 2\n", ["Group 1", "Group 2"]),
        ("Which?\nChoices:\nA: one\nline\nB: two", ["one\nline", "two"]),
        ("Which figure? (A) (B) (C)", []),
        ("How far is point (B) from (A)?", []),
        ("Which? (A) 1 (C) 2", []),
        ("How many?", []),
        ("", []),
    ],
)
def test_choices_in_a_question(question: str, expected: list[str]) -> None:
    assert choices_in(question) == expected

"""The tables of cases: what each response is judged to say, and why."""

import json
from pathlib import Path
from typing import Any

import pytest

from avar_eval.answers import GRADER, judge_answer

TABLES = sorted((Path(__file__).parent / "cases").glob("*.json"))
CASES = [
    pytest.param(case, id=f"{table.stem}-{number}: {case['why']}")
    for table in TABLES
    for number, case in enumerate(json.loads(table.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any]) -> None:
    judgement = judge_answer(
        case["response"],
        answer=case["answer"],
        kind=case["kind"],
        choices=case.get("choices", ()),
        precision=case.get("precision"),
        finish_reason=case.get("finish_reason"),
    )
    assert (judgement.state, judgement.extracted, judgement.correct) == (case["state"], case["text"], case["correct"])
    assert judgement.reason == case.get("reason")
    assert judgement.grader == GRADER


def test_a_correct_case_stays_correct_in_tags_after_thought() -> None:
    """What a bare reply is credited for, a reasoning model is too."""
    for parameters in CASES:
        case = parameters.values[0]
        if "<" in case["response"] or not case["correct"] or "\n" in case["response"]:
            continue
        response = f"<think>Let me see: A, B, 1, 2.</think>\n<answer>{case['response']}</answer>"
        judgement = judge_answer(
            response,
            answer=case["answer"],
            kind=case["kind"],
            choices=case.get("choices", ()),
            precision=case.get("precision"),
            finish_reason="stop",
        )
        assert judgement.correct, case["why"]

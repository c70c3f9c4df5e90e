"""No response crashes, hangs or runs anything, whatever a model writes."""

import json
import time
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avar_eval.answers import Judgement, Kind, judge_answer

KINDS = get_args(Kind)
GOLDS = {"choice": "4 cm", "integer": "4", "float": "4.5", "list": "[1, 2]", "text": "blue", "expression": r"2\sqrt{3}"}
CHOICES = ("3 cm", "4 cm", "blue", "Yes")
SECONDS = 1.0

MARKS = "<think> </think> <answer> </answer> \\boxed{ { } \\frac{ \\text{ $ ** Answer: (A) B. 4 , . = - / 10^ ° [ ] ( )"
WORDS = (
    "answer is",
    "option C",
    "Yes,",
    " not ",
    "\n",
    " ",
    "\x00",
    "\ud800",
    "9" * 300,
    "١",
    "²",
    "½",
    "\u2028",
    "答案是",
)
PIECES = st.one_of(st.sampled_from((*MARKS.split(" "), *WORDS)), st.text(max_size=8), st.characters())
RESPONSES = st.lists(PIECES, max_size=40).map("".join)

MARK_BOMBS = "9 9, 1,234 9. - [1, = < 10^10^ ^{\\circ \\$ \\text{ \\frac{1}{ \\boxed{ { } ** <answer> <think> </think>"
WORD_BOMBS = ("(A) ", "A, ", "B\n", "answer is ", "answer: st. ", "Yes,\n", "no ", "therefore (B)\n", "a" * 10)
SPACE_BOMBS = (" ", "\t", "\n", "\u3000", "\x00", "\ud800")
BOMBS = (*MARK_BOMBS.split(" "), *WORD_BOMBS, *SPACE_BOMBS)


def judged(response: str, kind: Kind) -> Judgement:
    start = time.thread_time()
    judgement = judge_answer(
        response, answer=GOLDS[kind], kind=kind, choices=CHOICES if kind == "choice" else (), precision=1
    )
    assert time.thread_time() - start < SECONDS
    json.dumps(judgement.to_json(), ensure_ascii=False).encode("utf-8")
    return judgement


@settings(max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RESPONSES, st.sampled_from(KINDS))
def test_any_response_is_judged(response: str, kind: Kind) -> None:
    judged(response, kind)


@settings(max_examples=300, deadline=None)
@given(RESPONSES, st.sampled_from(KINDS))
def test_nothing_inside_an_unclosed_thought_is_credited(thought: str, kind: Kind) -> None:
    thought = thought.replace("</think>", "").replace("<think>", "")
    assert judged(f"<think>{thought} and", kind).state == "truncated"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bomb", BOMBS, ids=ascii)
def test_a_hundred_kilobytes_of_anything_take_linear_time(bomb: str, kind: Kind) -> None:
    body = bomb * (100_000 // len(bomb))
    for response in (body, f"<answer>{body}</answer>", f"The answer is {body}", body + "4"):
        judged(response, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bomb", BOMBS, ids=ascii)
def test_the_longest_text_that_is_read_takes_little_time(bomb: str, kind: Kind) -> None:
    body = bomb * (1_900 // len(bomb))
    for response in (f"<answer>{body}</answer>", f"<answer>{body}x</answer>", f"<answer>x = {body}</answer>"):
        judged(response, kind)


def test_a_number_of_three_hundred_digits_is_compared_exactly() -> None:
    digits = "7" * 300
    assert judge_answer(f"<answer>{digits}</answer>", answer=digits, kind="integer").correct
    assert not judge_answer(f"<answer>{digits[:-1]}8</answer>", answer=digits, kind="integer").correct

"""One response judged against its row's answer: extraction, then equality by kind. Evaluation and reward share it."""

from collections.abc import Sequence
from typing import Final, Literal, assert_never

from avar_eval.answers.equal import float_equal, integer_equal, list_equal, option_equal, read_list, text_equal
from avar_eval.answers.expression import expression_equal, expression_option
from avar_eval.answers.extract import Extraction, FinishReason, final_answer
from avar_eval.answers.judgement import Judgement
from avar_eval.answers.markup import plain
from avar_eval.answers.notation import canonical, is_expression
from avar_eval.answers.options import letter_alone, named_option
from avar_eval.answers.quantity import stated_quantity
from avar_eval.answers.workers import WorkLimitError

GRADER: Final = "strict-5"
"""Name and version of the rule. A change that can change any judgement changes the version."""

Kind = Literal["choice", "integer", "float", "list", "text", "expression"]

_REPLY_WORDS: Final = 5


def judge_answer(
    response: str,
    *,
    answer: str,
    kind: Kind,
    choices: Sequence[str] = (),
    precision: int | None = None,
    finish_reason: FinishReason | None = None,
) -> Judgement:
    """Judge a response strictly: nothing is credited that the response does not unambiguously say.

    answer: the row's answer; of kind "choice" an option's text or letter.
    choices: the options' texts in the order of their letters.
    precision: of kinds "float" and "expression", the decimals to which both numbers are rounded.
    finish_reason: see `final_answer`.

    A comparison that takes more time or memory than it may is a judgement of state "timeout".

    Raises ValueError if `answer` is not of its kind: the row is at fault, not the response.
    """
    extraction = final_answer(response, choices=choices if kind == "choice" else (), finish_reason=finish_reason)
    try:
        if extraction.text is None or _is_mere_remark(extraction, kind, choices):
            state = "unparsed" if extraction.state == "scored" else extraction.state
            return Judgement(state=state, extracted=None, correct=False, grader=GRADER)
        correct = _equal(extraction.text, answer, kind, choices, precision)
    except WorkLimitError:
        return Judgement(state="timeout", extracted=extraction.text, correct=False, grader=GRADER)
    return Judgement(state="scored", extracted=extraction.text, correct=correct, grader=GRADER)


def _equal(text: str, answer: str, kind: Kind, choices: Sequence[str], precision: int | None) -> bool:
    match kind:
        case "choice":
            return option_equal(text, answer, choices)
        case "integer":
            return integer_equal(text, answer)
        case "float":
            return float_equal(text, answer, precision=precision)
        case "list":
            return list_equal(text, answer)
        case "text":
            return text_equal(text, answer)
        case "expression":
            return expression_equal(text, answer, precision=precision)
    assert_never(kind)


def _is_mere_remark(extraction: Extraction, kind: Kind, choices: Sequence[str]) -> bool:
    """Whether a one-line reply without any tag or phrase is no answer of its kind ("Sorry, I cannot see images")."""
    if extraction.evidence != "whole" or extraction.text is None:
        return False
    text = extraction.text
    match kind:
        case "choice":
            if not choices:
                return letter_alone(text, "ABCDEFGHIJ") is None
            return named_option(text, choices) is None and expression_option(text, choices) is None
        case "integer" | "float":
            return stated_quantity(text) is None
        case "list":
            return read_list(text) is None
        case "text":
            return len(plain(text).split()) > _REPLY_WORDS
        case "expression":
            return stated_quantity(text) is None and not is_expression(canonical(text))
    assert_never(kind)

"""One response judged against its row's answer: extraction, then equality by kind. Evaluation and reward share it."""

import re
from collections.abc import Sequence
from typing import Final, Literal, assert_never

from avar_eval.answers.equal import float_equal, integer_equal, list_equal, option_equal, text_equal
from avar_eval.answers.expression import expression_equal, expression_option
from avar_eval.answers.extract import Extraction, FinishReason, Wanted, final_answer, reads_as
from avar_eval.answers.judgement import Judgement, Reason, State
from avar_eval.answers.markup import plain
from avar_eval.answers.options import named_option
from avar_eval.answers.statements import is_statement, yes_or_no
from avar_eval.answers.visible import visible_text
from avar_eval.answers.workers import WorkLimitError

GRADER: Final = "strict-5"
"""Name and version of the rule. A change that can change any judgement changes the version."""

Kind = Literal["choice", "integer", "float", "list", "text", "expression"]

# Two words or more, none of which is a lone letter: those may be names, and R is not r.
_PROSE: Final = re.compile(r"[^\W\d_]{2,}(?:[ '’-][^\W\d_]{2,})+")
_YES_NO: Final = frozenset({"yes", "no", "true", "false"})


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

    A yes/no question that is answered by a statement ("Bar A is the taller one.") is unparsed, for the reason
    "statement": only a judge can tell which of the two it means.

    A comparison that takes more time or memory than it may is a judgement of state "timeout".

    Raises ValueError if `answer` is not of its kind: the row is at fault, not the response.
    """
    choices = choices if kind == "choice" else ()
    wanted = _wanted(kind, answer)
    extraction = final_answer(response, choices=choices, wanted=wanted, finish_reason=finish_reason)
    try:
        if extraction.text is None or _is_mere_remark(extraction, wanted, choices):
            if kind != "choice" and extraction.state != "truncated" and _is_gold_itself(response, answer):
                return Judgement(state="scored", extracted=response.strip(), correct=True, grader=GRADER)
            state = "unparsed" if extraction.state == "scored" else extraction.state
            said = visible_text(response, cut=False) if state == "unparsed" else None
            return _without_answer(state, said or "", wanted, choices)
        correct = _equal(extraction.text, answer, kind, choices, precision)
        if not correct and kind != "choice":
            correct = _is_gold_itself(extraction.text, answer)
    except WorkLimitError:
        return Judgement(state="timeout", extracted=extraction.text, correct=False, grader=GRADER)
    if not correct and not _answers_yes_or_no(extraction.text, choices):
        judgement = _without_answer("unparsed", extraction.text, wanted, choices)
        if judgement.reason is not None:
            return judgement
    return Judgement(state="scored", extracted=extraction.text, correct=correct, grader=GRADER)


def _without_answer(state: State, said: str, wanted: Wanted, choices: Sequence[str]) -> Judgement:
    """The judgement of what holds no answer; a statement that leaves yes or no to be inferred needs a judge."""
    asked = wanted == "yes_no" or (choices and {plain(choice).casefold() for choice in choices} <= _YES_NO)
    inferred = state == "unparsed" and asked and is_statement(said) and yes_or_no(said) is None
    reason: Reason | None = "statement" if inferred else None
    return Judgement(state=state, extracted=None, correct=False, grader=GRADER, reason=reason)


def _answers_yes_or_no(text: str, choices: Sequence[str]) -> bool:
    return yes_or_no(text) is not None or (bool(choices) and named_option(text, choices) is not None)


def _is_gold_itself(text: str, answer: str) -> bool:
    """Whether a text is the gold to the letter: prose, too, is right then, and its capitals are of no account."""
    found, wanted = plain(text), plain(answer)
    prose = _PROSE.fullmatch(wanted) is not None
    return bool(wanted) and (found == wanted or (prose and found.casefold() == wanted.casefold()))


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


def _wanted(kind: Kind, answer: str) -> Wanted:
    match kind:
        case "integer" | "float":
            return "number"
        case "text":
            return "yes_no" if answer.strip().casefold() in ("yes", "no") else "text"
        case "choice" | "list" | "expression":
            return kind
    assert_never(kind)


def _is_mere_remark(extraction: Extraction, wanted: Wanted, choices: Sequence[str]) -> bool:
    """Whether a one-line reply without any tag or phrase is no answer of its kind ("Sorry, I cannot see images")."""
    if extraction.evidence != "whole" or extraction.text is None or reads_as(extraction.text, wanted, choices):
        return False
    return wanted != "choice" or expression_option(extraction.text, choices) is None

"""MathVista: how a row becomes a prompt, and how a response is judged."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, Kind, judge_answer
from avar_eval.answers.extract import is_short_reply
from avar_eval.answers.options import LETTERS, named_option
from avar_eval.answers.quantity import stated_quantity
from avar_eval.tasks.mathvista.official import official_verdict
from avar_eval.tasks.prompts import ask, lettered, style_of, templated
from avar_eval.tasks.shares import Parts, by_category
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

_FREE_FORM_KINDS: Final[dict[str, Kind]] = {"integer": "integer", "float": "float", "list": "list", "text": "text"}


@templated(lambda row: {"options": lettered(row["choices"] or ())})
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn. In direct style it is the dataset's own `query`: hint, question with unit, "(A) …" lines.

    In the styles with an instruction the hint comes after the question and loses its ", at the end": where the answer
    goes, the instruction says. Without one it is the `query` too.
    """
    style = style_of(settings)
    if style in ("direct", "none"):
        return str(row["query"])
    hint, newline, question = row["query"].partition("\n")
    if not newline or not hint.startswith("Hint: "):
        raise ValueError(f"MathVista row {row['pid']}: `query` does not begin with a line 'Hint: …'")
    return ask([question, hint.replace(", at the end.", ".")], style)


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB."""
    return [rgb_picture(row["image"], f"MathVista row {row['pid']} has no picture")]


def doc_to_target(row: Row) -> str:
    """The gold answer as the dataset writes it; for multiple choice the option's text, not its letter."""
    return str(row["answer"])


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a response by the row's question type, answer type, choices and precision.

    `official` is the published normalisation of what our extraction found: published extractions are a language
    model's, which writes the option or number alone. A reply of one short line in which ours found nothing is taken as
    it is, so that a published extraction, given as a response, gets the published verdict.
    """
    precision = row["precision"]
    judgement = judge_answer(
        response,
        answer=doc_to_target(row),
        kind=_kind(row),
        choices=row["choices"] or (),
        precision=None if precision is None else int(precision),
        finish_reason=finish_reason,
    )
    extraction = _normalised_answer(row, judgement.extracted)
    if judgement.state == "unparsed" and is_short_reply(response):
        extraction = response
    return replace(judgement, official=official_verdict(row, extraction))


def parts(rows: Sequence[Row]) -> Parts:
    """Tasks and skills (a row has one task and one or more skills), as calculate_score.py prints them."""
    tasks = by_category([[row["metadata"]["task"]] for row in rows], "task/")
    return tasks | by_category([row["metadata"]["skills"] for row in rows], "skill/")


def _normalised_answer(row: Row, extracted: str | None) -> str | None:
    """The letter of the option that an answer names or the number that it states; without one, the answer as it is."""
    if extracted is None or len(extracted) <= len("(A)"):  # a letter is read by the rule itself
        return extracted
    if row["question_type"] == "multi_choice":
        option = named_option(extracted, row["choices"])
        return extracted if option is None else LETTERS[option]
    stated = stated_quantity(extracted) if row["answer_type"] in ("integer", "float") else None
    return extracted if stated is None else str(Decimal(stated.value.numerator) / Decimal(stated.value.denominator))


def _kind(row: Row) -> Kind:
    if row["question_type"] == "multi_choice":
        return "choice"
    return _FREE_FORM_KINDS[row["answer_type"]]
